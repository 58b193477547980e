"""Layer norm and RMS norm, which share their kernels."""
