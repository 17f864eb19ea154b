"""Settings that only make sense on one side of zero, refused when they are made."""

from typing import Any


def require_positive(config: Any, *fields: str) -> None:
    """Raise `ValueError` naming the first of `fields` that is not above 0."""
    for field in fields:
        if not getattr(config, field) > 0:
            raise ValueError(f"{field}={getattr(config, field)} is not positive")


def require_not_negative(config: Any, *fields: str) -> None:
    """Raise `ValueError` naming the first of `fields` that is below 0."""
    for field in fields:
        if not getattr(config, field) >= 0:
            raise ValueError(f"{field}={getattr(config, field)} is negative")


def require_shares(config: Any, *fields: str) -> None:
    """Raise `ValueError` naming the first of `fields` that is not in 0 to 1, 1 itself left out."""
    for field in fields:
        if not 0 <= getattr(config, field) < 1:
            raise ValueError(f"{field}={getattr(config, field)} is not from 0 to below 1")
