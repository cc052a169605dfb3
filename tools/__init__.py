"""Developer's tools: what `dev.py` starts with the Python of the development environment."""
