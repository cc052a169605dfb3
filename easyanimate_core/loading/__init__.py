"""Where files and networks meet."""
