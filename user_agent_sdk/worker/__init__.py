"""Running the functions: how tasks are taken, executed, kept alive and reported."""
