"""What operators set by hand, fleet-wide: pause, resume, drain, undrain, override, reset, controls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from headgate.cli.remote import DEFAULT_URL, AsJson, Key, Url, service
from headgate.cli.screen import as_json, clean, first_line, moment, table
from headgate.model.control import FLEET

WEIGHT_MAX = 1000
Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET", help="resource:, lane:, workflow: or tenant:NAME; override also limit:, budget:NAME, fleet."
    ),
]
Reason = Annotated[str, typer.Option(help="Why, in words for others; it is recorded.")]
For = Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Over by itself after this, e.g. 30m.")]


def pause(
    target: Target,
    reason: Reason,
    stop_running: Annotated[
        bool, typer.Option("--stop-running", help="Not for resources: running runs stop at their next step.")
    ] = False,
    expires: For = None,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Stop a resource, lane, workflow or tenant everywhere. Runs are still queued within their bounds."""
    with service(url, api_key) as client:
        stops = True if stop_running else None
        _show_state(client.control(target, pause=True, stop_running=stops, reason=reason, expires=expires))


def resume(target: Target, reason: Reason = "resumed", url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """End a pause that was set by hand."""
    with service(url, api_key) as client:
        _show_state(client.control(target, pause=False, reason=reason))


def drain(reason: Reason, expires: For = None, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Take in no new runs anywhere, and finish what waits and runs, until `headgate undrain`."""
    with service(url, api_key) as client:
        _show_state(client.control(FLEET, pause=True, reason=reason, expires=expires))
        left = client.capacity()["runs"]
    unfinished = sum(left.get(state, 0) for state in ("queued", "running", "suspended"))
    print(f"left to finish: {unfinished}; look again with headgate capacity")


def undrain(reason: Reason = "undrained", url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Take in new runs again."""
    with service(url, api_key) as client:
        _show_state(client.control(FLEET, pause=False, reason=reason))


def override(
    target: Target,
    reason: Reason,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Resources: calls in flight; limits: unfinished runs; budgets.")
    ] = None,
    rate: Annotated[str | None, typer.Option(help="Resources: calls; limits: runs; budgets; e.g. 100/min.")] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="Workflows and lanes: runs that may wait.")] = None,
    max_age: Annotated[str | None, typer.Option(help="Workflows and lanes: the longest wait, e.g. 10m.")] = None,
    share: Annotated[str | None, typer.Option(help="Lanes: part of the worker slots, e.g. 30%.")] = None,
    weight: Annotated[float | None, typer.Option(help="Tenants: the share beside other tenants.")] = None,
    shed_at: Annotated[str | None, typer.Option(help="fleet: sheds sheddable lanes from this pressure.")] = None,
    model_tokens: Annotated[str | None, typer.Option(help="Models, and limits that count them: 1M/min.")] = None,
    expires: For = None,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Use other numbers than the declared ones, in place of an earlier override of the target."""
    numbers: dict[str, Any] = {
        "limit": limit, "rate": rate, "depth": depth, "max_age": max_age, "share": share, "weight": weight,
        "shed_at": shed_at, "model_tokens": model_tokens,
    }  # fmt: skip
    if weight is not None and not 0 < weight <= WEIGHT_MAX:  # also what is no number
        raise typer.BadParameter(f"must be above 0 and at most {WEIGHT_MAX}", param_hint="--weight")
    if all(value is None for value in numbers.values()):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in numbers)
        raise typer.BadParameter(f"give one of {names}", param_hint="override")
    with service(url, api_key) as client:
        _show_state(client.control(target, reason=reason, expires=expires, **numbers))


def reset(target: Target, reason: Reason = "reset", url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Go back to what is declared: ends pause and override."""
    with service(url, api_key) as client:
        _show_state(client.reset(target, reason=reason))


def controls(
    target: Annotated[str | None, typer.Argument(metavar="[TARGET]", help="Only of this target.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many lines of the record.")] = 10,
    json_output: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Show what is set by hand or held back by a rule, and who changed what."""
    with service(url, api_key) as client:
        found = client.controls(target=target, limit=limit)
    if json_output:
        as_json(found)
        return
    table(
        ("TARGET", "SETS", "DECLARED", "UNTIL", "BY", "REASON"),
        [
            (
                one["target"],
                one["sets"],
                one.get("declared"),
                moment(one["until"]) or "reset",
                one["by"],
                first_line(one["reason"]),
            )
            for one in found["controls"]
        ],
        empty="nothing is set by hand",
    )
    if found["changes"]:
        print()
        table(
            ("AT", "TARGET", "BEFORE", "AFTER", "BY", "REASON"),
            [
                (moment(one["at"]), one["target"], one["before"], one["after"], one["by"], first_line(one["reason"]))
                for one in found["changes"]
            ],
            empty="",
        )


def _show_state(state: Mapping[str, Any]) -> None:
    sets = [
        one["sets"] + (f" until {moment(one['until'])}" if one["until"] else "") for one in state["controls"]
    ] or ["as declared"]
    print(clean(f"{state['target']}: {'; '.join(sets)}"))
