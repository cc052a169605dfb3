"""The state of a run on disk: what there is to keep, and files that run no code."""
