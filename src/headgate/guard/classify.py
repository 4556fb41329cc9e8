"""How a call ended, in the words of `headgate.model.outcome`: from an exception, or from what it returned.

Works by shape, so that the errors and answers of openai, anthropic, httpx, httpx2, requests, aiohttp and urllib are
understood without importing any of them: a ``status_code`` (or ``status``), a ``response.headers``, a type whose name
says *timeout*, a chain of causes that ends in a refused connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError as FutureCancelledError
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from headgate.errors import HeadgateError
from headgate.guard import provider_headers
from headgate.model.outcome import CallResult, Outcome

OK = CallResult(Outcome.OK)
IGNORED = CallResult(Outcome.IGNORED)
TIMED_OUT = CallResult(Outcome.TIMEOUT)

PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, tuple, set, frozenset})
"""Types whose values say nothing about the call; looked at first, because most calls return one of them."""
_OUR_MISTAKE = (
    TypeError,
    AttributeError,
    NameError,
    NotImplementedError,
    AssertionError,
    ImportError,
    RecursionError,
)
"""A bug on this side: repeating it gives the same, and the dependency has nothing to do with it."""
_QUOTA_WORDS = ("insufficient_quota", "billing", "quota_exceeded", "credit", "spend limit", "spend_limit")
_CAUSES_AT_MOST = 10

_TOTALS = ("total_tokens", "totalTokens", "total_token_count", "totalTokenCount")
_PARTS = (
    ("prompt_tokens", "completion_tokens"),
    ("input_tokens", "output_tokens"),
    ("inputTokens", "outputTokens"),
    ("prompt_token_count", "candidates_token_count", "thoughts_token_count"),
    ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"),
)
"""What makes up the total, where an answer does not tell it."""


def of_error(error: BaseException, *, now_ms: int) -> CallResult:
    """The ending of a call that raised ``error``. ``now_ms`` turns dates in headers into waits."""
    if isinstance(error, (asyncio.CancelledError, FutureCancelledError, HeadgateError)) or not isinstance(
        error, Exception
    ):
        return IGNORED  # stopped by us, or a refusal of another guard inside: no evidence about this resource
    response = getattr(error, "response", None)
    status = _status(error) or _status(response)
    if status is not None:
        headers = provider_headers.read(getattr(response, "headers", None) or getattr(error, "headers", None))
        return _of_status(status, headers, now_ms, lambda: _words(error), sdk_retries=_sdk_retries(response, error))
    return CallResult(_outcome_without_status(error), sdk_retries=_sdk_retries(error))


def of_value(value: Any, *, now_ms: int, usage: bool = False) -> CallResult:
    """The ending of a call that returned ``value``.

    A returned response object counts by its status, so a 503 that was not raised is still a 503. ``usage`` asks for
    reported model tokens.
    """
    kind = type(value)
    if kind in PLAIN:
        return OK
    tokens = reported_model_tokens(value) if usage else None
    if kind is dict:
        return OK if tokens is None else CallResult(Outcome.OK, model_tokens=tokens)
    headers = provider_headers.read(getattr(value, "headers", None))
    if not headers:  # no response object, whatever a field called status may mean in it
        return OK if tokens is None else CallResult(Outcome.OK, model_tokens=tokens)
    status = _status(value)
    if status is not None and status >= 400:
        return _of_status(status, headers, now_ms, lambda: "", sdk_retries=_sdk_retries(value))
    return CallResult(
        Outcome.OK,
        status=status,
        sdk_retries=_sdk_retries(value),
        model_tokens=tokens,
        windows=provider_headers.windows(headers, now_ms=now_ms),
    )


def refuse_generator(value: Any) -> None:
    """Refuse an answer that is a generator.

    Raises:
        TypeError: it is one: nothing has been done yet, and the slot would end before anything is.
    """
    if isinstance(value, (GeneratorType, AsyncGeneratorType)):
        raise TypeError(
            f"the call only made a generator ({value.__qualname__}); decorate the generator function with "
            "resource.guard, or hold resource.slot() around its iteration"
        )


def reported_usage(value: Any) -> Any:
    """The part of an answer that tells what it took, as the common SDKs and APIs call it; ``None``: there is none.

    OpenAI, Anthropic and Bedrock say ``usage``, LangChain and Google's SDK ``usage_metadata``, Google's HTTP API
    ``usageMetadata``.
    """
    for name in ("usage", "usage_metadata", "usageMetadata"):
        usage = member(value, name)
        if usage is not None:
            return usage
    return None


def reported_model_tokens(value: Any) -> int | None:
    """Model tokens that an answer says it used: its total, or input and output together."""
    usage = reported_usage(value)
    if usage is None:
        return None
    for name in _TOTALS:
        total = count(member(usage, name))
        if total is not None:
            return total
    for names in _PARTS:
        parts = [count(member(usage, name)) for name in names]
        if any(part is not None for part in parts):
            return sum(part or 0 for part in parts)
    return None


def _sdk_retries(*carriers: Any) -> int:
    """What the request of an error or a response says of retries; a carrier may have none."""
    for carrier in carriers:
        try:
            request = getattr(carrier, "request", None)
        except RuntimeError:  # httpx: a response without its request
            continue
        if request is not None:
            return provider_headers.sdk_retries(getattr(request, "headers", None))
    return 0


def _of_status(
    status: int, headers: Mapping[str, str], now_ms: int, words: Callable[[], str], *, sdk_retries: int
) -> CallResult:
    text = words().lower() if status in (402, 403, 429) else ""
    return CallResult(
        _outcome_of_status(status, text),
        status=status,
        retry_after_s=provider_headers.retry_after_s(headers, now_ms=now_ms),
        should_retry=provider_headers.should_retry(headers),
        windows=provider_headers.windows(headers, now_ms=now_ms),
        sdk_retries=sdk_retries,
        refused_concurrency=status == 429 and "concurren" in text,
    )


def _outcome_of_status(status: int, text: str) -> Outcome:
    if status == 402 or (status in (403, 429) and any(word in text for word in _QUOTA_WORDS)):
        return Outcome.QUOTA
    if status in (429, 503, 529):
        return Outcome.OVERLOADED
    if status in (408, 504):
        return Outcome.TIMEOUT
    if 400 <= status < 500:
        return Outcome.CALLER_ERROR
    return Outcome.FAILED


def _outcome_without_status(error: BaseException) -> Outcome:
    if any("timeout" in kind.__name__.lower() for kind in type(error).__mro__):
        return Outcome.TIMEOUT
    if isinstance(error, _OUR_MISTAKE):
        return Outcome.CALLER_ERROR
    if any(isinstance(cause, ConnectionRefusedError) for cause in _causes(error)):
        return Outcome.OVERLOADED
    return Outcome.FAILED


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, nearest first; bounded, because chains can be long or circular."""
    waiting: list[BaseException] = [error]
    for _ in range(_CAUSES_AT_MOST):
        if not waiting:
            return
        one = waiting.pop(0)
        yield one
        waiting.extend(cause for cause in (one.__cause__, one.__context__) if cause is not None)
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(one.exceptions)


def _status(thing: Any) -> int | None:
    for name in ("status_code", "status", "code"):
        value = getattr(thing, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return value
    return None


def _words(error: BaseException) -> str:
    """What the provider said, for telling a used-up quota from a full server."""
    code, body = getattr(error, "code", None), getattr(error, "body", None)
    return f"{code or ''} {body or ''} {error}"[:4000]


def member(thing: Any, name: str) -> Any:
    """A member of a mapping or an attribute of an object; ``None`` where there is none."""
    if type(thing) is dict:  # the usual case, and asking whether a type is a mapping takes longer than the rest
        return thing.get(name)
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def count(value: Any) -> int | None:
    """A number of model tokens, if it is one."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None
