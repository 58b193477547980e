"""What timelines say: totals, and which kernels became which."""
