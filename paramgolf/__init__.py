"""paramgolf: the laboratory for Parameter Golf."""

__version__ = "0.1.0"
