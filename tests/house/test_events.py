"""The event catalogue and what the source tells are the same."""

from __future__ import annotations

from headgate.observe.events import CATALOGUE

from .emitted import emissions, texts
from .source import Source, read


def _tellers() -> list[Source]:
    """Everything but the rooms that listen."""
    return [source for source in read("src") if not source.path.startswith("src/headgate/observe/")]


def test_everything_told_is_in_the_catalogue() -> None:
    told = emissions(_tellers())
    assert told
    assert [f"{one.where}: {one.name}" for one in told if one.name not in CATALOGUE] == []


def test_told_fields_are_those_of_the_catalogue() -> None:
    strays = [
        f"{one.where}: {one.name} has no field {field}"
        for one in emissions(_tellers())
        if one.name in CATALOGUE
        for field in sorted(one.fields - set(CATALOGUE[one.name].fields))
    ]
    assert strays == []


def test_everything_in_the_catalogue_is_told() -> None:
    named = texts(_tellers())
    assert [name for name in CATALOGUE if name not in named] == []


def test_the_scan_sees_emissions() -> None:
    sample = Source("x.py", 'self._bus.emit("a" if good else "b", lane=1, **more)\nbus.emit(name)\n')
    assert [(one.name, one.fields) for one in emissions([sample])] == [("a", {"lane"}), ("b", {"lane"})]
    assert texts([sample]) == {"a", "b"}
