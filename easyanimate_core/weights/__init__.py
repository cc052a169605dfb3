"""Weights on disk and in networks: reading, fewer bits, loading, LoRAs."""
