"""What can be set by hand on what, judged against the settings before anything is stored."""

from __future__ import annotations

from collections.abc import Collection

from headgate.config.settings import GateSettings
from headgate.config.words import did_you_mean
from headgate.errors import InvalidRequest
from headgate.model.control import Control, ControlKind

REASON_MAX = 500
_LIMIT_MOST = 100_000
_DEPTH_MOST = 10_000_000
_OVERRIDABLE = {
    "resource": ("limit", "rate"),
    "workflow": ("depth",),
    "limit": ("rate", "limit"),
    "lane": (),
}


def check(control: Control, settings: GateSettings, *, workflows: Collection[str]) -> None:
    """Refuse what cannot be applied. ``workflows`` are those that exist in code alone.

    Raises:
        InvalidRequest: everything that is wrong with it.
    """
    problems = []
    target_problem = _target(control.target, settings, workflows)
    if target_problem:
        problems.append(("target", target_problem))
    what = control.target.partition(":")[0]
    if control.kind is ControlKind.PAUSE and what == "limit":
        problems.append(("pause", "a limit cannot be paused; override its rate, or pause a lane or a workflow"))
    if control.kind is ControlKind.OVERRIDE and what in _OVERRIDABLE:
        problems += _numbers(control, what)
    if not control.reason.strip():
        problems.append(("reason", "is required: say why, in words for others"))
    elif len(control.reason) > REASON_MAX:
        problems.append(("reason", f"must have at most {REASON_MAX} characters"))
    if not control.holds(control.set_ms):
        problems.append(("expires", "has passed already"))
    if problems:
        raise InvalidRequest(problems)


def _target(target: str, settings: GateSettings, workflows: Collection[str]) -> str | None:
    what, _, name = target.partition(":")
    known: dict[str, Collection[str]] = {
        "resource": [*settings.tools, *settings.models, *settings.stages],
        "lane": list(settings.lanes),
        "workflow": [*settings.workflows, *workflows],
        "limit": [rule.name for rule in settings.limits if rule.name is not None],
    }
    if what == "limit":
        name, of_tenant, tenant = name.partition("@")
        rule = next((rule for rule in settings.limits if rule.name == name), None)
        if rule is not None and of_tenant and not (tenant and rule.of_tenant):
            return f"limit:NAME@TENANT needs a limit per tenant or user, and {name!r} is shared by tenants"
    if what not in known or not name:
        return "must be resource:NAME, lane:NAME, workflow:NAME, limit:NAME or limit:NAME@TENANT"
    if name in known[what]:
        return None
    kind = "named limit" if what == "limit" else what
    return f"there is no {kind} {name!r}{did_you_mean(name, known[what])}"


def _numbers(control: Control, what: str) -> list[tuple[str, str]]:
    given = {"limit": control.limit_to, "rate": control.rate_amount, "depth": control.depth_to}
    fitting = _OVERRIDABLE[what]
    problems = [
        (name, f"does not belong to a {what}; {_fitting(what)}")
        for name, value in given.items()
        if value is not None and name not in fitting
    ]
    if not problems and all(given[name] is None for name in fitting):
        problems.append(("target", _fitting(what)))
    for name, value, most in (("limit", control.limit_to, _LIMIT_MOST), ("depth", control.depth_to, _DEPTH_MOST)):
        if value is not None and not 1 <= value <= most:
            problems.append((name, f"must be 1 to {most}; to let nothing through, pause it"))
    return problems


def _fitting(what: str) -> str:
    fitting = _OVERRIDABLE[what]
    return f"a {what} takes {' and '.join(fitting)}" if fitting else f"a {what} can only be paused"
