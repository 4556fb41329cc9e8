"""Walks the shape of the settings next to the values of a file: which keys are known where, what may be empty."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from headgate.config.document import Path


def shape_at(root: type[BaseModel], path: Sequence[str | int]) -> Any:
    """The annotation of what stands at ``path``; ``None`` where the settings know nothing of that name."""
    shape: Any = root
    for step in path:
        shape = _inner(plain(shape), step)
        if shape is None:
            return None
    return plain(shape)


def known_keys(shape: Any) -> tuple[str, ...]:
    """The keys a mapping of this shape may have; empty when it is not settings."""
    return tuple(shape.model_fields) if _is_settings(shape) else ()


def without_emptiness(value: Any, shape: Any) -> Any:
    """``value`` with ``key:`` and nothing after it read as an empty section wherever a section is expected.

    Where nothing is itself a meaning (``breaker: null``), it stays nothing.
    """
    shape, empty = plain(shape), may_be_empty(shape)
    origin = get_origin(shape)
    if value is None and not empty:
        if origin is dict or _is_settings(shape):
            return {}
        return () if origin is tuple else None
    if isinstance(value, dict):
        return {key: without_emptiness(one, _inner(shape, key)) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(without_emptiness(one, _inner(shape, index)) for index, one in enumerate(value))
    return value


def plain(shape: Any) -> Any:
    """An annotation without ``Annotated`` and ``| None``."""
    while True:
        if get_origin(shape) is Annotated:
            shape = get_args(shape)[0]
        elif get_origin(shape) in (Union, types.UnionType):
            rest = [one for one in get_args(shape) if one is not type(None)]
            if len(rest) != 1:
                return shape
            shape = rest[0]
        else:
            return shape


def may_be_empty(shape: Any) -> bool:
    """Whether ``None`` is one of its values."""
    if get_origin(shape) is Annotated:
        return may_be_empty(get_args(shape)[0])
    return get_origin(shape) in (Union, types.UnionType) and type(None) in get_args(shape)


def _inner(shape: Any, step: str | int) -> Any:
    if _is_settings(shape):
        field = shape.model_fields.get(step)
        return None if field is None else field.annotation
    if get_origin(shape) is dict and isinstance(step, str):
        return get_args(shape)[1]
    if get_origin(shape) is tuple and isinstance(step, int):
        return get_args(shape)[0]
    return None


def _is_settings(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, BaseModel)


__all__ = ["Path", "known_keys", "may_be_empty", "plain", "shape_at", "without_emptiness"]
