"""Canonical JSON and digests: one way to turn values into text that two processes agree on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from headgate.errors import StepNotSerializable


def encode(value: Any, *, what: str = "value") -> str:
    """``value`` as canonical JSON text (sorted keys, no spaces, no NaN).

    Dataclasses and objects with ``model_dump`` (pydantic) are written as their fields.

    Raises:
        StepNotSerializable: something in it has no JSON form; the message names it.
    """
    try:
        return int.__repr__(value) if type(value) is int else _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise StepNotSerializable(f"{what} cannot be written as JSON: {error}") from error


def decode(text: str) -> Any:
    """The value of JSON text that `encode` wrote."""
    return json.loads(text)


def digest(*parts: str) -> str:
    """A 128-bit hex digest of the parts; their boundaries count."""
    whole: list[bytes] = []
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        whole += (len(data).to_bytes(8, "big"), data)
    return hashlib.sha256(b"".join(whole)).hexdigest()[:32]


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is not None and not isinstance(value, type):
        return {name: getattr(value, name) for name in fields}
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} has no JSON form")


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False, default=_plain
)  # made once: json.dumps would make one for every value
