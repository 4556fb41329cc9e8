"""Numbers as people write them: what is written comes out, anything else is refused in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.config.units import (
    Bare,
    Concurrency,
    Rate,
    parse_amount,
    parse_concurrency,
    parse_duration,
    parse_knob,
    parse_rate,
    parse_share,
    parse_size,
    parse_store,
    shown,
)

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
SIZES = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
COUNTS = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
WINDOWS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "day": 86400}
PARSERS = (parse_duration, parse_amount, parse_rate, parse_share, parse_size, parse_concurrency)


@given(st.integers(1, 366), st.sampled_from(sorted(SECONDS)))
def test_durations(number: int, unit: str) -> None:
    assert parse_duration(f"{number}{unit}") == pytest.approx(number * SECONDS[unit])


@given(st.lists(st.sampled_from(["d", "h", "m", "s", "ms"]), min_size=1, max_size=5, unique=True), st.data())
def test_durations_of_several_parts_add_up(units: list[str], data: st.DataObject) -> None:
    parts = [(data.draw(st.integers(1, 50)), unit) for unit in units]
    text = " ".join(f"{number}{unit}" for number, unit in parts)
    assert parse_duration(text) == pytest.approx(sum(number * SECONDS[unit] for number, unit in parts))


@given(st.integers(1, 10**9), st.sampled_from(sorted(COUNTS)))
def test_amounts(number: int, unit: str) -> None:
    assert parse_amount(f"{number}{unit}") == pytest.approx(number * COUNTS[unit])
    assert parse_amount(number) == number


@given(st.integers(1, 10**6), st.sampled_from(sorted(COUNTS)), st.sampled_from(sorted(WINDOWS)), st.booleans())
def test_rates(number: int, unit: str, window: str, spaced: bool) -> None:
    text = f"{number}{unit} / {window}" if spaced else f"{number}{unit}/{window}"
    rate = parse_rate(text)
    assert rate == Rate(pytest.approx(number * COUNTS[unit]), WINDOWS[window])  # type: ignore[arg-type]
    assert parse_rate(rate) is rate


@given(st.integers(1, 10_000), st.booleans())
def test_shares(hundredths: int, spaced: bool) -> None:
    percent = hundredths / 100
    assert parse_share(f"{percent}{' ' if spaced else ''}%") == pytest.approx(percent / 100)


@given(st.integers(1, 10**6), st.sampled_from(sorted(SIZES)))
def test_sizes(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit}") == number * SIZES[unit]


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_concurrency(one: int, other: int) -> None:
    least, most = sorted((one, other))
    assert parse_concurrency(f"{least}..{most}") == Concurrency(least, most)
    assert parse_concurrency(one) == Concurrency(one, one)
    assert parse_concurrency(one).fixed
    if least < most:
        with pytest.raises(ValueError, match="backwards"):
            parse_concurrency(f"{most}..{least}")


@given(st.one_of(st.text(max_size=30), st.floats(), st.integers(), st.booleans(), st.none(), st.lists(st.integers())))
def test_anything_is_either_read_or_refused_in_words(value: Any) -> None:
    for parse in PARSERS:
        message = refusal(parse, value)
        assert message is None or ("; " in message and len(message) < 250)


def refusal(parse: Any, value: Any) -> str | None:
    try:
        parse(value)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "value", ["", " ", "abc", "-1", "-5s", "1e3", "NaN", "inf", True, False, None, [], {}, "9" * 5000]
)
def test_nonsense_is_refused_by_all(parse: Any, value: Any) -> None:
    if parse is parse_amount and value == "9" * 5000:
        value = "9" * 5000 + "k"
    with pytest.raises(ValueError, match=r"write|longest"):
        parse(value)


@pytest.mark.parametrize(
    ("parse", "value"),
    [
        (parse_duration, "0s"),
        (parse_duration, "0ms"),
        (parse_amount, 0),
        (parse_amount, "0k"),
        (parse_rate, "0/s"),
        (parse_size, 0),
        (parse_size, "0MiB"),
    ],
)
def test_zero_never_means_off(parse: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="zero never means off; leave the key out"):
        parse(value)


@pytest.mark.parametrize(
    ("parse", "value", "message"),
    [
        (parse_duration, 30, "30 has no unit; write for example 30s"),
        (parse_duration, Bare("1.5"), "1.5 has no unit; write for example 1.5s"),
        (parse_duration, "30 parsecs", "'30 parsecs' is not a duration; write for example 30s, 250ms, 10m, 4h"),
        (parse_duration, "400d", "'400d' is too long; the longest duration is 366d"),
        (parse_rate, "5000", "'5000' is not a rate; write for example 10/s, 400k/min, 5000/h"),
        (parse_rate, "5/fortnight", "'5/fortnight' is not a rate; write for example 10/s, 400k/min, 5000/h"),
        (parse_share, "120%", "'120%' is not a share above 0 and up to 100 %; write for example 15%"),
        (parse_share, 1, "1 is not a share above 0 and up to 100 %; write for example 15%"),
        (parse_size, "8 gigs", "'8 gigs' is not a size; write for example 512KiB, 64MiB, 8GiB"),
        (parse_concurrency, "1..0", "'1..0' runs backwards; the smaller number comes first: 0..1"),
        (parse_concurrency, 0, "0 is not a concurrency; write a number from 1 to 100000, or a range such as 1..16"),
    ],
)
def test_messages_show_the_right_form(parse: Any, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(value)
    assert str(caught.value) == message


def test_python_floats_are_seconds_and_shares() -> None:
    assert parse_duration(2.5) == 2.5
    assert parse_share(0.15) == 0.15
    assert parse_share(Bare("0.15")) == 0.15


def test_knobs_keep_their_kind() -> None:
    for value in (5, 1.5, "fast", True):
        assert parse_knob(value) == value
        assert type(parse_knob(value)) is type(value)
    assert type(parse_knob(Bare("1.5"))) is float
    with pytest.raises(ValueError, match="not a knob's value"):
        parse_knob(["a"])


def test_values_are_quoted_short_and_in_the_file_s_words() -> None:
    assert shown(None) == "nothing"
    assert (shown(True), shown(False)) == ("true", "false")
    assert (shown((1, 2)), shown({})) == ("a list", "a mapping")
    assert len(shown("x" * 10_000)) < 70


@pytest.mark.parametrize(
    "url",
    ["sqlite:///a.db", "sqlite:////var/lib/a b.db", "sqlite:///a?synchronous=off", "sqlite:///:memory:.db"],
)
def test_stores(url: str) -> None:
    assert parse_store(url) == url


@pytest.mark.parametrize(
    "url",
    ["", "a.db", "sqlite:a.db", "sqlite://", "sqlite:///", "sqlite://host/a.db", "sqlite:///a/", "sqlite:///:memory:",
     "sqlite:///:memory:?synchronous=off", "sqlite:///a?synchronous=never", "sqlite:///a?b=c", "mysql://u:pw@h/db"],
)  # fmt: skip
def test_stores_that_keep_nothing(url: str) -> None:
    with pytest.raises(ValueError, match="store") as caught:
        parse_store(url)
    assert "pw" not in str(caught.value)
