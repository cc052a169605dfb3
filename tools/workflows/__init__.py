"""Generates the ready-made workflows: `python -m tools.workflows --help`."""
