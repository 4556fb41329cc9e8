"""How people write numbers: ``30s``, ``2M/min``, ``15%``, ``8GiB``, ``1..16``.

Each type is an annotated Python value; reading is strict, and a mistake's message shows an example.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

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
_DURATION_PART = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|min|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_AMOUNT = re.compile(r"(\d[\d_]{0,20}(?:\.\d{1,12})?)\s*([kKMG]?)")
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
_STORE = re.compile(r"sqlite:///(?!:memory:(?:\?|$))[^?#\0]*[^?#/\0](?:\?synchronous=(?:full|normal|off))?")
LONGEST_S = 366 * 86400.0
"""The longest duration in settings."""


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


class Bare(float):
    """A decimal number as somebody wrote it in a file: nothing says in which unit it is."""


def parse_duration(value: Any) -> float:
    """Seconds from ``30s``, ``250ms``, ``1m30s``, ``2h``, ``7d``; more than 0 and at most 366 days.

    A Python float is seconds already: that is how defaults are written. A bare number in a file is refused,
    because its unit would be unknown.
    """
    unitless = isinstance(value, (int, Bare)) and not isinstance(value, bool)
    if unitless:
        raise ValueError(f"{shown(value)} has no unit; write for example {value}s")
    seconds: float | None = None
    if isinstance(value, float):
        seconds = value
    elif isinstance(value, str) and _DURATION.fullmatch(text := value.replace(" ", "")):
        seconds = sum(float(number) * _DURATIONS[unit] for number, unit in _DURATION_PART.findall(text))
    if seconds is None or math.isnan(seconds):
        raise ValueError(f"{shown(value)} is not a duration; write for example 30s, 250ms, 10m, 4h")
    if seconds <= 0:
        raise ValueError(_zero(value))
    if seconds > LONGEST_S:
        raise ValueError(f"{shown(value)} is too long; the longest duration is 366d")
    return seconds


def parse_amount(value: Any) -> float:
    """A count such as ``50k``, ``2M`` or ``1500``, more than 0."""
    amount: float | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        amount = float(value)
    elif isinstance(value, str) and (match := _AMOUNT.fullmatch(value.strip())):
        amount = float(match[1].replace("_", "")) * _COUNTS[match[2]]
    if amount is None or not math.isfinite(amount) or amount < 0:
        raise ValueError(f"{shown(value)} is not an amount; write for example 1500, 50k, 2M")
    if amount == 0:
        raise ValueError(_zero(value))
    return amount


def parse_rate(value: Any) -> Rate:
    """``5000/h``, ``2M/min``, ``10/s``."""
    if isinstance(value, Rate):
        return value
    if isinstance(value, str) and value.count("/") == 1:
        amount, window = (part.strip() for part in value.split("/"))
        if window in _WINDOWS and _AMOUNT.fullmatch(amount):
            return Rate(parse_amount(amount), _WINDOWS[window])
    raise ValueError(f"{shown(value)} is not a rate; write for example 10/s, 400k/min, 5000/h")


def parse_share(value: Any) -> float:
    """``15%`` or ``0.15``, more than 0 and at most 100 %."""
    share: float | None = None
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", value.strip())):
        share = float(match[1]) / 100
    elif isinstance(value, float):
        share = float(value)
    if share is None or not 0 < share <= 1:
        raise ValueError(f"{shown(value)} is not a share above 0 and up to 100 %; write for example 15%")
    return share


def parse_size(value: Any) -> int:
    """Bytes from ``8GiB``, ``64MB``, ``1024``."""
    size: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif (
        isinstance(value, str)
        and (match := re.fullmatch(r"(\d{1,18}(?:\.\d+)?)\s*([kKMGT]?i?B?)", value.strip()))
        and match[2] in _SIZES
    ):
        size = int(float(match[1]) * _SIZES[match[2]])
    if size is None or size < 0:
        raise ValueError(f"{shown(value)} is not a size; write for example 512KiB, 64MiB, 8GiB")
    if size == 0:
        raise ValueError(_zero(value))
    return size


def parse_concurrency(value: Any) -> Concurrency:
    """``8`` or ``1..16``."""
    least = most = 0
    if isinstance(value, Concurrency):
        least, most = value
    elif isinstance(value, int) and not isinstance(value, bool):
        least = most = value
    elif isinstance(value, str) and (match := re.fullmatch(r"(\d{1,9})\s*\.\.\s*(\d{1,9})", value.strip())):
        least, most = int(match[1]), int(match[2])
        if least > most:
            raise ValueError(f"{shown(value)} runs backwards; the smaller number comes first: {most}..{least}")
    if not 1 <= least <= most <= 100_000:
        raise ValueError(
            f"{shown(value)} is not a concurrency; write a number from 1 to 100000, or a range such as 1..16"
        )
    return Concurrency(least, most)


def parse_store(value: str) -> str:
    """Where runs are kept: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``, perhaps ``?synchronous=full``.

    What it says is not repeated in messages, because such addresses hold passwords.
    """
    scheme, colon, _ = value.partition("://")
    if not colon or scheme != "sqlite":
        raise ValueError("this is not the address of a store; write for example sqlite:///headgate.db")
    if not _STORE.fullmatch(value):
        raise ValueError(
            "the store names no file that can be kept; write sqlite:///file.db or sqlite:////absolute/file.db, "
            "perhaps followed by ?synchronous=full, normal or off"
        )
    return value


def parse_knob(value: Any) -> float | int | str | bool:
    """What a knob can be turned to: a number, a text, true or false."""
    if isinstance(value, (int, float, str)):
        return float(value) if isinstance(value, Bare) else value
    raise ValueError(f"{shown(value)} is not a knob's value; write a number, a text, true or false")


def shown(value: Any) -> str:
    """A value as messages quote it: as it was written, and short."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple, dict)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _zero(value: Any) -> str:
    return f"{shown(value)}: zero never means off; leave the key out to have no such limit"


Whole = Annotated[int, Field(strict=True)]
"""A whole number; true and false are not numbers."""
Number = Annotated[float, Field(strict=True)]
"""A number; true and false are not numbers."""
Flag = Annotated[bool, Field(strict=True)]
"""true or false; yes, no, on and off are texts."""
Knob = Annotated[float | int | str | bool, PlainValidator(parse_knob)]
Seconds = Annotated[float, BeforeValidator(parse_duration)]
Amount = Annotated[float, BeforeValidator(parse_amount)]
Share = Annotated[float, BeforeValidator(parse_share)]
Size = Annotated[int, BeforeValidator(parse_size)]
"""Bytes."""
StoreUrl = Annotated[str, AfterValidator(parse_store)]
"""A store's address."""
RateField = Annotated[Rate, BeforeValidator(parse_rate)]
"""A `Rate` in settings."""
ConcurrencyField = Annotated[Concurrency, BeforeValidator(parse_concurrency)]
"""A `Concurrency` in settings."""
