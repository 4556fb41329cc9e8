"""The named statements of ``statements/*.sql``.

A statement begins with a line ``-- name: its_name`` and ends at the next one; comment lines stay with it for
the reader and are dropped here. ``{run_columns}`` and the like stand for the lists of `rows.COLUMNS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

from headgate.store.sqlite.rows import COLUMNS

_NAME = re.compile(r"^-- name: ([a-z0-9_]+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)
_LIST = re.compile(r"\{([a-z_]+)\}")


def _load() -> Mapping[str, str]:
    found: dict[str, str] = {}
    for file in sorted(files(__package__).joinpath("statements").iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".sql"):
            continue
        parts = _NAME.split(file.read_text(encoding="utf-8") + "\n")
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            if name in found:
                raise ValueError(f"{file.name}: the statement {name!r} exists already")
            found[name] = _LIST.sub(lambda match: COLUMNS[match[1]], _COMMENT.sub("", body).strip())
    return MappingProxyType(found)


STATEMENTS = _load()
"""Every statement by name."""
