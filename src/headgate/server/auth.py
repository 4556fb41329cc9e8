"""Who is calling, and what they may do.

API keys are ``hg_`` + 27 base-62 characters (160 random bits) + a 6-character checksum, so that a mistyped or
truncated key is refused without asking the store and secret scanners can tell a real one. Only the SHA-256 of a key
is stored: with 160 random bits there is nothing to guess, so a slow hash would only slow down intake.

The tenant comes from the key. A key without a tenant acts for any; a key with one sees nothing of the others,
whatever its role. While the store has no key at all, callers on this machine act as admins (`Authenticator`).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import secrets
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Protocol

from headgate.clock import Clock
from headgate.intake.submission import NAME_MAX
from headgate.model.reason import Reason
from headgate.policy.token_bucket import RateTake, take
from headgate.server.answers import ProblemError, problem, temporary
from headgate.store.protocols import ApiKey, Keys

PREFIX = "hg_"
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_CHARACTERS = 27
CHECK_CHARACTERS = 6
KEY_LENGTH = len(PREFIX) + RANDOM_CHARACTERS + CHECK_CHARACTERS

REMEMBER_S = 2.0
"""How long a looked-up key is trusted; a revoked key stops working within this time."""
REMEMBERED_MAX = 10_000
FAILURES_PER_MINUTE = 30.0
"""Failed attempts of one address that are looked up; beyond, they are refused unseen."""
ADDRESSES_MAX = 10_000


class Right(StrEnum):
    """What an endpoint needs."""

    SUBMIT = "submit runs"
    READ = "read runs"
    CANCEL = "cancel runs"
    REPLAY = "replay, dismiss and purge dead letters"
    DECIDE = "answer approvals"
    BUDGET = "raise the ceilings of runs"
    OBSERVE = "read capacity and metrics"
    CONTROL = "pause, override and reset"
    KEYS = "manage keys"


ROLES: Mapping[str, frozenset[Right]] = {
    "submit": frozenset({Right.SUBMIT, Right.READ, Right.CANCEL}),
    "read": frozenset({Right.READ, Right.OBSERVE}),
    "operate": frozenset(Right) - {Right.KEYS},
    "admin": frozenset(Right),
}
"""What each role may do."""
_OF_THE_FLEET = (Right.OBSERVE, Right.CONTROL)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request."""

    key_id: str
    label: str
    role: str
    tenant: str | None
    """``None``: any tenant."""

    def may(self, right: Right) -> bool:
        """Whether the role allows it. Observing shows, and controls change, the whole fleet: both take a key without
        a tenant."""
        return right in ROLES.get(self.role, frozenset()) and (right not in _OF_THE_FLEET or self.tenant is None)

    def demand(self, right: Right) -> None:
        """Raises:
        ProblemError: 403, the role (or the key's tenant) does not allow it.
        """
        if self.may(right):
            return
        if right in _OF_THE_FLEET and right in ROLES.get(self.role, frozenset()):
            detail = f"this concerns all tenants; a key bound to tenant {self.tenant!r} may not {right.value}"
        else:
            detail = f"a key with the role {self.role!r} may not {right.value}"
        raise ProblemError(problem(403, Reason.FORBIDDEN, detail, headers=[(b"x-should-retry", b"false")]))


LOCAL_ADMIN = Caller(key_id="local", label="local", role="admin", tenant=None)
"""Callers of a server without keys."""


class Chance(Protocol):
    """The part of `secrets` (and of `random.Random`) that key making needs."""

    def choice(self, seq: Sequence[str], /) -> str: ...


def new_key(
    *,
    role: str,
    tenant: str | None,
    label: str,
    now_ms: int,
    expires_ms: int | None = None,
    rng: Chance = secrets,
) -> tuple[str, ApiKey]:
    """A fresh secret, to be shown once, and the row to store. ``rng`` is only ever replaced in tests.

    Raises:
        ValueError: there is no such role, or ``tenant`` is no name that a tenant can have.
    """
    if role not in ROLES:
        raise ValueError(f"unknown role {role!r}; the roles are {', '.join(ROLES)}")
    if tenant is not None and not (1 <= len(tenant) <= NAME_MAX and tenant.isprintable()):
        # above all "": whoever meant one tenant must not get a key that somebody reads as one for all
        raise ValueError(f"{tenant[:40]!r} is not a tenant: 1 to {NAME_MAX} printable characters")
    random = "".join(rng.choice(BASE62) for _ in range(RANDOM_CHARACTERS))
    secret = f"{PREFIX}{random}{_checksum(random)}"
    key_id = "key_" + "".join(rng.choice(BASE62) for _ in range(12))
    return secret, ApiKey(
        id=key_id,
        hash=digest_of(secret),
        tenant=tenant,
        role=role,
        label=label,
        created_ms=now_ms,
        expires_ms=expires_ms,
    )


def well_formed(secret: str) -> bool:
    """Whether ``secret`` could be one of our keys: prefix, length, alphabet and checksum."""
    if len(secret) != KEY_LENGTH or not secret.startswith(PREFIX) or not secret.isascii():
        return False
    random, check = secret[len(PREFIX) : -CHECK_CHARACTERS], secret[-CHECK_CHARACTERS:]
    return random.isalnum() and _checksum(random) == check


def digest_of(secret: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode("ascii"))
    digits = ""
    for _ in range(CHECK_CHARACTERS):
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits


class FailureLimiter:
    """Counts failed attempts per address (IPv6: per /64), for as many addresses as it may remember."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._arrivals: OrderedDict[str, float] = OrderedDict()

    def wait_ms(self, address: str) -> int:
        """0 if another failure of this address may be looked into, else milliseconds until then. Takes nothing."""
        wish, now_ms = self._wish(address, 1.0)
        return math.ceil(take(self._arrivals.get(wish.key), wish, now_ms=now_ms).wait_ms)

    def failed(self, address: str) -> None:
        """Count one failure."""
        wish, now_ms = self._wish(address, 1.0)
        self._arrivals[wish.key] = take(self._arrivals.get(wish.key), wish, now_ms=now_ms).arrival_ms
        self._arrivals.move_to_end(wish.key)
        if len(self._arrivals) > ADDRESSES_MAX:
            self._arrivals.popitem(last=False)

    def _wish(self, address: str, amount: float) -> tuple[RateTake, float]:
        key = _network(address)
        wish = RateTake(key=key, name=key, per_window=FAILURES_PER_MINUTE, window_ms=60_000, amount=amount)
        return wish, 1000 * self._clock.monotonic()


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return parsed.exploded[:19] if parsed.version == 6 else address


class Authenticator:
    """Turns a request's headers into a `Caller`.

    Keyless rule: as long as no key was ever stored, callers from this machine are admins; as soon as one exists
    (also one that another process made), every request needs a key. Revoking the last key locks the server; it
    does not open it.
    """

    def __init__(self, keys: Callable[[], Keys], *, clock: Clock, rng: Random, insecure: bool = False) -> None:
        self._keys = keys
        self._clock = clock
        self._rng = rng
        self.insecure = insecure
        self._known: OrderedDict[str, tuple[float, ApiKey]] = OrderedDict()
        """Digest → (trusted until, key), keys that were good when last seen."""
        self._keyed = False
        self._failures = FailureLimiter(clock)

    def remembered(self, headers: Mapping[bytes, bytes]) -> Caller | None:
        """The caller, if the key was looked up moments ago. Does no I/O."""
        secret = _bearer(headers)
        if secret is None:
            return None
        entry = self._known.get(digest_of(secret))
        if entry is None or entry[0] < self._clock.monotonic() or not self._good(entry[1]):
            return None
        return _caller(entry[1])

    async def caller(self, headers: Mapping[bytes, bytes], address: str | None) -> Caller:
        """The caller.

        Raises:
            ProblemError: 401 without a valid key, 429 after too many failures, 403 from elsewhere while keyless.
            StoreError: keys cannot be read now.
        """
        secret = _bearer(headers)
        if await self.keyless():
            if self.insecure or is_loopback(address):
                return LOCAL_ADMIN
            raise ProblemError(
                problem(403, Reason.FORBIDDEN, "this server has no API keys yet and serves only its own machine")
            )
        if secret is None:
            raise _unauthenticated("send an API key as Authorization: Bearer hg_… or X-API-Key")
        digest = digest_of(secret)
        known = self._known.get(digest)
        if known is not None and known[0] >= self._clock.monotonic() and self._good(known[1]):
            return _caller(known[1])
        # Keys that were good lately are looked up without asking the limiter: behind one proxy all callers share
        # an address, and somebody else's wrong keys must not lock them out.
        where = address or "unknown"
        if known is None and (wait_ms := self._failures.wait_ms(where)) > 0:
            raise ProblemError(
                temporary(
                    Reason.RATE_LIMITED,
                    "too many failed authentications from this address",
                    scope="authentication",
                    retry_after_ms=round(max(1000, wait_ms) * (1 + self._rng.random() / 4)),
                )
            )
        key = await self._keys().by_hash(digest) if well_formed(secret) else None
        if key is None or not hmac.compare_digest(key.hash, digest) or not self._good(key):
            self._known.pop(digest, None)
            self._failures.failed(where)
            raise _unauthenticated("this API key is not known, has expired or was revoked")
        self._remember(digest, key)
        return _caller(key)

    async def keyless(self) -> bool:
        """Whether no key was ever stored. Looked up for every request until there is one: with the first key, also
        one that another process made, nobody is an admin for nothing any more, not even for a moment."""
        if not self._keyed:
            self._keyed = bool(await self._keys().all())
        return not self._keyed

    def _good(self, key: ApiKey) -> bool:
        now_ms = self._clock.now_ms()
        return (key.expires_ms is None or key.expires_ms > now_ms) and (
            key.revoked_ms is None or key.revoked_ms > now_ms
        )

    def _remember(self, digest: str, key: ApiKey) -> None:
        self._known[digest] = (self._clock.monotonic() + REMEMBER_S, key)
        self._known.move_to_end(digest)
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)


def is_loopback(address: str | None) -> bool:
    """Whether an IP address is this machine's own (``127.0.0.0/8``, ``::1``, also as mapped IPv6)."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _bearer(headers: Mapping[bytes, bytes]) -> str | None:
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, secret = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            return secret.strip().decode("latin-1")
    plain = headers.get(b"x-api-key")
    return None if plain is None else plain.strip().decode("latin-1")


def _caller(key: ApiKey) -> Caller:
    return Caller(key.id, key.label, key.role, key.tenant)


def _unauthenticated(detail: str) -> ProblemError:
    return ProblemError(
        problem(
            401,
            Reason.UNAUTHENTICATED,
            detail,
            headers=[(b"www-authenticate", b'Bearer realm="headgate"'), (b"x-should-retry", b"false")],
        )
    )
