"""When to ask the platform for a task."""
