"""Reading what callers ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.errors import InvalidRequest
from headgate.intake import Submission
from headgate.model.cost import CostHint
from headgate.server.answers import ProblemError
from headgate.server.auth import LOCAL_ADMIN, Caller
from headgate.server.run_request import read_submission

NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
ACME = Caller("key_1", "acme's", "submit", "acme")


def _read(value: Any, *, caller: Caller = LOCAL_ADMIN, headers: dict[bytes, bytes] | None = None) -> Submission:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read_submission(body, headers or {}, caller, now_ms=NOW_MS)


def test_everything_a_caller_may_say() -> None:
    wanted = _read(
        {
            "workflow": "triage",
            "input": {"b": 1, "a": "é"},
            "tenant": "acme",
            "user": "ann",
            "lane": "interactive",
            "deadline": 90,
            "idempotency_key": "k1",
            "cost": {"model_tokens": 20_000, "money": 0.5},
        }
    )
    assert wanted == Submission(
        workflow="triage",
        tenant="acme",
        user="ann",
        lane="interactive",
        deadline_ms=NOW_MS + 90_000,
        idempotency_key="k1",
        cost=CostHint(model_tokens=20_000, money=0.5),
        input_text='{"a":"é","b":1}',
    )


@pytest.mark.parametrize("cost", [5, [], "much", {"tokens": 5}, {"calls": 1, "x": 2}])
def test_a_cost_names_what_it_is_of(cost: Any) -> None:
    with pytest.raises(InvalidRequest, match="cost"):
        _read({"workflow": "w", "cost": cost})


def test_only_the_workflow_is_required() -> None:
    wanted = _read({"workflow": "triage"})
    assert (wanted.input_text, wanted.tenant, wanted.deadline_ms) == ("null", "default", None)


@pytest.mark.parametrize(
    ("deadline", "expected_ms"),
    [
        (1.5, NOW_MS + 1500),
        (0.0001, NOW_MS + 1),
        ("2m", NOW_MS + 120_000),
        ("1m30s", NOW_MS + 90_000),
        ("2026-01-01T00:01:00Z", NOW_MS + 60_000),
        ("2026-01-01T02:01:00+02:00", NOW_MS + 60_000),
        ("2026-01-01t00:00:00.250z", NOW_MS + 250),
        ("2025-12-31T23:59:59Z", NOW_MS - 1000),
    ],
)
def test_deadlines_as_people_write_them(deadline: Any, expected_ms: int) -> None:
    assert _read({"workflow": "w", "deadline": deadline}).deadline_ms == expected_ms


@pytest.mark.parametrize(
    "deadline",
    [
        *(0, -1, 1e300, 10**400, True, [], {}, "", "soon", "2", "-2m", "5 parsecs", "x" * 65, "٣m"),
        *("2026-01-01T00:01:00", "2026-13-01T00:00:00Z", "9999-01-01T00:00:00Z", "400d", "2026-01-01 00:01"),
    ],
)
def test_deadlines_that_mean_nothing(deadline: Any) -> None:
    with pytest.raises(InvalidRequest, match="deadline"):
        _read({"workflow": "w", "deadline": deadline})


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({}, "workflow", "is required"),
        ({"workflow": None}, "workflow", "is required"),
        ({"workflow": 7}, "workflow", "must be text"),
        ({"workflow": ["w"]}, "workflow", "must be text"),
        ({"workflow": ""}, "workflow", "1 to 63"),
        ({"workflow": "w", "tenant": "t" * 129}, "tenant", "1 to 128"),
        ({"workflow": "w", "tenant": "a\nb"}, "tenant", "printable"),
        ({"workflow": "w", "tenant": "a\u202eb"}, "tenant", "printable"),
        ({"workflow": "w", "user": 5}, "user", "must be text"),
        ({"workflow": "w", "lane": False}, "lane", "must be text"),
        ({"workflow": "w", "idempotency_key": "k" * 256}, "idempotency_key", "1 to 255"),
        ({"workflow": "w", "inputs": 1}, "inputs", "did you mean 'input'"),
        ({"workflow": "w", "Tenant": "a"}, "Tenant", "did you mean 'tenant'"),
        ({"workflow": "w", "zzz": 1}, "zzz", "known: workflow"),
    ],
)
def test_mistakes_name_their_field(fields: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _read(fields)
    assert [message for name, message in caught.value.problems if name == field and words in message]


def test_all_mistakes_come_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        _read({"tenant": 1, "user": "", "deadline": "soon", "lanes": "standard"})
    assert {field for field, _ in caught.value.problems} == {"workflow", "tenant", "user", "deadline", "lanes"}


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"1", b"null", b"{", b'{"workflow":"a","workflow":"b"}'])
def test_bodies_that_are_no_object(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="body"):
        _read(body)


def test_numbers_that_overflow_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="too large"):
        _read(b'{"workflow":"w","input":[1e999]}')


def test_the_key_in_header_and_body_must_agree() -> None:
    both = {b"idempotency-key": b"k1"}
    assert _read({"workflow": "w"}, headers=both).idempotency_key == "k1"
    assert _read({"workflow": "w"}, headers={b"idempotency-key": b'"k1"'}).idempotency_key == "k1"
    assert _read({"workflow": "w", "idempotency_key": "k1"}, headers=both).idempotency_key == "k1"
    with pytest.raises(InvalidRequest, match="different keys"):
        _read({"workflow": "w", "idempotency_key": "k2"}, headers=both)
    with pytest.raises(InvalidRequest, match="Idempotency-Key"):
        _read({"workflow": "w"}, headers={b"idempotency-key": b""})


def test_the_tenant_comes_from_the_key() -> None:
    assert _read({"workflow": "w"}, caller=ACME).tenant == "acme"
    assert _read({"workflow": "w", "tenant": "acme"}, caller=ACME).tenant == "acme"
    with pytest.raises(ProblemError) as caught:
        _read({"workflow": "w", "tenant": "umbrella"}, caller=ACME)
    assert caught.value.answer.status == 403
