"""What to run, where, and how it is tracked."""
