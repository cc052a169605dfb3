"""Training: one trainer, one strategy per task. Inference imports none of it."""
