"""From a ``headgate.yaml`` to `GateSettings`, or to every mistake in it at once.

Each mistake is one line, ``file:line:column: message``; an unknown key is pointed at where the key stands, a
wrong value where the value stands, and references between parts of the file are checked too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path as FilePath
from urllib.parse import quote

from pydantic import ValidationError

from headgate.config.document import LARGEST_BYTES, Document, Problem, Unreadable, read_document
from headgate.config.references import check_references
from headgate.config.schema import without_emptiness
from headgate.config.settings import GateSettings
from headgate.config.units import shown
from headgate.config.words import complaints
from headgate.errors import ConfigError


def load_settings(path: str | FilePath) -> GateSettings:
    """The settings in the file at ``path``.

    Raises:
        ConfigError: the file cannot be read, or has mistakes; all of them are listed.
    """
    file = FilePath(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(data) > LARGEST_BYTES:
            raise ConfigError([f"{path}:1:1: the file is larger than 1 MiB"]) from error
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - before.rfind(b"\n")
        raise ConfigError([f"{path}:{line}:{column}: this is not UTF-8 text"]) from error
    settings = parse_settings(text, str(path))
    return settings.model_copy(update={"store": _beside(file, settings.store)})


def _beside(file: FilePath, store: str) -> str:
    """The store's address; a relative path in a file counts from that file, wherever the process was started."""
    prefix = "sqlite:///"
    if not store.startswith(prefix) or store.startswith(prefix + "/"):
        return store
    return f"{prefix}{quote(str(file.resolve().parent))}/{store.removeprefix(prefix)}"


def parse_settings(
    text: str, filename: str = "headgate.yaml", *, environ: Mapping[str, str] | None = None
) -> GateSettings:
    """The settings in ``text``; ``filename`` is how mistakes call it. Nothing at all means every default.

    ``${NAME}`` is looked up in ``environ`` (the process's own by default).

    Raises:
        ConfigError: ``text`` has mistakes; all of them are listed.
    """
    try:
        document = read_document(text, os.environ if environ is None else environ)
    except Unreadable as error:
        raise ConfigError([_line(filename, error.problem)]) from error
    settings = _settings(document)
    if settings is None:
        problems = sorted(set(document.problems))
        raise ConfigError([_line(filename, problem) for problem in problems])
    return settings


def _settings(document: Document) -> GateSettings | None:
    """The settings, or ``None`` when the document has problems (which it then lists)."""
    if not isinstance(document.value, dict | None):
        document.problem((), f"{shown(document.value)} stands where keys belong, for example tools: {{…}}")
        return None
    values = without_emptiness(document.value or {}, GateSettings)
    already = {problem.place for problem in document.problems}
    settings = None
    try:
        settings = GateSettings.model_validate(values)
    except ValidationError as error:
        for path, key, message in complaints(error, GateSettings):
            if document.place(path, key=key) not in already:
                document.problem(path, message, key=key)
    check_references(values, document)
    return None if document.problems else settings


def _line(filename: str, problem: Problem) -> str:
    (line, column), message = problem
    return f"{filename}:{line}:{column}: {message}"
