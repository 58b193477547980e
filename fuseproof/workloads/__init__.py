"""What is computed: operators, with their inputs and their float64 reference."""
