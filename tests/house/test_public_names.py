"""The public surface is small, and changes only on purpose."""

from __future__ import annotations

import headgate

from .public_names import SNAPSHOT, surface


def test_every_public_name_exists_once() -> None:
    assert [name for name in headgate.__all__ if not hasattr(headgate, name)] == []
    assert len(set(headgate.__all__)) == len(headgate.__all__)


def test_the_surface_is_small() -> None:
    assert 1 <= len(headgate.__all__) <= 30


def test_the_surface_is_as_recorded() -> None:
    recorded = SNAPSHOT.read_text(encoding="utf-8")
    assert surface() == recorded, "if this is wanted: .venv/bin/python tests/house/public_names.py"
