"""The operators as each framework writes them, under the same names."""
