"""Stored weights in, bytes out."""
