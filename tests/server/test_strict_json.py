"""One meaning or none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.server.strict_json import DEPTH_MAX, BadJson, read

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "Expecting value"),
        (b"{", "not JSON"),
        (b"{}x", "Extra data"),
        (b"'a'", "not JSON"),
        (b'{"a":1,}', "not JSON"),
        (b"[1,2", "not JSON"),
        (b"NaN", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b'{"a":1,"a":2}', "occurs twice"),
        (b'{"a":{"b":1,"b":1}}', "occurs twice"),
        (b'"\xff"', "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'"\\ud800"', "surrogate"),
        (b'"\\udc00\\ud800"', "surrogate"),
        (b'{"\\ud800":1}', "surrogate"),
        (b'"a\\u0000b"', "NUL"),
        (b'{"a\\u0000b":1}', "NUL"),
        (b'"a\x00b"', "not JSON"),
        (b'"tab\there"', "not JSON"),
        (b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1), "nested deeper"),
        (b'{"a":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 1), "nested deeper"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"a":' * 100_000, "nested deeper"),
        (b"1" * 5000, "too many digits"),
    ],
)
def test_refuses(body: bytes, words: str) -> None:
    with pytest.raises(BadJson, match=words):
        read(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (b' [1, 2.5, null, true, "x"] \n', [1, 2.5, None, True, "x"]),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\u0000"', "\\u0000"),
        (b'"\\\\ud800"', "\\ud800"),
        (b"[" * DEPTH_MAX + b"]" * DEPTH_MAX, None),
        (b'{"a":[' * (DEPTH_MAX // 2) + b"1" + b"]}" * (DEPTH_MAX // 2), None),
        (b'{"a":1,"b":{"a":1}}', {"a": 1, "b": {"a": 1}}),
    ],
)
def test_reads(body: bytes, value: Any) -> None:
    assert read(body) == (json.loads(body) if value is None else value)


def test_brackets_inside_text_are_not_nesting() -> None:
    assert read(json.dumps(["[{" * 100]).encode()) == ["[{" * 100]


@given(JSON_VALUES, st.booleans())
def test_reads_whatever_was_written(value: Any, escaped: bool) -> None:
    assert read(json.dumps(value, ensure_ascii=escaped).encode()) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_in_words(body: bytes) -> None:
    try:
        told = json.dumps(read(body))
    except BadJson as error:
        told = str(error)
    assert told
