"""What to do when the same content is already in flight for the same workflow and tenant."""

from __future__ import annotations

from enum import StrEnum


class Duplicates(StrEnum):
    """The choices of a workflow's ``duplicates:`` setting."""

    ALLOW = "allow"
    """Two runs."""
    COLLAPSE = "collapse"
    """Both callers get the same run."""
    REJECT = "reject"
    """The later one is refused."""
