"""What was run: recorded beside the worker, read, shown and exported by the command line."""
