"""The world of coloured shapes, in which everything is known exactly, and its judge."""
