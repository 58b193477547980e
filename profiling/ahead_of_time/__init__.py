"""Compiling for hardware that you do not have: Triton kernels for GPUs, programs for TPUs."""
