"""Resources that stand in for each other are one capacity in forecasts."""

from __future__ import annotations

import pytest

from headgate.config.load import parse_settings
from headgate.intake.stand_ins import answers_per_s, grouped, together
from headgate.policy.throughput import Throughput

FILE = """
models:
  large: {fallback: small}
  small: {}
  draft: {}
  other: {}
tools:
  search: {fallback: cache}
  cache: {}
workflows:
  agent: {degrade: [{at: 60%, models: {small: draft}}]}
"""


def test_fallbacks_and_replacements_belong_together() -> None:
    heads = together(parse_settings(FILE))
    assert heads["large"] == heads["small"] == heads["draft"]
    assert heads["search"] == heads["cache"] != heads["large"]
    assert "other" not in heads


def test_they_are_counted_as_one() -> None:
    known = {name: Throughput(0, 1.0, 1.0, 1.0) for name in ("large", "small", "draft", "other", "worker slots")}
    found = grouped(known, together(parse_settings(FILE)))
    assert sorted(map(sorted, found.values())) == [["draft", "large", "small"], ["other"], ["worker slots"]]


def test_their_rates_add_up_in_calls() -> None:
    slow, quick, unseen = Throughput(0, 14.0, 28.0, 1.4), Throughput(0, 5.0, 5.0, 0.5), Throughput(0, 9.0, 9.0, None)
    assert answers_per_s([slow, quick, unseen]) == (pytest.approx(20.0), pytest.approx(30.0))
