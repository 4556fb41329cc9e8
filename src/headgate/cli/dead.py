"""``headgate dead``: runs that ended without success and wait for a person or a replay."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from headgate.cli.remote import DEFAULT_URL, AsJson, Key, Url, service
from headgate.cli.runs import Before, Limit, RunId, show_run, show_runs
from headgate.cli.screen import as_json, clean, complain, first_line, moment, table
from headgate.config.units import parse_duration, parse_rate
from headgate.intake.replays import SCOPE

app = typer.Typer(help="Dead letters: runs that ended without success.")

BATCH = 100

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Only these; otherwise all that fit.")]
Workflow = Annotated[str | None, typer.Option(help="Only of this workflow.")]
Tenant = Annotated[str | None, typer.Option(help="Only of this tenant.")]
Lane = Annotated[str | None, typer.Option(help="Only of this lane.")]
Cause = Annotated[list[str] | None, typer.Option("--reason", help="Only if they ended so; may be repeated.")]
OlderThan = Annotated[str | None, typer.Option(metavar="DURATION", help="Only those that ended longer ago.")]
Since = Annotated[str | None, typer.Option(metavar="DURATION", help="Only those that ended within so long.")]
Every = Annotated[bool, typer.Option("--all", help="Without any other option: really all.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say which ones.")]
Why = Annotated[str, typer.Option(help="In words for others; it is recorded.")]


@app.callback(invoke_without_command=True)
def _without_command(context: typer.Context) -> None:
    group = context.command
    if context.invoked_subcommand is None and isinstance(group, TyperGroup):
        command = group.commands["list"]
        with command.make_context("list", [], parent=context) as inner:
            command.invoke(inner)


@app.command("list")
def list_dead(
    workflow: Workflow = None,
    tenant: Tenant = None,
    lane: Lane = None,
    reason: Cause = None,
    older_than: OlderThan = None,
    since: Since = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Also those that need nobody any more.")] = False,
    record: Annotated[bool, typer.Option("--record", help="Also who dismissed and purged what.")] = False,
    limit: Limit = 20,
    before: Before = None,
    json_output: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """List dead letters, newest first. The same as `headgate dead`."""
    _check_durations(older_than, since)
    with service(url, api_key) as client:
        page = client.dead(
            workflow=workflow, tenant=tenant, lane=lane, reason=reason or None, older_than=older_than, since=since,
            resolved=resolved, record=record, before=before, limit=limit,
        )  # fmt: skip
    if json_output and record:
        as_json(page)
        return
    show_runs({"runs": page["dead"], "next": page["next"]}, json_output, empty="no dead letters")
    if record:
        print()
        table(
            ("AT", "WHAT", "RUN", "WORKFLOW", "TENANT", "CAUSE", "BY", "WHY"),
            [
                (moment(one["at"]), one["action"], one["run_id"], one["workflow"], one["tenant"], one["cause"],
                 one["by"], first_line(one["why"]))
                for one in page["record"]
            ],
            empty="nobody has dismissed or purged any",
        )  # fmt: skip


@app.command()
def show(run_id: RunId, json_output: AsJson = False, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Show a dead letter: cause, input, steps, what became of its attempts, and its replays."""
    with service(url, api_key) as client:
        one = client.dead_letter(run_id)
    if json_output:
        as_json(one)
        return
    show_run(one)
    if one["history"]:
        print()
        table(
            ("AT", "START", "OWNER", "BECAME", "REASON", "DETAIL"),
            [
                (moment(line["at"]), line["start"], line["owner"], line["state"], line["reason"],
                 first_line(line["detail"]))
                for line in one["history"]
            ],
            empty="",
        )  # fmt: skip
    if one["replays"]:
        print()
        show_runs({"runs": one["replays"], "next": None}, False, empty="")


@app.command()
def replay(
    run_ids: Ids = None,
    workflow: Workflow = None,
    tenant: Tenant = None,
    lane: Lane = None,
    reason: Cause = None,
    older_than: OlderThan = None,
    since: Since = None,
    include_expired: Annotated[
        bool, typer.Option("--include-expired", help="Also those that were too old to matter.")
    ] = False,
    rate: Annotated[str | None, typer.Option(help="At most so many, e.g. 10/min.")] = None,
    assume: Annotated[
        str | None, typer.Option(metavar="done|not_done", help="What became of `once` steps of unknown outcome.")
    ] = None,
    at_most: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    every: Every = False,
    dry_run: DryRun = False,
    json_output: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Carry dead letters out again, oldest first. Stops at the first refusal and says how far it came."""
    _check_durations(older_than, since)
    try:
        if rate is not None:
            parse_rate(rate)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--rate") from error
    which = _which(run_ids, workflow, tenant, lane, reason, older_than, since, every=every)
    with service(url, api_key) as client:
        _in_batches(
            "replayed",
            lambda after, limit: client.replay_dead(
                include_expired=include_expired, assume=assume, rate=rate, after=after, limit=limit, dry_run=dry_run,
                **which,
            ),
            at_most,
            json_output,
        )  # fmt: skip


@app.command()
def dismiss(
    why: Why,
    run_ids: Ids = None,
    workflow: Workflow = None,
    tenant: Tenant = None,
    lane: Lane = None,
    reason: Cause = None,
    older_than: OlderThan = None,
    since: Since = None,
    every: Every = False,
    dry_run: DryRun = False,
    json_output: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Take dead letters off the list. They stay readable and can still be replayed."""
    which = _which(run_ids, workflow, tenant, lane, reason, older_than, since, every=every)
    with service(url, api_key) as client:
        _in_batches(
            "dismissed",
            lambda after, limit: client.dismiss_dead(why=why, after=after, limit=limit, dry_run=dry_run, **which),
            None,
            json_output,
        )


@app.command()
def purge(
    why: Why,
    run_ids: Ids = None,
    workflow: Workflow = None,
    tenant: Tenant = None,
    lane: Lane = None,
    reason: Cause = None,
    older_than: OlderThan = None,
    since: Since = None,
    every: Every = False,
    dry_run: DryRun = False,
    json_output: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Delete dead letters for good, with their input, steps and history."""
    which = _which(run_ids, workflow, tenant, lane, reason, older_than, since, every=every)
    with service(url, api_key) as client:
        _in_batches(
            "purged",
            lambda after, limit: client.purge_dead(why=why, after=after, limit=limit, dry_run=dry_run, **which),
            None,
            json_output,
        )


def _which(
    ids: list[str] | None,
    workflow: str | None,
    tenant: str | None,
    lane: str | None,
    reason: list[str] | None,
    older_than: str | None,
    since: str | None,
    *,
    every: bool,
) -> Any:
    _check_durations(older_than, since)
    named = {
        "ids": ids or None, "workflow": workflow, "tenant": tenant, "lane": lane, "reason": reason or None,
        "older_than": older_than, "since": since,
    }  # fmt: skip
    which: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if not which and not every:
        raise typer.BadParameter("say which ones, by id or by option, or --all", param_hint="dead letters")
    return which or {"all": True}


def _check_durations(*texts: str | None) -> None:
    for text in texts:
        try:
            if text is not None:
                parse_duration(text)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--older-than or --since") from error


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _in_batches(
    name: str, ask: Callable[[str | None, int], dict[str, Any]], at_most: int | None, json_output: bool
) -> None:
    """Ask for batch after batch until none is left or one is refused; only its own rate is waited for."""
    done: list[Mapping[str, Any]] = []
    skipped: list[Mapping[str, Any]] = []
    after: str | None = None
    stopped: Mapping[str, Any] | None = None
    dry_run = False
    while at_most is None or len(done) < at_most:
        answer = ask(after, BATCH if at_most is None else min(BATCH, at_most - len(done)))
        dry_run = answer["dry_run"]
        found = [{"id": run_id} for run_id in answer["ids"]] if dry_run else answer[name]
        done += found
        skipped += answer["skipped"]
        if not json_output:
            for one in found:
                became = f" as {clean(one['replay'])}" if "replay" in one else ""
                print(f"{'would be ' if dry_run else ''}{name} {clean(one['id'])}{became}", flush=True)
            for one in answer["skipped"]:
                complain(f"left {one['id']}: {one['reason']}: {one['detail']}")
        after, stopped = answer["next"], answer["stopped"]
        if stopped is not None and stopped["scope"] == SCOPE and stopped["retry_after_ms"] is not None:
            _pause(stopped["retry_after_ms"] / 1000)
        elif stopped is not None or after is None:
            break
    if json_output:
        as_json({name: done, "skipped": skipped, "stopped": stopped, "next": after})
    else:
        became = f"would be {name}" if dry_run else name
        print(f"{len(done)} {became}, {len(skipped)} left" + (f"; go on after {after}" if stopped else ""))
    if stopped is not None and stopped["scope"] != SCOPE:
        complain(f"refused: {stopped['reason']} ({stopped['scope']}): {stopped['detail']}")
        raise typer.Exit(1)
