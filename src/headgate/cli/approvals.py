"""``headgate approvals``: questions that runs put to people."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headgate.cli.remote import DEFAULT_URL, AsJson, Key, Url, service
from headgate.cli.screen import as_json, clean, compact, complain, moment, table

app = typer.Typer(help="Questions that wait for a person.", no_args_is_help=True)

ApprovalId = Annotated[str, typer.Argument(metavar="ID", help="As `headgate approvals list` shows it.")]
Note = Annotated[str | None, typer.Option(help="Words for the record.")]


@app.command("list")
def list_approvals(
    queue: Annotated[str | None, typer.Option(help="Only of this queue.")] = None,
    json_output: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """List what waits for an answer, in the order in which it should be answered."""
    with service(url, api_key) as client:
        waiting = client.approvals(queue=queue)
    if json_output:
        as_json(waiting)
        return
    table(
        ("ID", "QUEUE", "LANE", "RUN", "TENANT", "NEEDED", "QUESTION"),
        [
            (
                one["id"],
                one["queue"],
                one.get("lane", ""),
                one["run_id"],
                one["tenant"],
                moment(_needed(one)),
                compact(one["payload"]),
            )
            for one in waiting
        ],
        empty="nothing waits for an answer",
    )


@app.command()
def approve(approval_id: ApprovalId, note: Note = None, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Say yes: the run goes on."""
    _decide(approval_id, True, note, url, api_key)


@app.command()
def deny(approval_id: ApprovalId, note: Note = None, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Say no: the run is told so."""
    _decide(approval_id, False, note, url, api_key)


def _needed(question: dict[str, Any]) -> str | None:
    """The moment after which nobody needs the answer. Older services do not tell the run's deadline."""
    return min(
        (one for one in (question["expires_at"], question.get("deadline_at")) if one is not None), default=None
    )


def _decide(approval_id: str, approved: bool, note: str | None, url: str, api_key: str | None) -> None:
    with service(url, api_key) as client:
        answer = client.decide(approval_id, approved, note=note)
    wanted = "approved" if approved else "denied"
    if answer["state"] != wanted:
        complain(f"{approval_id} was already {answer['state']} by {answer.get('decided_by') or 'its time limit'}")
        raise typer.Exit(1)
    print(f"{wanted} {clean(approval_id)}")
