"""Camera paths and tracks of points: moves, keyframes, files, and pictures of them."""
