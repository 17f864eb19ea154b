"""Ids in, logits out."""
