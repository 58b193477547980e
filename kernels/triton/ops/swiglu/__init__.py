"""SwiGLU: silu of the gate times the other product, between the matmuls of PyTorch."""
