"""Pictures and videos: reading, aligning and writing."""
