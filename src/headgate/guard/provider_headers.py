"""What a provider's response headers say about its limits.

Read: ``retry-after-ms``, ``retry-after`` (seconds or an HTTP date), ``x-should-retry``, OpenAI's
``x-ratelimit-{limit,remaining,reset}-{requests,tokens}`` (reset as ``12ms``, ``6m0s``), Anthropic's
``anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`` (reset as RFC 3339), and
the IETF draft's ``RateLimit`` / ``RateLimit-Policy`` fields. Anything missing, negative or unreadable is unknown,
never zero: some providers send -1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from headgate.model.outcome import RateWindow

_MOST_HEADERS = 200
_MOST_RETRIES = 100
_LONGEST_S = 7 * 86400.0
_UNIX_TIME_S = 1e9
"""Numbers from here on are moments: as a wait it would be thirty years."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_IETF_ITEM = re.compile(r'^\s*"?([^";]*)"?\s*((?:;[^;]*)*)$')
_UNITS = {
    "requests": "requests",
    "tokens": "model_tokens",
    "input-tokens": "input_tokens",
    "output-tokens": "output_tokens",
}

Headers = dict[str, str]
"""Lower-case names."""


def read(headers: Any) -> Headers:
    """Any headers object (`httpx.Headers`, a dict, an `email.message.Message`) with lower-case names."""
    items = getattr(headers, "items", None)
    if not callable(items):
        return {}
    pairs: Headers = {}
    for name, value in items():
        if len(pairs) >= _MOST_HEADERS:
            break
        if isinstance(name, str) and isinstance(value, str):
            pairs[name.lower()] = value
    return pairs


def retry_after_s(headers: Mapping[str, str], *, now_ms: int) -> float | None:
    """Seconds the provider asks to wait; ``None`` when it says nothing, nonsense, or "at once"."""
    precise = _number(headers.get("retry-after-ms"))
    if precise is not None and precise > 0:
        return min(precise / 1000, _LONGEST_S)
    text = headers.get("retry-after")
    if text is None:
        return None
    seconds = _seconds(text, now_ms)
    if seconds is None:
        seconds = _until(text, now_ms)
    return min(seconds, _LONGEST_S) if seconds is not None and seconds > 0 else None


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """The provider's ``x-should-retry``."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def sdk_retries(headers: Any) -> int:
    """Retries that an SDK made before this request, by its own ``x-stainless-retry-count`` (OpenAI, Anthropic and
    others built alike). ``headers``: those of the *request*; 0 when they say nothing."""
    count = _count(read(headers).get("x-stainless-retry-count"))
    return 0 if count is None else min(count, _MOST_RETRIES)


def windows(headers: Mapping[str, str], *, now_ms: int) -> tuple[RateWindow, ...]:
    """Every limit that the headers name."""
    found: list[RateWindow] = []
    for prefix, trailing in (("x-ratelimit-", True), ("anthropic-ratelimit-", False)):
        if not any(name.startswith(prefix) for name in headers):
            continue
        for word, unit in _UNITS.items():
            limit, remaining, reset = (
                headers.get(f"{prefix}{part}-{word}" if trailing else f"{prefix}{word}-{part}")
                for part in ("limit", "remaining", "reset")
            )
            window = RateWindow(unit, _count(limit), _count(remaining), _reset(reset, now_ms))
            if window.limit is not None or window.remaining is not None:
                found.append(window)
    found.extend(_ietf(headers))
    return tuple(found)


def _ietf(headers: Mapping[str, str]) -> list[RateWindow]:
    policies = dict(_structured(headers.get("ratelimit-policy", "")))
    found = []
    for name, values in _structured(headers.get("ratelimit", "")):
        policy = policies.get(name, {})
        remaining = _count(values.get("r"))
        if remaining is None:
            continue
        unit = "model_tokens" if "token" in policy.get("qu", "") else "requests"
        found.append(RateWindow(unit, _count(policy.get("q")), remaining, _positive(values.get("t"))))
    return found


def _structured(text: str) -> list[tuple[str, dict[str, str]]]:
    """The items of a structured-field list: ``"name";q=1;w=2, "other";q=3``."""
    items = []
    for part in text.split(",")[:20]:
        match = _IETF_ITEM.match(part)
        if match and match[1]:
            pairs = (one.partition("=") for one in match[2].split(";") if one.strip())
            items.append((match[1], {key.strip(): value.strip().strip('"') for key, _, value in pairs}))
    return items


def _reset(text: str | None, now_ms: int) -> float | None:
    if text is None:
        return None
    compact = text.strip()
    parts = _DURATION.findall(compact)
    if parts and "".join(number + unit for number, unit in parts) == compact:
        return min(math.fsum(float(number) * _SECONDS[unit] for number, unit in parts), _LONGEST_S)
    seconds = _seconds(compact, now_ms)
    if seconds is None:
        return _until(compact, now_ms)
    return min(seconds, _LONGEST_S) if seconds >= 0 else None


def _seconds(text: str, now_ms: int) -> float | None:
    """A wait in seconds; a number that can only be a Unix time is taken as that moment."""
    number = _number(text)
    return number if number is None or number < _UNIX_TIME_S else _from_now(number, now_ms)


def _until(text: str, now_ms: int) -> float | None:
    """Seconds from now until the moment that ``text`` names (RFC 3339 or an HTTP date)."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (TypeError, ValueError, OverflowError):  # the last for numbers of twenty digits
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _from_now(moment.timestamp(), now_ms)


def _from_now(moment_s: float, now_ms: int) -> float:
    return min(max(0.0, moment_s - now_ms / 1000), _LONGEST_S)


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and abs(number) < 1e12 else None


def _count(text: str | None) -> int | None:
    number = _number(text)
    return int(number) if number is not None and number >= 0 else None


def _positive(text: str | None) -> float | None:
    number = _number(text)
    return min(number, _LONGEST_S) if number is not None and number >= 0 else None
