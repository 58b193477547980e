"""Measuring: the plan of a run, the checks before it, the order of legs, and the processes that time them."""
