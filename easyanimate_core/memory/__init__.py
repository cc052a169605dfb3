"""Devices, what a card can do, the plan for its memory, and weights that rest elsewhere."""
