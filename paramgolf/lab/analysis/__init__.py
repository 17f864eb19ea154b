"""The export workbench: what changes of the export do to bytes and score, on one trained checkpoint."""
