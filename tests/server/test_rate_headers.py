"""When to come back, on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.model.decision import LimitUse, Refusal
from headgate.model.reason import Reason
from headgate.server.rate_headers import limit_headers, refusal_headers, retry_headers


@pytest.mark.parametrize(
    ("wait_ms", "seconds", "milliseconds", "retry"),
    [
        (1, b"1", b"1", b"true"),
        (999, b"1", b"999", b"true"),
        (1001, b"2", b"1001", b"true"),
        (60_000, b"60", b"60000", b"true"),
        (60_001, b"60", b"60000", b"false"),
        (86_400_000, b"60", b"60000", b"false"),
        (0, b"1", b"1", b"true"),
    ],
)
def test_waits(wait_ms: int, seconds: bytes, milliseconds: bytes, retry: bytes) -> None:
    assert dict(retry_headers(wait_ms)) == {
        b"retry-after": seconds,
        b"retry-after-ms": milliseconds,
        b"x-should-retry": retry,
    }


def test_what_no_wait_changes_has_no_retry_after() -> None:
    assert retry_headers(None) == [(b"x-should-retry", b"false")]


def test_a_full_queue_is_a_bound_without_a_window() -> None:
    refusal = Refusal(Reason.QUEUE_FULL, "workflow:triage", "full", limit=50, used=50, retry_after_ms=2500)
    assert dict(refusal_headers(refusal)) == {
        b"retry-after": b"3",
        b"retry-after-ms": b"2500",
        b"x-should-retry": b"true",
        b"ratelimit-policy": b'"workflow:triage";q=50;qu="concurrent-requests"',
        b"ratelimit": b'"workflow:triage";r=0;t=3',
    }


def test_a_rate_has_a_window() -> None:
    refusal = Refusal(
        Reason.RATE_LIMITED, "user:ann", "used up", limit=10, used=10, retry_after_ms=6000, window_s=60.0
    )
    headers = dict(refusal_headers(refusal))
    assert headers[b"ratelimit-policy"] == b'"user:ann";q=10;qu="requests";w=60'
    assert headers[b"ratelimit"] == b'"user:ann";r=0;t=6'


def test_a_terminal_refusal_names_no_limit() -> None:
    refusal = Refusal(Reason.NEVER_FITS, "user:ann", "too much", limit=10, used=20)
    assert refusal_headers(refusal) == [(b"x-should-retry", b"false")]


def test_the_tightest_limit_is_reported_and_all_policies() -> None:
    headers = dict(
        limit_headers(
            (
                LimitUse("a", 100, 60, "runs", 60.0, 12.4),
                LimitUse("b", 10, 1, "runs", None, None),
                LimitUse("c", 1000, 900, "content-bytes", None, None),
            )
        )
    )
    assert headers[b"ratelimit"] == b'"b";r=1'
    assert headers[b"ratelimit-policy"] == (
        b'"a";q=100;qu="requests";w=60, "b";q=10;qu="concurrent-requests", '
        b'"c/content-bytes";q=1000;qu="content-bytes"'
    )
    assert limit_headers(()) == []


@given(st.text(max_size=40))
def test_any_name_makes_a_valid_header(name: str) -> None:
    for _, value in limit_headers((LimitUse(name, 5, 1, "runs", 1.0, 0.2),)):
        text = value.decode("ascii")
        assert text.isprintable()
        assert text.count('"') in (2, 4)
        assert "\\" not in text


def test_limits_of_the_same_scope_have_names_of_their_own_and_the_tightest_is_among_the_policies() -> None:
    limits = [
        LimitUse("tenant:acme", 50, 49, "runs", None, None),
        LimitUse("tenant:acme", 10, 9, "runs", 60.0, 5, "steady"),
        LimitUse("tenant:acme", 4, 3, "runs", None, None, "steady"),
        LimitUse("tenant:acme", 1000, 900, "model_tokens", 60.0, 5, "steady"),
        *(LimitUse(f"user:{n}", 100, 90, "runs", 60.0, 5, f"limits[{n}]") for n in range(8)),
        LimitUse("fleet", 2, 1, "runs", None, None),
    ]
    headers = dict(limit_headers(tuple(limits)))
    names = [policy.split(";")[0] for policy in headers[b"ratelimit-policy"].decode().split(", ")]
    assert len(names) == len(set(names)) == 8
    assert names[:4] == [
        '"tenant:acme"',
        '"tenant:acme/steady"',
        '"tenant:acme/steady/concurrent"',
        '"tenant:acme/steady/model_tokens"',
    ]
    assert headers[b"ratelimit"] == b'"fleet";r=1'
    assert names[-1] == '"fleet"'
