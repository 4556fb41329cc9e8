"""Records: immutable to the type checker, cheap to make.

A frozen dataclass sets every field through ``object.__setattr__``, which makes a record of thirty fields three times
as dear as a plain one; the busiest records are made several times for every run. Type checking refuses to assign
to their fields, nothing at run time does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(made: type[T]) -> type[T]:
    """Make a class of annotated fields a record: compared and hashed by its fields, with slots."""
    return dataclass(slots=True, unsafe_hash=True)(made)
