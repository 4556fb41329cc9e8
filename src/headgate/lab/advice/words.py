"""How a rule says what it found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """What one rule says about one setting."""

    setting: str
    text: str
    evidence: float


def percent(share: float) -> str:
    """``12 %``; one decimal below ten."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"


def seconds(value: float) -> str:
    """``30 s``, ``1.4 s``."""
    return f"{value:.3g} s"
