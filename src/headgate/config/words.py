"""What went wrong with a value, in words for people, with an example of the right form."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, get_origin

from pydantic import BaseModel, ValidationError

from headgate.config.document import Path
from headgate.config.schema import known_keys, shape_at
from headgate.config.units import shown


class Complaint(NamedTuple):
    """One mistake of the values: where, at the key or at the value, and in words."""

    path: Path
    key: bool
    message: str


def complaints(error: ValidationError, root: type[BaseModel]) -> list[Complaint]:
    """Every mistake that pydantic found, in the words of this project."""
    return [_complaint(one, root) for one in error.errors(include_url=False)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` when something known is close, else the list of what is known, else nothing."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(sorted(set(names)))}" if names else ""


def _complaint(error: Mapping[str, Any], root: type[BaseModel]) -> Complaint:
    path: Path = tuple(error["loc"])
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if path and path[-1] == "[key]":
        words = _bad_length(value, context) if kind in _LENGTHS else _bad_name(value)
        return Complaint(path[:-1], True, words)
    if kind == "extra_forbidden":
        return Complaint(path, True, _unknown_key(str(path[-1]), shape_at(root, path[:-1])))
    if kind == "too_short":
        return Complaint(path, False, f"an empty list names nothing; it needs at least one{_example(str(path[-1]))}")
    if kind == "missing":
        return Complaint(path[:-1], False, f"needs {path[-1]!r}{_example(str(path[-1]))}")
    if kind == "value_error":
        return Complaint(path, False, str(context["error"]))
    return Complaint(path, False, _wrong_value(kind, value, context, shape_at(root, path)))


def _unknown_key(key: str, shape: Any) -> str:
    return f"unknown key {key!r}{did_you_mean(key, known_keys(shape))}"


def _bad_name(value: Any) -> str:
    return (
        f"{shown(value)} is not a name; use up to 63 small letters, digits, - and _, "
        "beginning with a letter, for example web-search"
    )


def _bad_length(value: Any, context: Mapping[str, Any]) -> str:
    if value == "":
        return "an empty text names nothing; leave the key out or write a name"
    return f"{shown(value)} is too long; at most {context['max_length']} characters"


_LENGTHS = frozenset({"string_too_short", "string_too_long"})
_EXAMPLES = {"at": "at: 60%", "per": "per: user", "pauses": "pauses: [lane:background]"}
_PLAIN_KINDS = {
    "int_type": "a whole number; write for example 10",
    "float_type": "a number; write for example 1.5",
    "bool_type": "true or false",
    "string_type": 'a text; write it in quotes, for example "acme"',
}
_BOUNDS = {
    "greater_than_equal": "ge",
    "greater_than": "gt",
    "less_than_equal": "le",
    "less_than": "lt",
}
_BOUND_WORDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def _example(key: str) -> str:
    return f", for example {_EXAMPLES[key]}" if key in _EXAMPLES else ""


def _wrong_value(kind: str, value: Any, context: Mapping[str, Any], shape: Any) -> str:
    if kind in _PLAIN_KINDS:
        return f"{shown(value)} is not {_PLAIN_KINDS[kind]}"
    if kind in _BOUNDS:
        bound = _BOUNDS[kind]
        off = "; zero never means off" if value == 0 and bound in ("ge", "gt") else ""
        return f"{shown(value)} must be {_BOUND_WORDS[bound]} {context[bound]:g}{off}"
    if kind in _LENGTHS:
        return _bad_length(value, context)
    if kind in ("enum", "literal_error"):
        return _one_of(value, _choices(context, shape))
    if kind == "string_pattern_mismatch":
        return _bad_name(value)
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"{shown(value)} stands where keys belong{_keys_example(shape)}"
    if kind in ("tuple_type", "list_type"):
        return f"{shown(value)} stands where a list belongs, for example [first, second]"
    return f"{shown(value)} does not fit here"


def _one_of(value: Any, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{shown(value)} is not one of {', '.join(choices)}{hint}"


def _choices(context: Mapping[str, Any], shape: Any) -> list[str]:
    if isinstance(shape, type) and hasattr(shape, "__members__"):
        return [str(member.value) for member in shape.__members__.values()]
    expected = str(context.get("expected", "")).replace(" or ", ", ")
    return [word.strip().strip("'") for word in expected.split(",") if word.strip()]


def _keys_example(shape: Any) -> str:
    keys = known_keys(shape)
    if keys:
        return f", for example {{{keys[0]}: …}}; known here: {', '.join(sorted(keys))}"
    return ", for example {name: {…}}" if get_origin(shape) is dict else ""
