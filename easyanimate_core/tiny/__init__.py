"""Tiny checkpoints of random weights, for tests and first tries."""
