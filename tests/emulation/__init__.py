"""Other systems, imitated on Linux, so that what they refuse is shown here."""
