"""Two dates: whether they can be compared, how far they miss each other, and where they differ."""
