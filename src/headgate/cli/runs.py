"""Commands about runs: submit, list, look at, follow, cancel, replay."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.remote import DEFAULT_URL, AsJson, Key, Url, service
from headgate.cli.screen import (
    as_json,
    clean,
    compact,
    complain,
    count,
    duration,
    fields,
    first_line,
    milliseconds,
    moment,
    table,
)
from headgate.config.units import parse_amount, parse_duration
from headgate.model.run import TERMINAL, RunState

if TYPE_CHECKING:
    from headgate.client import Client

COSTS = ("calls", "model_tokens", "money")
"""What a caller may say that a run will take."""
TREE_AT_MOST = 100
"""Sub-runs that one run is shown with."""

RunId = Annotated[str, typer.Argument(metavar="ID")]
Tenant = Annotated[str | None, typer.Option(help="Whose run it is; an API key may fix this.")]
Before = Annotated[str | None, typer.Option(metavar="ID", help="Only runs older than this one: the next page.")]
Limit = Annotated[int, typer.Option(min=1, max=500, help="At most so many, newest first.")]


def submit(
    workflow: str,
    input: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="The input: JSON, - for standard input, or @FILE.")
    ] = None,
    tenant: Tenant = None,
    user: Annotated[str | None, typer.Option(help="On whose behalf.")] = None,
    lane: Annotated[str | None, typer.Option(help="Priority class; the workflow's own by default.")] = None,
    deadline: Annotated[str | None, typer.Option(metavar="DURATION", help="Such as 2m.")] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Idempotency key: the same key and input lead to the same run.")
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=AMOUNT", help="What it will take: model_tokens=12k, money=0.3, calls=8; repeatable."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit code 1 unless it succeeded.")] = False,
    json_output: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Ask for a run. Prints its id, place in line and expected start."""
    value = read_input(input)
    _check_duration(deadline)
    costs = _read_costs(cost or ())
    with service(url, api_key) as client:
        accepted = client.submit(
            workflow, value, tenant=tenant, user=user, lane=lane, deadline=deadline, idempotency_key=key, cost=costs
        )
        if not wait:
            _show_accepted(accepted, json_output)
            return
        if not json_output:
            _show_accepted(accepted, json_output)
        ended = client.wait(accepted["id"])
    if json_output:
        as_json(ended)
    else:
        _show_end(ended)
    if ended["state"] != RunState.SUCCEEDED:
        raise typer.Exit(1)


def runs(
    state: Annotated[list[RunState] | None, typer.Option(help="Only in this state; may be repeated.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Only of this workflow.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    lane: Annotated[str | None, typer.Option(help="Only of this lane.")] = None,
    parent: Annotated[str | None, typer.Option(metavar="ID", help="Only sub-runs of this run.")] = None,
    limit: Limit = 20,
    before: Before = None,
    json_output: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """List runs, newest first."""
    states = [one.value for one in state or ()]
    with service(url, api_key) as client:
        page = client.runs(
            workflow=workflow, tenant=tenant, lane=lane, states=states, before=before, limit=limit, parent=parent
        )
    show_runs(page, json_output, empty="no runs")


def run(
    run_id: RunId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Tell every change until it ends.")] = False,
    json_output: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Show one run: where it stands, its steps, and where the time went."""
    with service(url, api_key) as client:
        if follow:
            _follow(client, run_id, json_output)
        shown = client.run(run_id)
        below = [] if json_output else _tree(client, shown, 0)
    if json_output:
        as_json(shown)
        return
    show_run(shown)
    if below:
        print()
        table(("SUB-RUN", "WORKFLOW", "STATE", "REASON", "DETAIL"), below[:TREE_AT_MOST], empty="")
        if len(below) > TREE_AT_MOST:
            print(f"and more: headgate runs --parent {clean(run_id)}", file=sys.stderr)


def cancel(run_id: RunId, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """End a waiting run, or ask a running one to stop."""
    with service(url, api_key) as client:
        left = client.cancel(run_id)
    if left["state"] == RunState.CANCELLED:
        print(f"cancelled {clean(run_id)}")
    elif left["state"] in TERMINAL:
        complain(f"{run_id} had already ended: {left['state']} ({left.get('reason')})")
        raise typer.Exit(1)
    else:
        print(f"{clean(run_id)} was asked to stop; it does so at its next step")


def replay(
    run_id: RunId,
    assume: Annotated[
        str | None,
        typer.Option(metavar="done|not_done", help="What became of a `once` step whose outcome is unknown."),
    ] = None,
    json_output: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Carry a dead letter out again, as a new run that keeps the finished steps."""
    if assume not in (None, "done", "not_done"):
        raise typer.BadParameter(f"{assume!r} is neither done nor not_done", param_hint="--assume")
    with service(url, api_key) as client:
        accepted = client.replay(run_id, assume=assume)
    _show_accepted(accepted, json_output)


def read_input(argument: str | None) -> Any:
    """The JSON value that ``argument`` is or points to; ``None`` without one.

    Raises:
        typer.BadParameter: it is not JSON, or cannot be read.
    """
    if argument is None:
        return None
    source, text = "the input", argument
    try:
        if argument == "-":
            source, text = "standard input", sys.stdin.read()
        elif argument.startswith("@"):
            source, text = argument[1:], Path(argument[1:]).read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise typer.BadParameter(f"{source} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{source} is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        message = f'{source} is not JSON: {error}; write for example \'{{"title": "hello"}}\''
        raise typer.BadParameter(message) from error


def _read_costs(words: Sequence[str]) -> dict[str, float] | None:
    """``model_tokens=12k`` as numbers; ``None`` without any."""
    costs: dict[str, float] = {}
    for word in words:
        name, _, amount = (part.strip() for part in word.partition("="))
        try:
            if name not in COSTS or name in costs:
                raise ValueError(f"{word!r} is not NAME=AMOUNT with each of {', '.join(COSTS)} at most once")
            costs[name] = parse_amount(amount)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--cost") from error
    return costs or None


def _check_duration(text: str | None) -> None:
    try:
        if text is not None:
            parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--deadline") from error


def _show_accepted(accepted: Mapping[str, Any], json_output: bool) -> None:
    if json_output:
        as_json(accepted)
        return
    words = [clean(accepted["id"]), clean(accepted["state"]), f"lane {clean(accepted.get('lane'))}"]
    if accepted["state"] == RunState.QUEUED:
        words.append(_place(accepted))
    if accepted.get("collapsed"):
        words.append("the run of another submission with the same content, whose lane and deadline hold")
    elif accepted.get("created") is False:
        words.append("known already, nothing new was stored")
    if accepted.get("degraded"):
        words.append("on a cheaper path")
    print(", ".join(words), flush=True)


def _place(standing: Mapping[str, Any]) -> str:
    position, eta = standing.get("position"), standing.get("eta_s")
    place = "next in line" if position == 0 else f"{position} ahead of it"
    finish, latest = standing.get("finish_s"), standing.get("finish_p90_s")
    ends = "" if finish is None else f", ends in about {duration(finish)}"
    if ends and latest is not None:
        ends += f" (9 in 10 within {duration(latest)})"
    if eta is None:
        return place + ends
    return f"{place}, {'starts at once' if eta < 1 else f'starts in about {duration(eta)}'}{ends}"


def _show_end(ended: Mapping[str, Any]) -> None:
    timings = ended.get("timings") or {}
    took = milliseconds(timings.get("ran_ms"))
    print(f"{clean(ended['state'])}{f' after {took}' if took else ''}")
    if ended["state"] == RunState.SUCCEEDED:
        as_json(ended.get("result"))
    else:
        complain(f"{ended.get('reason')}: {ended.get('detail') or 'no details'}")


def show_runs(page: Mapping[str, Any], json_output: bool, *, empty: str) -> None:
    found = page["runs"]
    if json_output:
        as_json(found)
        return
    table(
        ("ID", "WORKFLOW", "TENANT", "LANE", "STATE", "REASON", "SUBMITTED", "DETAIL"),
        [
            (one["id"], one["workflow"], one["tenant"], one["lane"], one["state"], one["reason"],
             moment(one["submitted_at"]), first_line(one.get("detail")))
            for one in found
        ],
        empty=empty,
    )  # fmt: skip
    if page.get("next"):
        print(f"older ones: --before {clean(page['next'])}", file=sys.stderr)


def _follow(client: Client, run_id: str, json_output: bool) -> None:
    """Tell every change until the run has ended; a stream that ends sooner is opened again."""
    told_steps = 0
    while True:
        for event in client.events(run_id):
            if json_output:
                print(compact(event), flush=True)
            else:
                steps = event.get("steps") or []
                for step in steps[told_steps:]:
                    took = milliseconds(step["ran_ms"])
                    print(f"  step {step['seq']}: {clean(step['resource'])} {clean(step['state'])}, {took}")
                told_steps = max(told_steps, len(steps))
                print(_standing(event), flush=True)
            if event.get("state") in TERMINAL:
                return


def _standing(event: Mapping[str, Any]) -> str:
    words = [clean(event.get("state"))]
    if event.get("state") == RunState.QUEUED:
        words.append(_place(event))
    elif event.get("reason") and event["reason"] != event.get("state"):
        words.append(clean(event["reason"]))
    return ", ".join(words)


def _used(usage: Mapping[str, Any]) -> str:
    calls, tokens = usage.get("calls", 0), usage.get("model_tokens", 0)
    return f"{count(calls, 'call')}, {count(tokens, 'model token')}"


def show_run(one: Mapping[str, Any]) -> None:
    timings, usage = one.get("timings") or {}, one.get("usage") or {}
    below = one.get("usage_with_sub_runs")
    queued = one["state"] == RunState.QUEUED
    fields(
        [
            ("id", one["id"]),
            ("workflow", one["workflow"]),
            ("tenant", one["tenant"] if one.get("user") is None else f"{one['tenant']} / {one['user']}"),
            ("lane", one["lane"]),
            ("state", one["state"]),
            ("reason", one.get("reason")),
            ("detail", one.get("detail")),
            ("place", _place(one) if queued else None),
            ("degraded", "yes, on a cheaper path" if one.get("degraded") else None),
            ("stop asked", "yes" if one.get("cancel_requested") and one["state"] not in TERMINAL else None),
            ("replay of", one.get("replay_of")),
            ("sub-run of", one.get("parent_id")),
            ("submitted", moment(one.get("submitted_at"))),
            ("deadline", moment(one.get("deadline"))),
            ("queued for", milliseconds(timings.get("queued_ms"))),
            ("ran for", milliseconds(timings.get("ran_ms"))),
            ("of that", _shares(timings)),
            ("used", _used(usage)),
            ("with sub-runs", _used(below) if below is not None and below != usage else None),
            ("input", first_line(compact(one.get("input")))),
            ("result", None if one.get("result") is None else compact(one["result"])),
        ]
    )
    steps = one.get("steps") or []
    if steps:
        print()
        _show_steps(steps)


def _tree(client: Client, one: Mapping[str, Any], indent: int) -> list[tuple[Any, ...]]:
    """The rows of everything below a run, oldest first."""
    rows: list[tuple[Any, ...]] = []
    if not one.get("spawned"):
        return rows
    for child in reversed(client.runs(parent=one["id"], limit=TREE_AT_MOST + 1)["runs"]):
        if len(rows) > TREE_AT_MOST:
            break
        name = f"{'- ' * indent}{child['id']}"
        rows.append((name, child["workflow"], child["state"], child["reason"], first_line(child.get("detail"))))
        rows += _tree(client, child, indent + 1)
    return rows


def _shares(timings: Mapping[str, Any]) -> str | None:
    parts = [
        f"{label} {milliseconds(timings[name])}"
        for name, label in (("model_ms", "models"), ("tool_ms", "tools"), ("call_queued_ms", "waiting for slots"))
        if timings.get(name)
    ]
    return ", ".join(parts) or None


def _show_steps(steps: list[dict[str, Any]]) -> None:
    table(
        ("STEP", "RESOURCE", "FUNCTION", "EFFECT", "STATE", "QUEUED", "RAN", "TRIES", "INSTEAD"),
        [
            (step["seq"], step["resource"], step["function"], step["effect"], step["state"],
             milliseconds(step["queued_ms"]), milliseconds(step["ran_ms"]), step["tries"], step["degraded"])
            for step in steps
        ],
        empty="",
    )  # fmt: skip
