"""How each task is trained."""
