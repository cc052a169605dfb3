"""Developer tools, which `dev.py` runs with the Python of the development environment."""
