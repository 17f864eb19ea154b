"""The training loop and what it needs: ranks, clock, checkpoints, compile warm-up."""
