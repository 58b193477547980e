"""One folder for each operator, or for operators that share their kernels."""
