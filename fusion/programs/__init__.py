"""The program that a compiler made of a function: HLO or Inductor's code, and the operations in it."""
