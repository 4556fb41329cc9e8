"""What can be set by hand on what, judged against the settings before anything is stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from headgate.config.settings import GateSettings
from headgate.config.words import did_you_mean
from headgate.errors import InvalidRequest, UnknownTarget
from headgate.intake.effective import FLOWS, PLACES
from headgate.model.control import Control, ControlKind

REASON_MAX = 500
FORMS = "resource:NAME, lane:NAME, workflow:NAME, tenant:NAME, limit:NAME, limit:NAME@TENANT, budget:NAME or fleet"
_PAUSABLE = ("resource", "lane", "workflow", "tenant", "fleet")
_OVERRIDABLE = {
    "resource": ("limit", "rate"),
    "model": ("limit", "rate", "model_tokens"),
    "workflow": ("depth", "max_age"),
    "lane": ("share", "depth", "max_age"),
    "limit": ("rate", "limit", "model_tokens"),
    "tenant": ("weight",),
    "budget": ("limit",),
    "budget rate": ("rate",),
    "fleet": ("shed_at",),
}
_MOST = {"limit": 100_000, "depth": 10_000_000, "bytes": 1 << 60}


def known_targets(settings: GateSettings, workflows: Collection[str]) -> dict[str, Collection[str]]:
    """The names of every kind of target. ``workflows`` are those that exist in code alone; tenants are those that
    are declared."""
    budget = settings.budget
    return {
        "resource": [*settings.tools, *settings.models, *settings.stages],
        "lane": list(settings.lanes),
        "workflow": [*settings.workflows, *workflows],
        "tenant": list(settings.tenants),
        "limit": [rule.name for rule in settings.limits if rule.name is not None],
        "budget": [name for name in (*PLACES, *FLOWS) if getattr(budget, name) is not None],
        "fleet": [""],
    }


def check(control: Control, settings: GateSettings, known: Mapping[str, Collection[str]]) -> None:
    """Refuse what cannot be applied.

    Raises:
        InvalidRequest: everything that is wrong with it. UnknownTarget: there is nothing of that name.
    """
    problems = []
    form_problem = _form(control.target, settings, known)
    if form_problem:
        problems.append(("target", form_problem))
    else:
        _exists(control.target, known)
        what = _what(control.target, settings)
        if control.kind is ControlKind.PAUSE and what not in ("model", *_PAUSABLE):
            problems.append(("pause", "only a resource, a lane, a workflow, a tenant or the fleet can be paused"))
        if control.stops_running and (
            control.kind is not ControlKind.PAUSE or what in ("model", "resource", "fleet")
        ):
            problems.append(("stop_running", "belongs to the pause of a lane, a workflow or a tenant"))
        if control.kind is ControlKind.OVERRIDE:
            problems += _numbers(control, what, settings)
    if not control.reason.strip():
        problems.append(("reason", "is required: say why, in words for others"))
    elif len(control.reason) > REASON_MAX:
        problems.append(("reason", f"must have at most {REASON_MAX} characters"))
    if not control.holds(control.set_ms):
        problems.append(("expires", "has passed already"))
    if problems:
        raise InvalidRequest(problems)


def numbers_of(control: Control) -> dict[str, float]:
    """What an override sets, by the names that people use; of rates the amount."""
    numbers = {
        "limit": control.limit_to,
        "rate": control.rate_amount,
        "depth": control.depth_to,
        "max_age": control.age_s,
        "share": control.share,
        "weight": control.weight,
        "shed_at": control.shed_at,
        "model_tokens": control.tokens_amount,
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _what(target: str, settings: GateSettings) -> str:
    what, _, name = target.partition(":")
    if what == "resource" and name in settings.models:
        return "model"
    return "budget rate" if what == "budget" and name in FLOWS else what


def _form(target: str, settings: GateSettings, known: Mapping[str, Collection[str]]) -> str | None:
    what, _, name = target.partition(":")
    if what not in known or (not name and target != "fleet"):
        return f"must be {FORMS}"
    if what == "limit":
        name, of_tenant, tenant = name.partition("@")
        rule = next((rule for rule in settings.limits if rule.name == name), None)
        if rule is not None and of_tenant and not (tenant and rule.of_tenant):
            return f"limit:NAME@TENANT needs a limit per tenant or user, and {name!r} is shared by tenants"
    return None


def _exists(target: str, known: Mapping[str, Collection[str]]) -> None:
    what, _, name = target.partition(":")
    if what == "limit":
        name = name.partition("@")[0]
    if name not in known[what]:
        kind = {"limit": "named limit", "budget": "declared budget of the fleet"}.get(what, what)
        raise UnknownTarget(f"there is no {kind} {name[:100]!r}{did_you_mean(name, list(known[what])[:1000])}")


def _numbers(control: Control, what: str, settings: GateSettings) -> list[tuple[str, str]]:
    given, fitting = numbers_of(control), _OVERRIDABLE[what]
    problems = [
        (name, f"does not belong to {control.target}; {_fitting(what)}") for name in given if name not in fitting
    ]
    if not problems and not given:
        problems.append(("target", _fitting(what)))
    for name in ("limit", "depth"):
        most = _MOST["bytes" if control.target == "budget:memory" else name]
        if name in given and not 1 <= given[name] <= most:
            problems.append((name, f"must be 1 to {most}; to let nothing through, pause it"))
    for name, top in (("share", 1.0), ("shed_at", 1.0), ("weight", 1000.0)):
        if name in given and not 0 < given[name] <= top:
            problems.append((name, f"must be above 0 and at most {top:g}"))
    if what == "limit":
        rule = next(one for one in settings.limits if one.name == control.target[6:].partition("@")[0])
        counted = {
            "model_tokens": ("model tokens", rule.amounts.model_tokens is not None),
            "rate": ("anything over time", bool(rule.amounts.rates)),
            "limit": ("unfinished runs", rule.amounts.concurrent is not None),
        }
        for name, (words, counts) in counted.items():
            if name in given and not counts:
                problems.append((name, f"the limit {rule.name!r} does not count {words}"))
    return problems


def _fitting(what: str) -> str:
    fitting = _OVERRIDABLE[what]
    words = {"model": "a model", "fleet": "the fleet", "budget rate": "this budget"}.get(what, f"a {what}")
    return f"{words} takes {' and '.join(fitting)}"
