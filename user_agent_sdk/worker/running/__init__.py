"""One task, one result: the user's function, a guest."""
