"""What is written in Triton; imported only where a GPU runs it."""
