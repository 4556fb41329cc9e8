"""Keys, roles, and who is let in."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

import pytest

from headgate.server.answers import ProblemError
from headgate.server.auth import (
    BASE62,
    FAILURES_PER_MINUTE,
    KEY_LENGTH,
    LOCAL_ADMIN,
    REMEMBER_S,
    ROLES,
    Authenticator,
    Caller,
    FailureLimiter,
    Right,
    digest_of,
    is_loopback,
    new_key,
    well_formed,
)
from headgate.store.protocols import ApiKey

T = TypeVar("T")
NEAR, FAR = "127.0.0.1", "203.0.113.9"


class HandClock:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def now_ms(self) -> int:
        return int(self.at_s * 1000)

    def monotonic(self) -> float:
        return self.at_s


class KeyShelf:
    """Stored keys, and how often they were asked for."""

    def __init__(self, *keys: ApiKey) -> None:
        self.stored = {key.hash: key for key in keys}
        self.lookups = 0

    async def add(self, key: ApiKey) -> None:
        self.stored[key.hash] = key

    async def by_hash(self, digest: str) -> ApiKey | None:
        self.lookups += 1
        return self.stored.get(digest)

    async def all(self) -> list[ApiKey]:
        return list(self.stored.values())

    async def revoke(self, key_id: str, *, now_ms: int) -> bool:
        for digest, key in self.stored.items():
            if key.id == key_id:
                self.stored[digest] = replace(key, revoked_ms=now_ms)
        return True


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def _made(
    role: str = "submit", tenant: str | None = "acme", *, seed: int = 1, expires_ms: int | None = None
) -> tuple[str, ApiKey]:
    return new_key(role=role, tenant=tenant, label="test", now_ms=0, expires_ms=expires_ms, rng=Random(seed))


def _door(shelf: KeyShelf, clock: HandClock | None = None, *, insecure: bool = False) -> Authenticator:
    return Authenticator(lambda: shelf, clock=clock or HandClock(), rng=Random(1), insecure=insecure)


def _bearer(secret: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + secret.encode()}


def _status(door: Authenticator, headers: dict[bytes, bytes], address: str | None = FAR) -> int:
    try:
        _run(door.caller(headers, address))
    except ProblemError as error:
        return error.answer.status
    return 200


def test_a_key_is_random_checked_and_stored_as_a_digest() -> None:
    secret, key = _made()
    other, _ = _made(seed=2)
    assert secret != other
    assert len(secret) == KEY_LENGTH
    assert well_formed(secret)
    assert key.hash == digest_of(secret)
    assert secret not in repr(key)
    real, _ = new_key(role="read", tenant=None, label="x", now_ms=0)
    assert well_formed(real)


def test_any_single_mistyped_character_is_seen() -> None:
    secret, _ = _made()
    for index in range(len(secret)):
        for wrong in {"A", "z", "0"} - {secret[index]}:
            assert not well_formed(secret[:index] + wrong + secret[index + 1 :])
    assert not well_formed(secret[:-1])
    assert not well_formed(secret + "0")
    assert not well_formed("")
    assert len(set(BASE62)) == 62


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="the roles are submit, read, operate, admin"):
        new_key(role="root", tenant=None, label="x", now_ms=0)


@pytest.mark.parametrize(
    ("role", "tenant", "rights"),
    [
        ("submit", "acme", {Right.SUBMIT, Right.READ, Right.CANCEL}),
        ("submit", None, {Right.SUBMIT, Right.READ, Right.CANCEL}),
        ("read", "acme", {Right.READ}),
        ("read", None, {Right.READ, Right.OBSERVE}),
        ("operate", "acme", set(Right) - {Right.KEYS, Right.OBSERVE, Right.CONTROL}),
        ("operate", None, set(Right) - {Right.KEYS}),
        ("admin", None, set(Right)),
        ("strange", None, set()),
    ],
)
def test_rights_by_role(role: str, tenant: str | None, rights: set[Right]) -> None:
    caller = Caller("key_1", "x", role, tenant)
    assert {right for right in Right if caller.may(right)} == rights
    assert set(ROLES) == {"submit", "read", "operate", "admin"}


def test_without_keys_this_machine_is_admin_and_no_other() -> None:
    door = _door(KeyShelf())
    assert _run(door.caller({}, NEAR)) is LOCAL_ADMIN
    assert _run(door.caller({}, "::1")) is LOCAL_ADMIN
    assert _status(door, {}, FAR) == 403
    assert _status(door, {}, None) == 403
    assert _run(_door(KeyShelf(), insecure=True).caller({}, FAR)) is LOCAL_ADMIN


def test_the_first_key_locks_the_door_for_everybody_at_once() -> None:
    shelf = KeyShelf()
    door = _door(shelf)
    assert _status(door, {}, NEAR) == 200
    secret, key = _made()
    _run(shelf.add(key))
    assert _status(door, {}, NEAR) == 401
    assert _run(door.caller(_bearer(secret), FAR)) == Caller(key.id, "test", "submit", "acme")


def test_who_shows_a_key_is_judged_by_it_at_once() -> None:
    shelf = KeyShelf()
    door = _door(shelf)
    assert _status(door, {}, NEAR) == 200
    secret, key = _made()
    assert _run(door.caller(_bearer(secret), NEAR)) is LOCAL_ADMIN
    _run(shelf.add(key))
    assert _run(door.caller(_bearer(secret), NEAR)) == Caller(key.id, "test", "submit", "acme")


def test_revoking_the_last_key_locks_and_does_not_open() -> None:
    secret, key = _made()
    shelf = KeyShelf(key)
    _run(shelf.revoke(key.id, now_ms=1))
    door = _door(shelf)
    assert _status(door, {}, NEAR) == 401
    assert _status(door, _bearer(secret), NEAR) == 401


def test_both_headers_carry_a_key() -> None:
    secret, key = _made()
    door = _door(KeyShelf(key))
    assert _status(door, {b"x-api-key": secret.encode()}) == 200
    assert _status(door, {b"authorization": b"bearer  " + secret.encode()}) == 200
    assert _status(door, {b"authorization": b"Basic " + secret.encode()}) == 401
    assert _status(door, {b"authorization": b"Basic x", b"x-api-key": secret.encode()}) == 200


def test_a_looked_up_key_is_trusted_for_moments_only() -> None:
    secret, key = _made()
    shelf, clock = KeyShelf(key), HandClock()
    door = _door(shelf, clock)
    assert door.remembered(_bearer(secret)) is None
    for _ in range(5):
        assert _status(door, _bearer(secret)) == 200
    assert shelf.lookups == 1
    assert door.remembered(_bearer(secret)) == Caller(key.id, "test", "submit", "acme")
    _run(shelf.revoke(key.id, now_ms=clock.now_ms()))
    clock.at_s += REMEMBER_S + 0.01
    assert door.remembered(_bearer(secret)) is None
    assert _status(door, _bearer(secret)) == 401


def test_a_key_expires_on_time_even_while_remembered() -> None:
    clock = HandClock()
    secret, key = _made(expires_ms=clock.now_ms() + 500)
    door = _door(KeyShelf(key), clock)
    assert _status(door, _bearer(secret)) == 200
    clock.at_s += 0.5
    assert door.remembered(_bearer(secret)) is None
    assert _status(door, _bearer(secret)) == 401


def test_malformed_keys_never_reach_the_store() -> None:
    shelf = KeyShelf(_made()[1])
    door = _door(shelf)
    for secret in ("hg_", "nonsense", "hg_" + "A" * 33, "é" * 36, "\xff"):
        assert _status(door, {b"x-api-key": secret.encode("latin-1", "replace")}) == 401
    assert shelf.lookups == 0


def test_failures_of_one_address_are_limited_and_good_keys_are_not_locked_out() -> None:
    good, key = _made()
    clock = HandClock()
    door = _door(KeyShelf(key), clock)
    assert _status(door, _bearer(good)) == 200
    statuses = [_status(door, _bearer(_made(seed=seed)[0])) for seed in range(100, 140)]
    assert statuses.count(401) == FAILURES_PER_MINUTE
    assert statuses[-1] == 429
    clock.at_s += 1.9
    assert _status(door, _bearer(good)) == 200
    assert _status(door, _bearer(_made(seed=200)[0]), "198.51.100.1") == 401
    clock.at_s += 60
    assert _status(door, _bearer(_made(seed=201)[0])) == 401


def test_failures_are_counted_per_ipv6_network() -> None:
    limiter = FailureLimiter(HandClock())
    for number in range(int(FAILURES_PER_MINUTE)):
        limiter.failed(f"2001:db8:1:1::{number:x}")
    assert limiter.wait_ms("2001:db8:1:1:ffff::1") > 0
    assert limiter.wait_ms("2001:db8:1:2::1") == 0


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104
        ("localhost", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback(address: str | None, local: bool) -> None:
    assert is_loopback(address) is local
