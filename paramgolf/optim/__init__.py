"""Gradients in, updates out: schedules, Muon, AdamW, and which parameter gets which."""
