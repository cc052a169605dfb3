"""Trains, assembles and evaluates the small model."""
