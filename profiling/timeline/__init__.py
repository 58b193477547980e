"""The timeline: the one model that every reader fills and everything else reads."""
