"""The laboratory around runs: start them, look at them, say beforehand what they will cost."""
