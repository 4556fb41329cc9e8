"""JSON as strangers send it: one meaning or none.

The standard decoder takes the last of two equal keys, reads ``NaN``, recurses as deep as it is led and lets half a
surrogate pair through. Each of these has meant that two readers of one body saw two different things; all are
refused here. Numbers that overflow to infinity are refused where the value is written back (`model.canonical`).
"""

from __future__ import annotations

import json
import re
from typing import Any

DEPTH_MAX = 64
"""Nested arrays and objects, the outermost included."""

_SUSPICIOUS = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
"""Escapes that may hide a NUL or half a surrogate pair."""


class BadJson(ValueError):
    """The body is not JSON that is taken here; the message says why, in words for the caller."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadJson(f"the key {_shown(key)} occurs twice in one object")
            seen.add(key)
    return value


def _constant(word: str) -> Any:
    raise BadJson(f"{word} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def read(body: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        BadJson: it is not well-formed, is ambiguous, or is nested deeper than `DEPTH_MAX`.
    """
    try:
        value = _decoder.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadJson(f"the body is not UTF-8 (byte {error.start})") from error
    except RecursionError:
        raise BadJson(f"the body is nested deeper than {DEPTH_MAX} levels") from None
    except json.JSONDecodeError as error:
        raise BadJson(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except BadJson:
        raise
    except ValueError as error:  # integers of thousands of digits
        raise BadJson("a number in the body has too many digits") from error
    deep = body.count(b"[") + body.count(b"{") > DEPTH_MAX
    suspicious = _SUSPICIOUS.search(body) is not None
    if deep or suspicious:
        _inspect(value, text=suspicious)
    return value


def _inspect(value: Any, *, text: bool) -> None:
    """Walk the value level by level (never by recursion)."""
    level = [value]
    for _ in range(DEPTH_MAX):
        below: list[Any] = []
        for one in level:
            if type(one) is dict:
                below.extend(one.values())
                if text:
                    below.extend(one)
            elif type(one) is list:
                below.extend(one)
            elif text and type(one) is str:
                _check_text(one)
        if not below:
            return
        level = below
    if any(type(one) in (dict, list) for one in level):
        raise BadJson(f"the body is nested deeper than {DEPTH_MAX} levels")
    if text:
        for one in level:
            if type(one) is str:
                _check_text(one)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise BadJson("text must not contain the NUL character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadJson("text holds half a surrogate pair") from None


def _shown(key: str) -> str:
    return ascii(key if len(key) <= 40 else key[:40] + "…")
