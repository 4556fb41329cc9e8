"""Identifiers: UUIDv7 (RFC 9562 §5.7), so that ids sort by time of birth."""

from __future__ import annotations

from collections.abc import Callable

_HEX = "0123456789abcdef"


def uuid7(now_ms: int, random_bits: Callable[[int], int]) -> str:
    """A UUIDv7 in canonical text form.

    ``now_ms`` is wall-clock milliseconds; ``random_bits(n)`` returns a non-negative integer below ``2**n``
    (`random.Random.getrandbits`, injected so that a seed repeats exactly).
    """
    tail = random_bits(74)
    value = (
        ((now_ms & 0xFFFFFFFFFFFF) << 80)
        | (0x7 << 76)
        | ((tail >> 62) << 64)
        | (0b10 << 62)
        | (tail & ((1 << 62) - 1))
    )
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_uuid(text: str) -> bool:
    """Whether ``text`` looks like a canonical UUID (checked before it reaches the store)."""
    if len(text) != 36 or text[8] != "-" or text[13] != "-" or text[18] != "-" or text[23] != "-":
        return False
    return all(character in _HEX or character == "-" for character in text)
