"""Files of every kind that the project reads and writes: whole or not at all, checked, never trusted."""
