"""What each task trains and how."""
