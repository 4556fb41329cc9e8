"""What holds for every test."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from headgate.lab.virtual_time import VirtualTimeLoop

TESTS = str(Path(__file__).parent)
_sleep = asyncio.sleep


def awake(delay: float, result: Any = None) -> Any:
    """``asyncio.sleep``, except that a test may not wait by it in real time.

    On the virtual-time loop it costs nothing, and 0 is a turn of the loop; the code under test may do what it likes.
    """
    caller = sys._getframe(1).f_code.co_filename
    if delay > 0 and caller.startswith(TESTS) and not isinstance(asyncio.get_running_loop(), VirtualTimeLoop):
        raise AssertionError(f"{caller} sleeps {delay} s of real time; wait for an event or use run_virtual")
    return _sleep(delay, result)


@pytest.fixture(autouse=True)
def _no_real_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "sleep", awake)
