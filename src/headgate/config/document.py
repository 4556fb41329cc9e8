"""YAML text to plain values, with the place of each.

Only what a configuration needs: mappings, lists, texts, whole numbers, decimals, true, false and null. Words
that YAML 1.1 turns into booleans (yes, no, on, off), dates and base-60 numbers stay texts; keys are always
texts. ``${NAME}`` and ``${NAME:-default}`` in texts are taken from the environment (``$${`` writes a plain ``${``).

Bounded on the way in: size, nesting, and values after anchors are followed, so a small file cannot become a
huge one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from headgate.config.units import Bare

LARGEST_BYTES = 1024 * 1024
DEEPEST = 32
MOST_VALUES = 50_000

Path = tuple[str | int, ...]


class Place(NamedTuple):
    """Where something stands; both count from 1."""

    line: int
    column: int


class Problem(NamedTuple):
    """One mistake and where it is."""

    place: Place
    message: str


class Document:
    """The values of a file and where each was written."""

    def __init__(self) -> None:
        self.value: Any = None
        self.problems: list[Problem] = []
        self._values: dict[Path, Place] = {}
        self._keys: dict[Path, Place] = {}

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Where the value (or the key) at ``path`` is; where that does not exist, the nearest thing around it."""
        places = self._keys if key else self._values
        if path in places:
            return places[path]
        while path and path not in self._values:
            path = path[:-1]
        if key or not path:
            return self._values.get(path, Place(1, 1))
        return self._keys.get(path, self._values[path])

    def problem(self, path: Path, message: str, *, key: bool = False) -> None:
        """Note a mistake at ``path``."""
        self.problems.append(Problem(self.place(path, key=key), message))

    def put(self, path: Path, place: Place) -> None:
        self._values[path] = place

    def put_key(self, path: Path, place: Place) -> None:
        self._keys[path] = place


class Unreadable(Exception):
    """The text cannot be read at all, so its other mistakes cannot be told."""

    def __init__(self, place: Place, message: str) -> None:
        self.problem = Problem(place, message)
        super().__init__(message)


def read_document(text: str, environ: Mapping[str, str]) -> Document:
    """Read one YAML document. Mistakes that leave the rest readable are in its ``problems``.

    Raises:
        Unreadable: it is too large, not YAML, nested too deeply, or grows too much.
    """
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST_BYTES:
        raise Unreadable(Place(1, 1), "the file is larger than 1 MiB, which no configuration needs")
    document = Document()
    try:
        root = _compose(text)
        if root is not None:
            document.value = _Reader(document, environ).read(root, ())
    except RecursionError as error:  # an anchor that merges itself
        raise Unreadable(Place(1, 1), _TOO_DEEP) from error
    return document


class _Loader(yaml.SafeLoader):
    """Composes nodes, bounded; constructs nothing."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.nodes += 1
        self.depth += 1
        if self.depth > DEEPEST or self.nodes > MOST_VALUES:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs leave it out
            raise Unreadable(_place(mark), _TOO_DEEP if self.depth > DEEPEST else _TOO_MANY)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


_TOO_DEEP = f"nested more than {DEEPEST} deep"
_TOO_MANY = f"more than {MOST_VALUES} values"


def _compose(text: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Place(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        raise Unreadable(place, "a character that is not allowed in YAML") from error
    except yaml.MarkedYAMLError as error:
        raise Unreadable(_place(error.problem_mark or error.context_mark), _yaml_words(error)) from error


_YAML_HINTS = (
    ("'\\t'", "a tab; indent with spaces"),
    ("mapping values are not allowed", "a colon where none can be; put texts that contain ': ' in quotes"),
    ("found undefined alias", "this alias (*) has no anchor (&) before it"),
    ("expected a single document", "one document per file; remove the '---' in the middle"),
    ("expected ',' or '}'", "expected ',' or '}': a { is not closed, or ${…} inside { } needs quotes"),
    ("expected ',' or ']'", "expected ',' or ']': a [ is not closed"),
    ("expected <block end>", "the indentation does not fit the lines above"),
    ("could not find expected ':'", "a key without its ':'"),
)


def _yaml_words(error: yaml.MarkedYAMLError) -> str:
    told = f"{error.context or ''} {error.problem or ''}"
    for sign, words in _YAML_HINTS:
        if sign in told:
            return words
    return f"this is not YAML: {error.problem or error.context}"


class _Reader:
    """Walks composed nodes into plain values."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self._document = document
        self._environ = environ
        self._values = 0

    def read(self, node: yaml.Node, path: Path) -> Any:
        place = _place(node.start_mark)
        self._values += 1
        if self._values > MOST_VALUES or len(path) > DEEPEST:
            # anchors can repeat what is written once, and can even contain themselves
            raise Unreadable(place, _TOO_DEEP if len(path) > DEEPEST else f"{_TOO_MANY} once anchors are followed")
        self._document.put(path, place)
        if node.tag not in _TAGS:
            self._note(node, f"the tag {node.tag.replace(_TAG, '!!')} is not used here; write a plain value")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.read(one, (*path, index)) for index, one in enumerate(node.value))
        return self._scalar(node) if isinstance(node, yaml.ScalarNode) else None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key_node.tag == _MERGE:
                merged.append(value_node)
            elif key in values:
                first = self._document.place((*path, key), key=True)
                self._note(key_node, f"{key!r} is here twice; the first is on line {first.line}")
            elif key is not None:
                self._document.put_key((*path, key), _place(key_node.start_mark))
                values[key] = self.read(value_node, (*path, key))
        for source in merged:
            self._merge(source, path, values)
        return values

    def _merge(self, source: yaml.Node, path: Path, values: dict[str, Any]) -> None:
        """``<<: *anchor`` or ``<<: [*one, *two]``: what is written here wins, then the earlier source."""
        for one in source.value if isinstance(source, yaml.SequenceNode) else (source,):
            if not isinstance(one, yaml.MappingNode):
                self._note(one, "<< merges mappings only, for example <<: *defaults")
                continue
            for key, value in self._mapping(one, path).items():
                values.setdefault(key, value)

    def _key(self, node: yaml.Node) -> str | None:
        if isinstance(node, yaml.ScalarNode):
            return str(node.value)
        self._note(node, "a key must be a plain text")
        return None

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text = str(node.value)
        if "${" in text:
            filled = _VARIABLE.sub(lambda match: self._variable(match, node), text)
            # a text that is nothing but one variable means what the variable says: "${PORT}" is a number
            return _resolved(filled) if node.style is None or _VARIABLE.fullmatch(text) else filled
        # explicitly quoted, tagged (!!str 5) or blocks: a text whatever it looks like
        return text if node.style is not None or node.tag == _TEXT else _resolved(text)

    def _variable(self, match: re.Match[str], node: yaml.Node) -> str:
        name, default = match["name"], match["default"]
        if name is None:
            return "${"
        value = self._environ.get(name, "")
        if value:
            return value
        if default is not None:
            return str(default)
        if name not in self._environ:
            self._note(
                node, f"the environment variable {name} is not set; ${{{name}:-value}} would give it a default"
            )
        return ""

    def _note(self, node: yaml.Node, message: str) -> None:
        self._document.problems.append(Problem(_place(node.start_mark), message))


_TAG = "tag:yaml.org,2002:"
_TEXT = f"{_TAG}str"
_MERGE = f"{_TAG}merge"
_TAGS = frozenset(
    _TAG + kind for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value")
)
_VARIABLE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9_]{0,17})")
_DECIMAL = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{0,18}")


def _resolved(text: str) -> Any:
    """What an unquoted word means."""
    if text in ("true", "false"):
        return text == "true"
    if text in ("", "~", "null"):
        return None
    if _WHOLE.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return Bare(text)
    return text


def _place(mark: Any) -> Place:
    return Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)
