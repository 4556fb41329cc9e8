"""The body of ``POST /v1/runs``: read strictly, every mistake reported at once, nothing trusted."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import datetime
from math import isfinite
from typing import Any

from headgate.config.units import parse_duration
from headgate.errors import InvalidRequest, StepNotSerializable
from headgate.intake import Submission
from headgate.intake.estimates import hint_of
from headgate.model.canonical import encode
from headgate.model.cost import NO_HINT, CostHint
from headgate.model.reason import Reason
from headgate.model.run import LONGEST_DEADLINE_S
from headgate.server.answers import ProblemError, problem
from headgate.server.auth import LOCAL_ADMIN, Caller
from headgate.server.strict_json import BadJson, read

FIELDS = ("workflow", "input", "tenant", "user", "lane", "deadline", "idempotency_key", "cost")
_SHORT_TEXT = 128
_KEY_MAX = 255
_TEXTS = {"workflow": 63, "tenant": _SHORT_TEXT, "user": _SHORT_TEXT, "lane": 63, "idempotency_key": _KEY_MAX}
"""Fields of text and their longest length in characters."""

Problems = list[tuple[str, str]]


def read_submission(body: bytes, headers: Mapping[bytes, bytes], caller: Caller, *, now_ms: int) -> Submission:
    """What the caller asks for, with the tenant of their key.

    Raises:
        InvalidRequest: every mistake in the body and headers. ProblemError: another tenant's name (403).
    """
    problems: Problems = []
    fields = read_object(body, FIELDS, problems)
    for name, most in _TEXTS.items():
        value = fields.get(name)
        if value is not None:
            _check_text(problems, name, value, most)
    if fields.get("workflow") is None:
        problems.append(("workflow", "is required: the name of a workflow"))
    key = _key(problems, fields.get("idempotency_key"), headers.get(b"idempotency-key"))
    deadline_ms = _deadline_ms(problems, fields.get("deadline"), now_ms)
    hint = _cost(problems, fields.get("cost"))
    text = "null"
    try:
        text = encode(fields.get("input"), what="input")
    except StepNotSerializable:
        problems.append(("input", "holds a number that is too large"))
    if problems:
        raise InvalidRequest(problems)
    return Submission(
        workflow=fields["workflow"],
        tenant=whose(caller, fields.get("tenant")),
        user=fields.get("user"),
        lane=fields.get("lane"),
        deadline_ms=deadline_ms,
        idempotency_key=key,
        cost=hint,
        api_key=None if caller == LOCAL_ADMIN else caller.key_id,
        input_text=text,
    )


def _cost(problems: Problems, value: Any) -> CostHint:
    if value is None:
        return NO_HINT
    if not isinstance(value, dict):
        problems.append(("cost", 'must be an object, for example {"model_tokens": 20000}'))
        return NO_HINT
    try:
        return hint_of(value)
    except InvalidRequest as error:
        problems.extend(error.problems)
        return NO_HINT


def whose(caller: Caller, named: str | None) -> str:
    """The tenant a request is for.

    Raises:
        ProblemError: the key belongs to another tenant than the one named.
    """
    if caller.tenant is None:
        return named or "default"
    if named is not None and named != caller.tenant:
        raise ProblemError(
            problem(
                403,
                Reason.FORBIDDEN,
                f"this key acts for tenant {caller.tenant!r} only",
                headers=[(b"x-should-retry", b"false")],
            )
        )
    return caller.tenant


def read_object(body: bytes, known: tuple[str, ...], problems: Problems | None = None) -> dict[str, Any]:
    """A JSON object that has no other than the known fields. An empty body is an empty object.

    Unknown fields come with the nearest known one; they are added to ``problems`` where the caller goes on to look
    for more mistakes.

    Raises:
        InvalidRequest: it is anything else, or (without ``problems``) has unknown fields.
    """
    if not body:
        return {}
    try:
        fields = read(body)
    except BadJson as error:
        raise InvalidRequest([("body", str(error))]) from error
    if not isinstance(fields, dict):
        raise InvalidRequest([("body", "must be a JSON object")])
    unknown = [name for name in fields if name not in known]
    found = [(shown(name), _hint(name, known)) for name in unknown[:10]]
    if problems is not None:
        problems.extend(found)
    elif found:
        raise InvalidRequest(found)
    return fields


def shown(name: str) -> str:
    """A caller's word, short and printable, to be repeated to them."""
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= 60 else text[:60] + "…"


def _hint(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name[:60].lower(), known, n=1)
    return f"unknown field; did you mean {near[0]!r}?" if near else f"unknown field; known: {', '.join(known)}"


def _check_text(problems: Problems, name: str, value: Any, most: int) -> None:
    if not isinstance(value, str):
        problems.append((name, "must be text"))
    elif not 1 <= len(value) <= most:
        problems.append((name, f"must have 1 to {most} characters"))
    elif not value.isprintable():
        problems.append((name, "must be printable"))


def _key(problems: Problems, in_body: Any, in_header: bytes | None) -> str | None:
    if in_header is None:
        return in_body if isinstance(in_body, str) else None
    key = in_header.decode("latin-1").strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]  # the IETF draft for this header makes it a structured-field string
    if in_body is not None and in_body != key:
        problems.append(("idempotency_key", "the Idempotency-Key header and the body name different keys"))
    _check_text(problems, "Idempotency-Key", key, _KEY_MAX)
    return key


def _deadline_ms(problems: Problems, value: Any, now_ms: int) -> int | None:
    """Absolute milliseconds from seconds (120), a duration ("2m") or a moment (RFC 3339)."""
    if value is None:
        return None
    seconds: float | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = value
    elif isinstance(value, str) and len(value) <= 64 and value.isascii():
        moment = _moment_ms(value)
        if moment is not None:
            if moment - now_ms > 1000 * LONGEST_DEADLINE_S:
                problems.append(("deadline", "is more than a year away"))
                return None
            return moment
        try:
            seconds = parse_duration(value)
        except ValueError:
            seconds = None
    if seconds is None:
        problems.append(
            ("deadline", 'write seconds (120), a duration ("2m") or an RFC 3339 time ("2026-01-31T12:00:00Z")')
        )
        return None
    if not 0 < seconds <= LONGEST_DEADLINE_S or not isfinite(seconds):
        problems.append(("deadline", "must be more than 0 and at most a year"))
        return None
    return now_ms + max(1, round(1000 * seconds))


def _moment_ms(text: str) -> int | None:
    if len(text) < 20 or text[4:5] != "-" or text[7:8] != "-" or text[10] not in "Tt " or text[13:14] != ":":
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
        return None if moment.tzinfo is None else round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
