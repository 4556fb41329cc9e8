"""Checks between parts of a file: names that must exist, names that must differ, numbers that must fit.

Works on the plain values, so that these mistakes are told together with all others; whatever has the wrong
shape here is passed over, because it has been complained about already.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from headgate.config.document import Document, Path
from headgate.config.settings import DEFAULT_LANES, RunQueueSettings, WorkflowSettings
from headgate.config.units import parse_duration, parse_share
from headgate.config.words import did_you_mean

Values = Mapping[str, Any]
T = TypeVar("T")

_RESOURCES = ("tools", "models", "stages")
_NAMED = (*_RESOURCES, "approvals")


def check_references(values: Values, document: Document) -> None:
    """Add every such mistake to the document's problems."""
    resources = {name: kind for kind in _RESOURCES for name in _section(values, kind)}
    _names_differ(values, document)
    _fallbacks(values, resources, document)
    _lane_shares(values, document)
    _workflows(values, resources, document)
    _limits(values, document)
    _tenant_limits(values, document)
    _pause_rules(values, resources, document)
    _breakers(values, document)
    _escalations(values, document)


def _names_differ(values: Values, document: Document) -> None:
    """One name means one resource: calls, labels and URLs do not say which kind."""
    first: dict[str, str] = {}
    for kind in _NAMED:
        for name in _section(values, kind):
            if name in first:
                message = f"{name!r} is already the name of one of the {first[name]}; names must differ"
                document.problem((kind, name), message, key=True)
            else:
                first[name] = kind


def _fallbacks(values: Values, resources: Mapping[str, str], document: Document) -> None:
    next_of: dict[str, list[str]] = {}
    for kind in _RESOURCES:
        for name, one in _entries(values, kind):
            given = one.get("fallback")
            for target in given if isinstance(given, tuple) else (given,):
                if not isinstance(target, str):
                    continue
                if target not in resources:
                    message = f"there is no resource {target!r} to fall back to{did_you_mean(target, resources)}"
                    document.problem((kind, name, "fallback"), message)
                else:
                    next_of.setdefault(name, []).append(target)
    told: set[str] = set()
    for name in next_of:
        loop = _loop_from(name, next_of)
        if loop and told.isdisjoint(loop):
            told.update(loop)
            message = f"fallbacks go in a circle: {' → '.join((*loop, loop[0]))}"
            document.problem((resources[name], name, "fallback"), message)


def _loop_from(name: str, next_of: Mapping[str, list[str]]) -> list[str]:
    """The names of a circle that ``name`` is part of; empty when it is in none."""
    came_from: dict[str, str] = {}
    waiting = [name]
    while waiting:
        here = waiting.pop()
        for following in next_of.get(here, ()):
            if following == name:
                trail = [here]
                while trail[-1] != name:
                    trail.append(came_from[trail[-1]])
                return trail[::-1]
            if following not in came_from:
                came_from[following] = here
                waiting.append(following)
    return []


def _lane_shares(values: Values, document: Document) -> None:
    total = 0.0
    lanes = list(_entries(values, "lanes"))
    for name, lane in lanes:
        share = _parsed(parse_share, lane.get("share"))
        if share is None:
            continue
        total += share
        if total > 1 + 1e-9:
            message = f"the lanes' shares add up to {total:.0%} here; together they may take 100 %"
            document.problem(("lanes", name, "share"), message)
            return
    if total > 1 - 1e-9 and any(lane.get("share") is None for _, lane in lanes):
        name = next(name for name, lane in lanes if lane.get("share") is None)
        message = f"nothing is left for lane {name!r}, which names no share: the others take 100 %"
        document.problem(("lanes", name), message, key=True)


def _workflows(values: Values, resources: Mapping[str, str], document: Document) -> None:
    lanes = tuple(_section(values, "lanes")) or tuple(DEFAULT_LANES)
    for name, workflow in _entries(values, "workflows"):
        path: Path = ("workflows", name)
        lane = workflow.get("lane", WorkflowSettings.model_fields["lane"].default)
        if isinstance(lane, str) and lane not in lanes:
            if "lane" in workflow:
                document.problem((*path, "lane"), f"there is no lane {lane!r}{did_you_mean(lane, lanes)}")
            else:
                message = f"workflow {name!r} needs a lane, because there is no lane {lane!r}; write lane: {lanes[0]}"
                document.problem(path, message, key=True)
        _queue(workflow, path, document)
        queues = _section(values, "approvals")
        _ladder(workflow, path, resources, queues, document)
        whom = workflow.get("on_failure")
        if isinstance(whom, str) and whom.startswith("approval:") and (queue := whom.partition(":")[2]) not in queues:
            message = f"there is no approval queue {queue!r}{did_you_mean(queue, queues)}"
            document.problem((*path, "on_failure"), message)
        asks = workflow.get("asks")
        for index, queue in enumerate(asks if isinstance(asks, tuple) else ()):
            if isinstance(queue, str) and queue not in queues:
                message = f"there is no approval queue {queue!r}{did_you_mean(queue, queues)}"
                document.problem((*path, "asks", index), message)


def _queue(workflow: Values, path: Path, document: Document) -> None:
    queue = workflow.get("queue")
    if not isinstance(queue, dict):
        return
    depth = queue.get("depth", RunQueueSettings.model_fields["depth"].default)
    per_tenant = queue.get("per_tenant")
    if isinstance(depth, int) and isinstance(per_tenant, int) and per_tenant > depth:
        message = f"per_tenant ({per_tenant}) is larger than the whole queue's depth ({depth})"
        document.problem((*path, "queue", "per_tenant"), message)


def _ladder(
    workflow: Values, path: Path, resources: Mapping[str, str], queues: Mapping[str, Any], document: Document
) -> None:
    rungs = workflow.get("degrade")
    before = 0.0
    for index, rung in enumerate(rungs if isinstance(rungs, tuple) else ()):
        if not isinstance(rung, dict):
            continue
        at = _parsed(parse_share, rung.get("at"))
        if at is not None:
            if at <= before:
                message = f"the rungs of a ladder must rise: {at:.0%} comes after {before:.0%}"
                document.problem((*path, "degrade", index, "at"), message)
            before = max(before, at)
        models = rung.get("models")
        for source, target in models.items() if isinstance(models, dict) else ():
            inner = (*path, "degrade", index, "models", source)
            if source not in resources:
                message = f"there is no resource {source!r}{did_you_mean(source, resources)}"
                document.problem(inner, message, key=True)
            if isinstance(target, str) and target not in resources:
                document.problem(inner, f"there is no resource {target!r}{did_you_mean(target, resources)}")
        asked = rung.get("require_approval")
        for name, queue in asked.items() if isinstance(asked, dict) else ():
            if isinstance(queue, str) and queue not in queues:
                message = f"there is no approval queue {queue!r}{did_you_mean(queue, queues)}"
                document.problem((*path, "degrade", index, "require_approval", name), message)


def _limits(values: Values, document: Document) -> None:
    """A workflow may live in code alone, so only what looks like a misspelling of a configured one is a mistake."""
    workflows = list(_section(values, "workflows"))
    limits = values.get("limits")
    called: set[str] = set()
    for index, rule in enumerate(limits if isinstance(limits, tuple) else ()):
        own = rule.get("name") if isinstance(rule, dict) else None
        if isinstance(own, str):
            if own in called:
                message = f"another limit is called {own!r} already; names must differ"
                document.problem(("limits", index, "name"), message)
            called.add(own)
        _limit_names(rule, index, values, document)
        name = rule.get("workflow") if isinstance(rule, dict) else None
        if isinstance(name, str) and name not in workflows:
            close = difflib.get_close_matches(name, workflows, n=1, cutoff=0.8)
            if close:
                message = f"there is no workflow {name!r}; did you mean {close[0]!r}?"
                document.problem(("limits", index, "workflow"), message)


def _limit_names(rule: Any, index: int, values: Values, document: Document) -> None:
    """A limit's lane and resource must exist."""
    if not isinstance(rule, dict):
        return
    known = {
        "lane": dict.fromkeys(_section(values, "lanes") or DEFAULT_LANES),
        "resource": dict.fromkeys(name for kind in _RESOURCES for name in _section(values, kind)),
    }
    for key, names in known.items():
        name = rule.get(key)
        if isinstance(name, str) and name not in names:
            document.problem(("limits", index, key), f"there is no {key} {name!r}{did_you_mean(name, names)}")


def _tenant_limits(values: Values, document: Document) -> None:
    """A tenant's own amounts belong to a named limit of which every tenant has a bucket."""
    rules = values.get("limits")
    named = {
        rule["name"]: rule
        for rule in (rules if isinstance(rules, tuple) else ())
        if isinstance(rule, dict) and isinstance(rule.get("name"), str)
    }
    for tenant, one in _entries(values, "tenants"):
        own = one.get("limits")
        for name in own if isinstance(own, dict) else ():
            path: Path = ("tenants", tenant, "limits", name)
            if name not in named:
                message = f"there is no limit with the name {name!r}{did_you_mean(str(name), named)}"
                document.problem(path, message, key=True)
                continue
            per = named[name].get("per")
            if not {"tenant", "user"} & set(per if isinstance(per, tuple) else (per,)):
                message = f"tenants share the limit {name!r}; only a limit per tenant or user has amounts of a tenant"
                document.problem(path, message, key=True)


def _pause_rules(values: Values, resources: Mapping[str, str], document: Document) -> None:
    """What a rule holds back must exist, and cannot be the resource that it watches: nothing would show recovery."""
    known = {
        "resource": resources,
        "lane": dict.fromkeys(_section(values, "lanes") or DEFAULT_LANES),
        "workflow": _section(values, "workflows"),
    }
    for kind in _RESOURCES:
        for name, one in _entries(values, kind):
            rule = one.get("pause_when")
            if not isinstance(rule, dict):
                continue
            targets = rule.get("pauses")
            for index, target in enumerate(targets if isinstance(targets, tuple) else ()):
                message = _wrong_target(target, name, known, thins=rule.get("thin_to") is not None)
                if message:
                    document.problem((kind, name, "pause_when", "pauses", index), message)


def _wrong_target(target: Any, watched: str, known: Mapping[str, Mapping[str, Any]], *, thins: bool) -> str | None:
    if not isinstance(target, str):
        return None  # told by the settings themselves
    what, _, name = target.partition(":")
    if what not in known or not name:
        return f"{target!r} is nothing that can be paused; write resource:NAME, lane:NAME or workflow:NAME"
    if target == f"resource:{watched}":
        return f"{watched!r} cannot pause itself: nothing would show that it is well again; its breaker does that"
    if what == "workflow":  # it may live in code alone, so only what looks like a misspelling is a mistake
        if thins:
            return "a workflow can be paused, not thinned; name its lane, or leave thin_to out"
        close = difflib.get_close_matches(name, known[what], n=1, cutoff=0.8)
        alike = close and name not in known[what]
        return f"there is no workflow {name!r}; did you mean {close[0]!r}?" if alike else None
    return None if name in known[what] else f"there is no {what} {name!r}{did_you_mean(name, known[what])}"


def _breakers(values: Values, document: Document) -> None:
    for kind in _RESOURCES:
        for name, one in _entries(values, kind):
            breaker = one.get("breaker")
            if not isinstance(breaker, dict):
                continue
            first = _parsed(parse_duration, breaker.get("open_for", "10s"))
            most = _parsed(parse_duration, breaker.get("open_at_most", "300s"))
            if first is not None and most is not None and first > most:
                key = "open_for" if "open_for" in breaker else "open_at_most"
                message = f"open_for ({first:g}s) is longer than open_at_most ({most:g}s)"
                document.problem((kind, name, "breaker", key), message)


def _escalations(values: Values, document: Document) -> None:
    """Questions that nobody answers go from queue to queue; they must get somewhere."""
    queues = _section(values, "approvals")
    next_of: dict[str, list[str]] = {}
    for name, one in _entries(values, "approvals"):
        target, escalates = one.get("escalate_to"), one.get("on_expiry") == "escalate"
        if escalates and target is None:
            message = "escalate needs to know where to; write escalate_to: and the name of another queue"
            document.problem(("approvals", name, "on_expiry"), message)
        elif target is not None and not escalates:
            message = "escalate_to does something only with on_expiry: escalate"
            document.problem(("approvals", name, "escalate_to"), message)
        elif isinstance(target, str) and target not in queues:
            message = f"there is no approval queue {target!r}{did_you_mean(target, queues)}"
            document.problem(("approvals", name, "escalate_to"), message)
        elif isinstance(target, str):
            next_of[name] = [target]
    told: set[str] = set()
    for name in next_of:
        loop = _loop_from(name, next_of)
        if loop and told.isdisjoint(loop):
            told.update(loop)
            message = f"escalations go in a circle: {' → '.join((*loop, loop[0]))}"
            document.problem(("approvals", name, "escalate_to"), message)


def _section(values: Values, name: str) -> Values:
    section = values.get(name)
    return section if isinstance(section, dict) else {}


def _entries(values: Values, name: str) -> Iterator[tuple[str, Values]]:
    for key, one in _section(values, name).items():
        if isinstance(one, dict):
            yield key, one


def _parsed(parse: Callable[[Any], T], value: Any) -> T | None:
    if value is None:
        return None
    try:
        return parse(value)
    except ValueError:
        return None  # told by the settings themselves
