"""Files to plain tensors: reading, detecting, renaming and writing checkpoints."""
