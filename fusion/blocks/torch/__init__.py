"""Network blocks in PyTorch, from library calls: `function(*activations, parameters, **options)`."""
