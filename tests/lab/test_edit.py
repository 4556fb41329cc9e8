"""One value changes, everything else stays as it was written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.config.document import Path, read_document
from headgate.lab.search.edit import CannotEdit, changed

FILE = """\
# what we call
tools:
  search: {concurrency: 1..8, queue: {depth: 100}}  # fast
  code:
    concurrency: 4   # four licences
    queue:
      depth: 50      # fifty people

models:
  large: {concurrency: 1..16}
workflows:
  agent:
    degrade:
      - {at: 60%, skip: [review]}
      - {at: 80%}
  empty:
# the end
"""


@pytest.mark.parametrize(
    ("path", "value", "line_before", "line_after"),
    [
        (("tools", "code", "concurrency"), "9", "    concurrency: 4   # four", "    concurrency: 9   # four"),
        (("tools", "code", "queue", "depth"), "70", "depth: 50      # fifty", "depth: 70      # fifty"),
        (("tools", "search", "queue", "depth"), "7", "queue: {depth: 100}}  # fast", "queue: {depth: 7}}  # fast"),
        (("workflows", "agent", "degrade", 1, "at"), "70%", "- {at: 80%}", "- {at: 70%}"),
        (
            ("models", "large", "queue", "depth"),
            "9",
            "{concurrency: 1..16}",
            "{concurrency: 1..16, queue: {depth: 9}}",
        ),
        (("workflows", "empty", "queue", "depth"), "9", "  empty:", "  empty: {queue: {depth: 9}}"),
        (
            ("tools", "code", "retry", "attempts"),
            "2",
            "      depth: 50      # fifty people\n",
            "      depth: 50      # fifty people\n    retry: {attempts: 2}\n",
        ),
        (("workers", "slots"), "9", "  empty:\n", "  empty:\nworkers: {slots: 9}\n"),
    ],
)
def test_only_that_text_changes(path: Path, value: str, line_before: str, line_after: str) -> None:
    assert FILE.count(line_before) == 1
    assert changed(FILE, {path: value}) == FILE.replace(line_before, line_after)


def test_an_empty_file_gets_the_value() -> None:
    assert changed("", {("workers", "slots"): "3"}) == "workers: {slots: 3}\n"
    assert changed("# mine\n", {("workers", "slots"): "3"}) == "# mine\nworkers: {slots: 3}\n"


def test_what_is_shared_is_refused() -> None:
    shared = "tools:\n  a: &a {concurrency: 3}\n  b: *a\n"
    with pytest.raises(CannotEdit, match=r"tools\.b\.concurrency cannot be changed alone"):
        changed(shared, {("tools", "b", "concurrency"): "4"})
    with pytest.raises(CannotEdit, match="written as a block"):
        changed(FILE, {("tools", "code"): "{}"})


PLAIN = st.sampled_from(["3", "1..8", "20%", "30s", "true", "small", "[a, b]", "{x: 1}"])
KEYS = st.sampled_from(["alpha", "beta", "gamma"])
TREES: Any = st.recursive(PLAIN, lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=8)


def _block(tree: Any, indent: int, flow: bool) -> str:
    if isinstance(tree, str):
        return f" {tree}  # a comment, with: signs\n"
    if flow:
        return " {" + ", ".join(f"{key}:{_block(one, 0, True).split('  #')[0]}" for key, one in tree.items()) + "}\n"
    lines = "".join(f"{' ' * indent}{key}:{_block(one, indent + 2, indent > 2)}" for key, one in tree.items())
    return f"\n{lines}"


@given(tree=st.dictionaries(KEYS, TREES, min_size=1, max_size=3), path=st.lists(KEYS, min_size=1, max_size=4))
def test_the_value_is_read_back_and_no_other_changes(tree: dict[str, Any], path: list[str]) -> None:
    text = _block(tree, 0, False).lstrip("\n")
    before = read_document(text, {}).value
    try:
        after = read_document(changed(text, {tuple(path): "42"}), {}).value
    except CannotEdit:
        return  # the path goes through a plain value, or ends at a block
    place: Any = after
    for key in path:
        place = place[key]
    assert place == 42
    for key, value in before.items():
        if key != path[0]:
            assert after[key] == value
