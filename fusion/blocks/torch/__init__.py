"""Network blocks in PyTorch, from library calls: `function(parameters, *inputs, **options)`."""
