"""Measuring: what is selected, whether it is right, in which order it takes turns, in which processes."""
