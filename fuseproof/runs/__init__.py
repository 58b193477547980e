"""What a run leaves on disk, and the statistics of what is in it."""
