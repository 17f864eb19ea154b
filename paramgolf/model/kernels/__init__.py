"""Fused kernels, each beside its plain twin."""
