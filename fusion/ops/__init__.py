"""The operators as a user of each framework writes them, under the same names."""
