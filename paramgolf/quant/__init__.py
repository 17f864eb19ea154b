"""Weights in, stored weights out."""
