"""Compiled for hardware that is not needed: Triton kernels for GPUs, programs for TPUs."""
