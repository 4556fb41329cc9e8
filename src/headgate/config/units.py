"""How people write numbers: ``30s``, ``2M/min``, ``15%``, ``8GiB``, ``1..16``.

Each type is an annotated Python value; reading is strict, and a mistake's message shows an example.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field

_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_WINDOWS = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
}
_COUNTS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_SIZES = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


class Rate(NamedTuple):
    """So much per window."""

    amount: float
    window_s: float


class Concurrency(NamedTuple):
    """The least and the most calls in flight; equal means fixed."""

    least: int
    most: int

    @property
    def fixed(self) -> bool:
        return self.least == self.most


def parse_duration(value: Any) -> float:
    """Seconds from ``30s``, ``250ms``, ``1m30s``, ``2h``, ``7d``. A bare number is refused: its unit is unknown."""
    if isinstance(value, float):
        return value  # defaults written in Python are in seconds already
    if (
        isinstance(value, str)
        and (parts := re.findall(r"(\d+(?:\.\d+)?)(ms|min|s|m|h|d)", value.replace(" ", "")))
        and "".join(number + unit for number, unit in parts) == value.replace(" ", "")
    ):
        return sum(float(number) * _DURATIONS[unit] for number, unit in parts)
    raise ValueError(f"{value!r} is not a duration; write for example 30s, 250ms, 10m, 4h")


def parse_amount(value: Any) -> float:
    """A count such as ``50k``, ``2M`` or ``1500``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and (match := re.fullmatch(r"(\d[\d_]*(?:\.\d+)?)\s*([kKMG]?)", value.strip())):
        return float(match[1].replace("_", "")) * _COUNTS[match[2]]
    raise ValueError(f"{value!r} is not an amount; write for example 1500, 50k, 2M")


def parse_rate(value: Any) -> Rate:
    """``5000/h``, ``2M/min``, ``10/s``."""
    if isinstance(value, Rate):
        return value
    if isinstance(value, str) and value.count("/") == 1:
        amount, window = (part.strip() for part in value.split("/"))
        if window in _WINDOWS:
            rate = Rate(parse_amount(amount), _WINDOWS[window])
            if rate.amount <= 0:
                raise ValueError(f"{value!r}: zero is never an off-switch; leave the limit out to have none")
            return rate
    raise ValueError(f"{value!r} is not a rate; write for example 10/s, 400k/min, 5000/h")


def parse_share(value: Any) -> float:
    """``15%`` or ``0.15``, more than 0 and at most 100 %."""
    share: float | None = None
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", value.strip())):
        share = float(match[1]) / 100
    elif isinstance(value, float):
        share = value
    if share is None or not 0 < share <= 1:
        raise ValueError(f"{value!r} is not a share between 0 and 100 %; write for example 15%")
    return share


def parse_size(value: Any) -> int:
    """Bytes from ``8GiB``, ``64MB``, ``1024``."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif (
        isinstance(value, str)
        and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMGT]?i?B?)", value.strip()))
        and match[2] in _SIZES
    ):
        size = int(float(match[1]) * _SIZES[match[2]])
    else:
        raise ValueError(f"{value!r} is not a size; write for example 512KiB, 64MiB, 8GiB")
    if size <= 0:
        raise ValueError(f"{value!r}: zero is never an off-switch; leave the limit out to have none")
    return size


def parse_concurrency(value: Any) -> Concurrency:
    """``8`` or ``1..16``."""
    if isinstance(value, Concurrency):
        return value
    least = most = 0
    if isinstance(value, int) and not isinstance(value, bool):
        least = most = value
    elif isinstance(value, str) and (match := re.fullmatch(r"(\d+)\s*\.\.\s*(\d+)", value.strip())):
        least, most = int(match[1]), int(match[2])
    if not 1 <= least <= most <= 100_000:
        raise ValueError(f"{value!r} is not a concurrency; write a number from 1, or a range such as 1..16")
    return Concurrency(least, most)


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=366 * 86400)]
Amount = Annotated[float, BeforeValidator(parse_amount), Field(gt=0)]
Share = Annotated[float, BeforeValidator(parse_share)]
Size = Annotated[int, BeforeValidator(parse_size)]
"""Bytes."""
RateField = Annotated[Rate, BeforeValidator(parse_rate)]
"""A `Rate` in settings."""
ConcurrencyField = Annotated[Concurrency, BeforeValidator(parse_concurrency)]
"""A `Concurrency` in settings."""
