"""Matrix products with an epilogue: bias, activation, residual."""
