"""Weights on disk and in networks: reading, quantizing, loading, LoRAs."""
