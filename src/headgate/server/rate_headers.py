"""When to come back, in the words that clients read.

Sources: what the OpenAI and Anthropic SDKs obey (``retry-after-ms`` first, then ``Retry-After``, ``x-should-retry``
over both; waits above a minute are ignored or given up on), and the IETF draft
draft-ietf-httpapi-ratelimit-headers-11 for ``RateLimit-Policy`` and ``RateLimit``.

Rules: ``Retry-After`` is whole seconds, rounded up, 1 to 60; ``retry-after-ms`` names the same moment. A wait above a
minute, and a refusal that no wait will change, say ``x-should-retry: false``; the honest time is in the body. The
waits arrive jittered from intake, so nothing is added here.
"""

from __future__ import annotations

from math import ceil

from headgate.model.decision import LimitUse, Refusal

Headers = list[tuple[bytes, bytes]]

LONGEST_MS = 60_000
_POLICIES_MAX = 8
_UNITS = {"runs": "requests", "model_tokens": "model-tokens"}
_NEVER: Headers = [(b"x-should-retry", b"false")]


def retry_headers(wait_ms: int | None) -> Headers:
    """``wait_ms`` > 0 until a retry makes sense; ``None``: it never will."""
    if wait_ms is None:
        return _NEVER
    told = min(max(wait_ms, 1), LONGEST_MS)
    return [
        (b"retry-after", b"%d" % ceil(told / 1000)),
        (b"retry-after-ms", b"%d" % told),
        (b"x-should-retry", b"true" if wait_ms <= LONGEST_MS else b"false"),
    ]


def refusal_headers(refusal: Refusal) -> Headers:
    """All header fields of a refused run."""
    headers = retry_headers(refusal.retry_after_ms)
    if refusal.limit is None or refusal.limit < 1 or not (refusal.contended or refusal.nothing_there):
        return headers
    use = LimitUse(
        name=refusal.scope,
        rule=refusal.rule or "",
        limit=int(refusal.limit),
        remaining=0,
        unit=refusal.unit,
        window_s=refusal.window_s,
        reset_s=None if refusal.retry_after_ms is None else refusal.retry_after_ms / 1000,
    )
    return [*headers, *limit_headers((use,))]


def limit_headers(limits: tuple[LimitUse, ...]) -> Headers:
    """Every limit as a policy, and what is left of the tightest."""
    named = {policy_name(use.name, use.rule, use.unit, use.window_s): use for use in limits if use.limit >= 1}
    if not named:
        return []
    name, tightest = min(named.items(), key=lambda one: _left(one[1]))
    state = f"{_quoted(name)};r={max(0, tightest.remaining)}"
    if tightest.reset_s is not None:
        state += f";t={max(0, ceil(tightest.reset_s))}"
    chosen = {name, *[one for one in named if one != name][: _POLICIES_MAX - 1]}
    policies = ", ".join(_policy(one, use) for one, use in named.items() if one in chosen)
    return [(b"ratelimit-policy", policies.encode("ascii")), (b"ratelimit", state.encode("ascii"))]


def _left(use: LimitUse) -> float:
    return use.remaining / use.limit if use.limit > 0 else 0.0


def policy_name(scope: str, rule: str | None, unit: str, window_s: float | None) -> str:
    """The name of a limit's policy; the draft wants them to differ within an answer. Limits of one rule differ by
    who they are for and by what they count."""
    counted = "concurrent" if rule and window_s is None else "" if unit == "runs" else unit
    return "/".join(part for part in (scope, rule, counted) if part)


def _policy(name: str, use: LimitUse) -> str:
    unit = _UNITS.get(use.unit, use.unit)
    if unit == "requests" and use.window_s is None:
        unit = "concurrent-requests"  # a bound on how many wait or run at once, not a rate
    policy = f'{_quoted(name)};q={use.limit};qu="{unit}"'
    return policy if use.window_s is None else f"{policy};w={max(1, ceil(use.window_s))}"


def _quoted(name: str) -> str:
    """A structured-field string (RFC 9651): printable ASCII; anything else is percent-encoded."""
    if name.isascii() and name.isprintable() and '"' not in name and "\\" not in name:
        return f'"{name}"'
    encoded = "".join(
        one if one.isascii() and one.isprintable() and one not in '"\\%' else _percent(one) for one in name
    )
    return f'"{encoded}"'


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "replace"))
