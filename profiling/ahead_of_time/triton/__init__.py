"""Triton kernels compiled for NVIDIA GPUs, against a budget."""
