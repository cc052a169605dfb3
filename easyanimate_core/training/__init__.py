"""Training: one trainer, one strategy per task. Inference imports nothing of it."""
