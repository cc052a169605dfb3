"""The state of a run: what it consists of, and files on disk that cannot run code."""
