"""Attention: online softmax forward, recomputing backward."""
