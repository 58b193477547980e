"""Network blocks in each framework, one a file, with the same function names in each."""
