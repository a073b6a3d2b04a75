"""A task from the poll's reply until its result is delivered."""
