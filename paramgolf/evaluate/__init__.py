"""Model and documents in, bits per byte out."""
