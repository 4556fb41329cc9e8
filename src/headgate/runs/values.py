"""JSON text that a store can keep: encoded canonically, valid UTF-8, bounded; and words for people, likewise."""

from __future__ import annotations

import functools
import traceback
from typing import Any

from pydantic import TypeAdapter, ValidationError

from headgate.errors import StepNotSerializable
from headgate.model.canonical import decode, encode

LARGEST_JSON = 4 * 1024 * 1024
"""Bytes of one result, of a step or of a run."""
LONGEST_DETAIL = 2_000
"""Characters of an error's message that are kept."""
LAST_FRAMES = 4
LONGEST_FRAME = 200


def to_json(value: Any, *, what: str, at_most: int = LARGEST_JSON) -> str:
    """Canonical JSON text of ``value``.

    Raises:
        StepNotSerializable: it has no JSON form, is not valid Unicode, or is larger than ``at_most`` bytes.
    """
    text = encode(value, what=what)
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise StepNotSerializable(f"{what} cannot be written as JSON: {error}") from error
    if size > at_most:
        raise StepNotSerializable(
            f"{what} has {size} bytes as JSON; at most {at_most} are kept. Store it elsewhere and return where."
        )
    return text


def from_json(text: str | None, wanted: Any = None) -> Any:
    """The value of JSON text, as ``wanted`` (any type pydantic can read) if that is given.

    Raises:
        pydantic.ValidationError: the value is not a ``wanted``.
    """
    if text is None:
        return None
    return decode(text) if wanted is None else _reader(wanted).validate_json(text)


@functools.lru_cache(maxsize=256)
def _reader(wanted: Any) -> TypeAdapter[Any]:
    return TypeAdapter(wanted)


def storable(words: str, longest: int = LONGEST_DETAIL) -> str:
    """Words cut to a length and freed of what no store takes (lone surrogates, NUL)."""
    cut = words if len(words) <= longest else words[: longest - 1] + "…"
    return cut.encode("utf-8", "replace").decode().replace("\0", "�")


def describe(error: BaseException) -> str:
    """``Type: message`` and the last frames, for a run's detail."""
    detail = storable(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    frames = traceback.extract_tb(error.__traceback__)[-LAST_FRAMES:]
    places = (storable(f"  {frame.filename}:{frame.lineno} in {frame.name}", LONGEST_FRAME) for frame in frames)
    return "\n".join((detail, *places))


def describe_input(error: ValidationError) -> str:
    """What is wrong with a run's input, one line a problem."""
    lines = [
        f"input{''.join(f'.{part}' for part in problem['loc'])}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return storable("\n".join(lines))
