"""Camera paths and point tracks: moves, keyframes, files and previews."""
