"""How endings are read, from errors and answers in the shapes of well-known SDKs."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import Overloaded
from headgate.guard import classify, provider_headers
from headgate.lab.virtual_time import EPOCH_MS
from headgate.model.outcome import Outcome, RateWindow

from .workshop import ProviderError

NOW = EPOCH_MS


class ReadTimeout(Exception):
    """Named like httpx's."""


class APIConnectionError(Exception):
    """Named like openai's."""


class ServerDisconnected(Exception):
    """Somebody's own error."""


def refused_connection() -> Exception:
    try:
        try:
            raise ConnectionRefusedError
        except ConnectionRefusedError as inner:
            raise OSError("all connection attempts failed") from inner
    except OSError as middle:
        error = APIConnectionError("Connection error.")
        error.__cause__ = middle
        return error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ProviderError(500), Outcome.FAILED),
        (ProviderError(502), Outcome.FAILED),
        (ProviderError(503), Outcome.OVERLOADED),
        (ProviderError(529), Outcome.OVERLOADED),
        (ProviderError(429), Outcome.OVERLOADED),
        (ProviderError(429, code="insufficient_quota"), Outcome.QUOTA),
        (ProviderError(402), Outcome.QUOTA),
        (ProviderError(408), Outcome.TIMEOUT),
        (ProviderError(504), Outcome.TIMEOUT),
        (ProviderError(400), Outcome.CALLER_ERROR),
        (ProviderError(401), Outcome.CALLER_ERROR),
        (ProviderError(404), Outcome.CALLER_ERROR),
        (ReadTimeout(), Outcome.TIMEOUT),
        (TimeoutError(), Outcome.TIMEOUT),
        (refused_connection(), Outcome.OVERLOADED),
        (APIConnectionError(), Outcome.FAILED),
        (ConnectionResetError(), Outcome.FAILED),
        (ServerDisconnected(), Outcome.FAILED),
        (ValueError("not JSON"), Outcome.FAILED),
        (TypeError("a bug of ours"), Outcome.CALLER_ERROR),
        (asyncio.CancelledError(), Outcome.IGNORED),
        (KeyboardInterrupt(), Outcome.IGNORED),
        (Overloaded("queue_full", scope="resource:other"), Outcome.IGNORED),
    ],
)
def test_errors(error: BaseException, outcome: Outcome) -> None:
    assert classify.of_error(error, now_ms=NOW).outcome is outcome


def test_an_errors_headers_are_read() -> None:
    result = classify.of_error(
        ProviderError(429, {"Retry-After": "7", "X-Should-Retry": "false"}, code="concurrency limit"), now_ms=NOW
    )
    assert (result.status, result.retry_after_s, result.should_retry) == (429, 7.0, False)
    assert result.refused_concurrency


def test_a_circle_of_causes_ends() -> None:
    one, two = ServerDisconnected(), ServerDisconnected()
    one.__cause__, two.__cause__ = two, one
    assert classify.of_error(one, now_ms=NOW).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("value", "outcome", "tokens"),
    [
        (None, Outcome.OK, None),
        ("text", Outcome.OK, None),
        ({"usage": {"total_tokens": 12}}, Outcome.OK, 12),
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 6}}, Outcome.OK, 11),
        (SimpleNamespace(usage=SimpleNamespace(input_tokens=7, output_tokens=8)), Outcome.OK, 15),
        (SimpleNamespace(usage=SimpleNamespace(input_tokens=7)), Outcome.OK, 7),
        (SimpleNamespace(usage=None), Outcome.OK, None),
        ({"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 9}}, Outcome.OK, 9),
        ({"usage": {"inputTokens": 3, "outputTokens": 4}}, Outcome.OK, 7),
        (SimpleNamespace(usage_metadata={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}), Outcome.OK, 7),
        (
            SimpleNamespace(
                usage_metadata=SimpleNamespace(prompt_token_count=3, candidates_token_count=4, total_token_count=12)
            ),
            Outcome.OK,
            12,
        ),
        (
            {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4, "thoughtsTokenCount": 5}},
            Outcome.OK,
            12,
        ),
        ({"usage": {"total_tokens": -1}}, Outcome.OK, None),
        (SimpleNamespace(status_code=503, headers={"retry-after": "3"}), Outcome.OVERLOADED, None),
        (SimpleNamespace(status_code=200, headers={"server": "x"}), Outcome.OK, None),
        (SimpleNamespace(status=500), Outcome.OK, None),  # not a response, just somebody's field
    ],
)
def test_answers(value: Any, outcome: Outcome, tokens: int | None) -> None:
    result = classify.of_value(value, now_ms=NOW, usage=True)
    assert (result.outcome, result.model_tokens) == (outcome, tokens)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2022 22:13:50 GMT"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1700000090"}, 90.0),
        ({"retry-after": "1600000000"}, None),
        ({"retry-after": "9999-12-31T00:00:00Z"}, 7 * 86400.0),
        ({"retry-after": "Mon, 1 Jan 10000000000000000000000 00:00:00 GMT"}, None),
        ({"retry-after": "Mon, 1 Jan 2024 00:00:00 +99999999999999999"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert provider_headers.retry_after_s(headers, now_ms=NOW) == seconds


def test_rate_limit_headers_of_every_kind() -> None:
    openai = provider_headers.read(
        {
            "x-ratelimit-limit-requests": "60",
            "X-RateLimit-Remaining-Requests": "59",
            "x-ratelimit-reset-requests": "1m30s",
            "x-ratelimit-remaining-tokens": "-1",
            "x-ratelimit-limit-tokens": "150000",
            "x-ratelimit-reset-tokens": "12ms",
        }
    )
    assert provider_headers.windows(openai, now_ms=NOW) == (
        RateWindow("requests", 60, 59, 90.0),
        RateWindow("model_tokens", 150000, None, 0.012),
    )
    anthropic = {
        "anthropic-ratelimit-input-tokens-limit": "1000",
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-input-tokens-reset": "2023-11-14T22:14:20Z",
    }
    assert provider_headers.windows(anthropic, now_ms=NOW) == (RateWindow("input_tokens", 1000, 0, 60.0),)
    ietf = {"ratelimit-policy": '"burst";q=100;w=60;qu="tokens", "daily";q=5', "ratelimit": '"burst";r=3;t=9'}
    assert provider_headers.windows(ietf, now_ms=NOW) == (RateWindow("model_tokens", 100, 3, 9.0),)
    assert provider_headers.windows({"ratelimit": ';;=,"', "x-ratelimit-reset-tokens": "?"}, now_ms=NOW) == ()


_DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@given(
    text=st.one_of(
        st.text(max_size=40),
        st.text(alphabet="0123456789:,-+. GMT", max_size=40).map(lambda tail: _DATE[:12] + tail),
        st.integers(-(10**30), 10**30).map(str),
        st.tuples(st.integers(0, len(_DATE)), st.integers(0, 10**25)).map(
            lambda cut: f"{_DATE[: cut[0]]}{cut[1]}{_DATE[cut[0] :]}"
        ),
    )
)
def test_whatever_a_header_says_it_is_read_as_a_wait_of_at_most_a_week_or_as_unknown(text: str) -> None:
    names = ("retry-after", "retry-after-ms", "ratelimit", "ratelimit-policy")
    named = [f"x-ratelimit-{part}-requests" for part in ("limit", "remaining", "reset")]
    for name in (*names, *named):
        headers = {"x-ratelimit-remaining-requests": "0", "ratelimit": '"a";r=0;t=1', name: text}
        wait_s = provider_headers.retry_after_s(headers, now_ms=NOW)
        assert wait_s is None or 0 < wait_s <= 7 * 86400
        for window in provider_headers.windows(headers, now_ms=NOW):
            assert window.reset_s is None or 0 <= window.reset_s <= 7 * 86400
            assert window.remaining is None or window.remaining >= 0
