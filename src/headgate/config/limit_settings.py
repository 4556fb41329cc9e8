"""Settings of limits over keys of runs, and of what the whole fleet carries."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from headgate.config.fields import Count, Mode, Name, Settings, TenantName
from headgate.config.units import Amount, Number, Rate, RateField, Size, shown

LEVELS = ("fleet", "workflow", "lane", "resource", "tenant", "user", "api_key")
RATES = ("runs", "calls", "model_tokens", "money")
_INPUT = re.compile(r"^input(\.[A-Za-z0-9_-]{1,64}){1,8}$")
_PATHS_AT_MOST = 4


def parse_per(value: Any) -> str | tuple[str, ...]:
    """What has a bucket of its own: a level, ``input.`` and a dotted path, or a list of them."""
    paths = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not 1 <= len(paths) <= _PATHS_AT_MOST or len({str(one) for one in paths}) < len(paths):
        raise ValueError(f"names one to {_PATHS_AT_MOST} different keys, for example [tenant, input.region]")
    for path in paths:
        if not isinstance(path, str) or (path not in LEVELS and not _INPUT.fullmatch(path)):
            raise ValueError(
                f"{shown(path)} is not a key; write one of {', '.join(LEVELS)}, a path into the input such as "
                "input.customer.id, or a list of them"
            )
    if len(paths) > 1 and "fleet" in paths:
        raise ValueError("fleet is everything, so it stands alone")
    return paths[0] if len(paths) == 1 else paths


PerField = Annotated[str | tuple[str, ...], BeforeValidator(parse_per)]


class FleetBudget(Settings):
    """What the whole fleet carries."""

    model_tokens: RateField | None = None
    """Of all models together."""
    money: RateField | None = None
    """In the unit of the models' prices."""
    tool_calls: Count | None = None
    """Tool calls in flight at once."""
    memory: Size | None = None
    """Resident memory of a serving process above which nothing new is admitted; and what the running runs' declared
    memory may add up to in the whole fleet."""
    runs: Count | None = None
    """Runs running at once."""
    waiting: Count | None = None
    """Runs that may wait for their first start, over all workflows and lanes."""


class LimitAmounts(Settings):
    """What a bucket gives."""

    runs: RateField | None = None
    calls: RateField | None = None
    model_tokens: RateField | None = None
    money: RateField | None = None
    concurrent: Count | None = None
    """Unfinished runs: waiting, running or suspended."""

    @property
    def rates(self) -> dict[str, Rate]:
        """The rates that are set, by what they count."""
        return {unit: rate for unit in RATES if (rate := getattr(self, unit)) is not None}


class LimitRule(LimitAmounts):
    """Limits for each key of one level (every tenant, every user …), for all of them together, or for the fleet."""

    name: Name | None = None
    """How operators call it (``limit:NAME``) to change it at run time."""
    per: PerField
    workflow: Name | None = None
    """Only for runs of this workflow."""
    lane: Name | None = None
    """Only for runs in this lane."""
    tenant: TenantName | None = None
    """Only for this tenant."""
    resource: Name | None = None
    """Counts only calls, and their model tokens, on this resource."""
    each: LimitAmounts | None = None
    """For each key; the same as writing the amounts in the rule itself."""
    total: LimitAmounts | None = None
    """For all keys together."""
    burst: Amount | None = None
    """How much may be taken at once; the whole window's worth by default."""
    mode: Mode = Mode.ENFORCE

    @property
    def paths(self) -> tuple[str, ...]:
        """The keys that make a bucket; none is one bucket for all."""
        paths = (self.per,) if isinstance(self.per, str) else self.per
        return () if paths == ("fleet",) else paths

    @property
    def amounts(self) -> LimitAmounts:
        """What each bucket gives."""
        if self.each is not None:
            return self.each
        return LimitAmounts(**{unit: getattr(self, unit) for unit in (*RATES, "concurrent")})

    @property
    def of_tenant(self) -> bool:
        """Whether every bucket belongs to one tenant, so that a tenant can have amounts of its own."""
        return bool({"tenant", "user"} & set(self.paths)) or self.tenant is not None

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        flat = [unit for unit in (*RATES, "concurrent") if getattr(self, unit) is not None]
        if self.each is not None and flat:
            raise ValueError(f"write {flat[0]} inside each, or leave each out: both mean every key")
        parts = [self.amounts, self.total or LimitAmounts()]
        counted = [unit for part in parts for unit in (*RATES, "concurrent") if getattr(part, unit) is not None]
        if not counted:
            raise ValueError(
                "a limit needs runs, calls, model_tokens, money or concurrent, for example {per: user, runs: 10/min}"
            )
        if self.burst is not None and sum(len(part.rates) for part in parts) != 1:
            raise ValueError("burst belongs to a limit with one rate; write a rule for each")
        if self.resource is not None or "resource" in self.paths:
            wrong = [unit for unit in counted if unit not in ("calls", "model_tokens")]
            if wrong:
                raise ValueError(f"a limit of a resource counts calls or model_tokens, not {wrong[0]}")
        return self


class TenantSettings(Settings):
    """What is particular about one tenant."""

    weight: Annotated[Number, Field(gt=0, le=1000)] = 1.0
    limits: dict[Name, LimitAmounts] = {}
    """Amounts of its own, by the name of a limit per tenant or user."""
