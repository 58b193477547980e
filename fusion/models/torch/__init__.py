"""Models of PyTorch's own layers."""
