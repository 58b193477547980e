"""What a compiler made of a function: HLO, Inductor's code, and the operations in them."""
