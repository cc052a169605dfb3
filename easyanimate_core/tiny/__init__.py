"""Tiny checkpoints with random weights, for tests and first experiments."""
