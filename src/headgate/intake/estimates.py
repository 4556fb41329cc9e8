"""What a run that asks to come in is expected to take: by runs like it, by the settings, and by what its caller says.

Profiles are learned by workers and read from the store about once a second; an estimate is a lookup.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

from headgate.config.settings import GateSettings, WorkflowSettings
from headgate.errors import InvalidRequest
from headgate.model.cost import NO_HINT, CostHint, Estimate, Evidence, ResourceUse
from headgate.policy import cost_profile
from headgate.policy.cost_profile import LEAST_ENDS, LEAST_OF_WORKFLOW, WHOLE, Profile
from headgate.store.protocols import Store

_PLAIN = WorkflowSettings()


class Estimates:
    """Cost profiles as this process knows them."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._profiles: dict[tuple[str, int], Profile] = {}
        self._revision = 0
        self._of_class = lru_cache(maxsize=4096)(self._estimate)

    async def refresh(self, store: Store) -> None:
        """Read what was learned since the last time."""
        changed = await store.profiles.all(after=self._revision)
        for known in changed:
            self._profiles[known.workflow, known.size_class] = known.profile
            self._revision = known.revision
        if changed:
            self._of_class.cache_clear()

    def of(self, workflow: str, input_bytes: int, hint: CostHint = NO_HINT) -> Estimate:
        """What a run of the workflow with an input of that size is expected to take.

        A hint raises an estimate freely. It lowers one only as far as half of such runs needed (p50); where no run
        has ended yet it is taken as it is.
        """
        kind = cost_profile.size_class(input_bytes)
        estimate = self._of_class(workflow, kind)
        return estimate if hint is NO_HINT else self._hinted(estimate, workflow, kind, hint)

    def profile(self, workflow: str, kind: int = WHOLE) -> Profile | None:
        """What was learned of a workflow, or of one size class of it."""
        return self._profiles.get((workflow, kind))

    def report(self, workflow: str) -> dict[str, Any]:
        """A workflow's profile as plain JSON values, with the estimate for an ordinary run."""
        profile = self.profile(workflow) or Profile()
        estimate = self._estimate(workflow, WHOLE)
        return {
            "ends": profile.ends,
            "evidence": estimate.evidence.value,
            "estimate": _plain(estimate),
            "p50": {name: _round(cost_profile.quantile(profile, name, high=False)) for name in profile.trackers},
            "p90": {name: _round(cost_profile.quantile(profile, name, high=True)) for name in profile.trackers},
            "resources": {
                name: {
                    "calls": _round(use.calls),
                    "busy_s": _round(use.busy_s),
                    "model_tokens": round(use.model_tokens),
                }
                for name, use in cost_profile.uses(profile, high=False).items()
            },
        }

    def _speaking(self, workflow: str, kind: int) -> tuple[Profile | None, Evidence]:
        own = self._profiles.get((workflow, kind))
        if own is not None and kind != WHOLE and own.ends >= LEAST_ENDS:
            return own, Evidence.SIZE_CLASS
        whole = self._profiles.get((workflow, WHOLE))
        if whole is not None and whole.ends >= LEAST_OF_WORKFLOW:
            return whole, Evidence.WORKFLOW
        return None, Evidence.NONE

    def _estimate(self, workflow: str, kind: int) -> Estimate:
        settings = self._settings.workflows.get(workflow, _PLAIN)
        profile, evidence = self._speaking(workflow, kind)
        expects = settings.expects
        if profile is None:
            return _declared(settings)
        high = settings.estimate == "p90"
        values = {name: cost_profile.quantile(profile, name, high=high) for name in cost_profile.QUANTITIES}
        budget = settings.budget
        return Estimate(
            model_tokens=_at_most(values["model_tokens"], budget.model_tokens),
            money=_at_most(values["money"], budget.money),
            calls=_at_most(values["calls"], budget.calls),
            ran_s=values["ran_s"],
            wall_s=_at_most(values["wall_s"], budget.wall),
            memory=expects.memory or 0,
            parallel=round(values["parallel"]) or expects.parallel or 0,
            per_resource=cost_profile.uses(profile, high=high),
            evidence=evidence,
            stated=frozenset() if expects.memory is None else frozenset({"memory"}),
        )

    def _hinted(self, estimate: Estimate, workflow: str, kind: int, hint: CostHint) -> Estimate:
        profile, _ = self._speaking(workflow, kind)
        budget = self._settings.workflows.get(workflow, _PLAIN).budget
        changes: dict[str, float] = {}
        for name, wanted in hint.given():
            least = 0.0 if profile is None else cost_profile.quantile(profile, name, high=False)
            changes[name] = _at_most(max(wanted, least), getattr(budget, name))
        stated = {name for name, value in changes.items() if value == getattr(hint, name)}
        return replace(
            estimate,
            model_tokens=changes.get("model_tokens", estimate.model_tokens),
            money=changes.get("money", estimate.money),
            calls=changes.get("calls", estimate.calls),
            per_resource=_scaled(estimate, changes.get("model_tokens")),
            stated=estimate.stated - changes.keys() | stated,
        )


def hint_of(cost: Mapping[str, float] | None) -> CostHint:
    """What a caller says that a run will take.

    Raises:
        InvalidRequest: it names something else than model_tokens, money and calls.
    """
    if not cost:
        return NO_HINT
    known = [field.name for field in fields(CostHint)]
    unknown = sorted(cost.keys() - set(known))
    if unknown:
        raise InvalidRequest([(f"cost.{name[:60]}", f"unknown; known: {', '.join(known)}") for name in unknown[:10]])
    return CostHint(**cost)


def _declared(settings: WorkflowSettings) -> Estimate:
    """What the settings say of an ordinary run; a ceiling stands in where they say nothing, but states nothing."""
    expects, budget = settings.expects, settings.budget
    calls = budget.calls if "calls" in budget.model_fields_set else 0.0  # the ordinary ceiling says nothing
    found = Estimate(
        model_tokens=expects.model_tokens or budget.model_tokens or 0.0,
        money=expects.money or budget.money or 0.0,
        calls=expects.calls or calls,
        memory=expects.memory or 0,
        parallel=expects.parallel or 0,
        stated=frozenset(expects.model_dump(exclude_none=True)),
    )
    return found if found == Estimate() else replace(found, evidence=Evidence.DECLARED)


def _scaled(estimate: Estimate, model_tokens: float | None) -> Mapping[str, ResourceUse]:
    """The resources' model tokens in proportion, once a hint changed their sum."""
    if model_tokens is None or not estimate.model_tokens:
        return estimate.per_resource
    factor = model_tokens / estimate.model_tokens
    return {name: replace(use, model_tokens=use.model_tokens * factor) for name, use in estimate.per_resource.items()}


def _at_most(value: float, ceiling: float | None) -> float:
    return value if ceiling is None else min(value, ceiling)


def _plain(estimate: Estimate) -> dict[str, float]:
    names = ("model_tokens", "money", "calls", "ran_s", "wall_s", "memory", "parallel")
    return {name: _round(getattr(estimate, name)) for name in names if getattr(estimate, name)}


def _round(value: float) -> float:
    return float(f"{value:.4g}")
