"""Changes single values in a YAML text and leaves everything else, comments included, as it was written.

PyYAML's nodes say where each value stands; a new value replaces exactly that text, a missing key goes behind the last
one of its mapping. Whoever edits checks the result by reading it again (`changed`): what a value cannot be told apart
from (an alias, a merged key) is refused rather than guessed.
"""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from headgate.config.document import Path, read_document
from headgate.errors import HeadgateError


class CannotEdit(HeadgateError):
    """The value is written in a way in which it cannot be changed alone; the message says where."""


def changed(text: str, changes: Mapping[Path, str]) -> str:
    """``text`` with these values, written as in YAML, at these paths; numbers in a path are places in lists.

    Raises:
        CannotEdit: a value stands in an alias, in a merge or in a block that cannot be replaced.
        headgate.config.document.Unreadable: ``text`` is not YAML.
    """
    for path, value in changes.items():
        text = _one(text, path, value)
    return text


def _one(text: str, path: Path, value: str) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    edited = f"{text}{_nested(path, value)}\n" if root is None else _set(text, root, path, path, value)
    wanted = _with(read_document(text, {}).value or {}, path, read_document(value, {}).value)
    if read_document(edited, {}).value != wanted:
        raise CannotEdit(f"{'.'.join(map(str, path))} cannot be changed alone: it is shared by an alias or a merge")
    return edited


def _set(text: str, node: yaml.Node, rest: Path, path: Path, value: str) -> str:
    while rest:
        child = _child(node, rest[0])
        if child is None:
            return _added(text, node, rest, path, value)
        node, rest = child, rest[1:]
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        raise CannotEdit(f"{'.'.join(map(str, path))} is written as a block; only plain values are replaced")
    return _spliced(text, node.start_mark.index, node.end_mark.index, value)


def _child(node: yaml.Node, key: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        found: yaml.Node | None = next((two for one, two in node.value if one.value == str(key)), None)
        return found
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        item: yaml.Node = node.value[key]
        return item
    return None


def _added(text: str, node: yaml.Node, rest: Path, path: Path, value: str) -> str:
    new = _nested(rest, value)
    if isinstance(node, yaml.ScalarNode) and node.value in ("", "null", "~"):
        return _spliced(text, node.start_mark.index, node.end_mark.index, f"{{{new}}}")
    if not isinstance(node, yaml.MappingNode):
        raise CannotEdit(f"{'.'.join(map(str, path))}: there is no such place in the file")
    if node.flow_style:
        end = node.end_mark.index - 1
        inside = text[node.start_mark.index + 1 : end].rstrip()
        comma = ", " if inside and not inside.endswith(",") else " " if inside else ""
        return text[: node.start_mark.index + 1] + inside + comma + new + text[end:]
    last: yaml.Node = node
    while isinstance(last, yaml.CollectionNode) and not last.flow_style and last.value:
        last = last.value[-1][1] if isinstance(last, yaml.MappingNode) else last.value[-1]
    end = text.find("\n", last.end_mark.index)
    end = len(text) if end < 0 else end
    indent = " " * node.value[0][0].start_mark.column
    return f"{text[:end]}\n{indent}{new}{text[end:]}"


def _spliced(text: str, start: int, end: int, value: str) -> str:
    space = " " if start and not text[start - 1].isspace() and text[start - 1] not in "{[" else ""
    return f"{text[:start]}{space}{value}{text[end:]}"


def _nested(path: Path, value: str) -> str:
    """``a: {b: value}``."""
    for key in reversed(path[1:]):
        value = f"{{{key}: {value}}}"
    return f"{path[0]}: {value}"


def _with(values: object, path: Path, value: object) -> object:
    if not path:
        return value
    key, *rest = path
    if isinstance(values, tuple) and isinstance(key, int):
        return (*values[:key], _with(values[key], tuple(rest), value), *values[key + 1 :])
    known = dict(values) if isinstance(values, dict) else {}
    known[str(key)] = _with(known.get(str(key)), tuple(rest), value)
    return known
