"""All resources of a gate, built from its settings."""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable, Iterable

from headgate.clock import Clock
from headgate.config.settings import GateSettings, ModelSettings, ResourceSettings
from headgate.config.units import Rate
from headgate.errors import UnknownResource
from headgate.guard.fleet import FleetSlots
from headgate.guard.model_tokens import Buckets, KeyedLimits, TokenHolds, wish
from headgate.guard.resource import Resource
from headgate.guard.retries import SharedRunRetries
from headgate.guard.statistics import ResourceStatistics
from headgate.guard.turnstile import Turnstile
from headgate.observe.bus import EventBus
from headgate.policy.token_bucket import RateTake


class Resources:
    """Resources by name. They share the fleet's bounds and the limits per tenant, user and workflow."""

    def __init__(self, settings: GateSettings, *, clock: Clock, rng: random.Random, bus: EventBus) -> None:
        self._clock = clock
        self._rng = rng
        self._bus = bus
        self._budget = settings.budget
        self._weights = {name: tenant.weight for name, tenant in settings.tenants.items()}
        self._keyed = KeyedLimits(settings)
        self._buckets = Buckets()
        self._run_retries = SharedRunRetries()
        self._tool_calls: FleetSlots | None = None
        if settings.budget.tool_calls is not None:
            self._tool_calls = FleetSlots(settings.budget.tool_calls)
        self._by_name: dict[str, Resource] = {}
        self._tokens: dict[str, TokenHolds] = {}
        kinds: tuple[tuple[str, Iterable[tuple[str, ResourceSettings]]], ...] = (
            ("tool", settings.tools.items()),
            ("model", settings.models.items()),
            ("stage", settings.stages.items()),
        )
        for kind, named in kinds:
            for name, resource in named:
                if name in self._by_name:
                    other = self._by_name[name].kind
                    raise ValueError(f"{name!r} is configured as a {other} and as a {kind}; names are unique")
                self._by_name[name] = self._build(name, kind, resource)

    def get(self, name: str) -> Resource:
        """The resource of that name.

        Raises:
            UnknownResource: there is none; names alike are suggested.
        """
        resource = self._by_name.get(name)
        if resource is None:
            alike = difflib.get_close_matches(name, self._by_name, n=1)
            hint = f"; did you mean {alike[0]!r}?" if alike else ""
            raise UnknownResource(f"no tool, model or stage is called {name!r}{hint}")
        return resource

    def all(self) -> tuple[Resource, ...]:
        """Every resource, in the order of the settings."""
        return tuple(self._by_name.values())

    def statistics(self) -> dict[str, ResourceStatistics]:
        """A snapshot of each resource, by name."""
        return {name: resource.statistics() for name, resource in self._by_name.items()}

    def watch(self, memory_pressure: float) -> None:
        """About once a second: let every limiter see the time and the memory pressure (0..1) of this process.

        Without it limiters learn from calls alone; a resource that nobody calls any more needs no watching.
        """
        for resource in self._by_name.values():
            resource.reap()
            resource.turnstile.watch(memory_pressure)

    def use(self, settings: GateSettings, of_limit: Callable[[str | None, Rate, str | None], Rate]) -> None:
        """From now on, with the numbers of these settings for what resources share: model tokens, tool calls in
        flight, weights of tenants. ``of_limit`` tells the model tokens of a named limit, given the declared ones,
        for a tenant. Names and kinds of resources stay those that the gate was made with."""
        self._budget = settings.budget
        self._keyed.rate_of = of_limit
        self._weights.clear()
        self._weights.update({name: tenant.weight for name, tenant in settings.tenants.items()})
        if self._tool_calls is not None and settings.budget.tool_calls is not None:
            self._tool_calls.limit = settings.budget.tool_calls
            self._tool_calls.tell()
        for name, tokens in self._tokens.items():
            tokens.use(self._shared_tokens(name, settings.models[name]))
            self._by_name[name].turnstile.pump()

    def close(self) -> None:
        """Let idle threads end. Resources can be used again afterwards."""
        for resource in self._by_name.values():
            resource.close()

    def _build(self, name: str, kind: str, settings: ResourceSettings) -> Resource:
        tokens: TokenHolds | None = None
        if isinstance(settings, ModelSettings):
            shared = self._shared_tokens(name, settings)
            tokens = TokenHolds(settings.tokens_per_call, shared=shared, buckets=self._buckets, keyed=self._keyed)
            self._tokens[name] = tokens
        turnstile = Turnstile(
            name,
            kind,
            settings,
            clock=self._clock,
            rng=self._rng,
            bus=self._bus,
            weights=self._weights,
            fleet=self._tool_calls if kind == "tool" else None,
            tokens=tokens,
            run_retries=self._run_retries,
        )
        return Resource(turnstile, settings, clock=self._clock, rng=self._rng, lookup=self.get)

    def _shared_tokens(self, name: str, settings: ModelSettings) -> tuple[RateTake, ...]:
        """The buckets of model tokens that all calls of a model share."""
        shared = []
        if settings.model_tokens is not None:
            shared.append(wish(f"resource:{name}", f"resource:{name}", settings.model_tokens))
        if self._budget.model_tokens is not None:
            shared.append(wish("fleet", "fleet", self._budget.model_tokens))
        return tuple(shared)
