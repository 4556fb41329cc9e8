"""``headgate budget``: let a run go on beyond its ceilings."""

from __future__ import annotations

from typing import Annotated

import typer

from headgate.cli.remote import DEFAULT_URL, AsJson, Key, Url, service
from headgate.cli.screen import as_json, duration, table


def budget(
    run_id: Annotated[str, typer.Argument(metavar="ID")],
    calls: Annotated[str | None, typer.Option(help="Calls in all, e.g. 120, or +20 more.")] = None,
    model_tokens: Annotated[str | None, typer.Option(help="Model tokens in all, e.g. 100k, or +50k more.")] = None,
    money: Annotated[str | None, typer.Option(help="Money in all, e.g. 5, or +2.5 more.")] = None,
    wall: Annotated[str | None, typer.Option(help="Running time in all, e.g. 10m, or +5m more.")] = None,
    json_output: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Raise the ceilings of a run; one that waits for that goes on. Nothing is lowered."""
    if calls is None and model_tokens is None and money is None and wall is None:
        raise typer.BadParameter("give --calls, --model-tokens, --money or --wall", param_hint="budget")
    with service(url, api_key) as client:
        state = client.raise_budget(run_id, call_count=calls, model_tokens=model_tokens, money=money, wall=wall)
    if json_output:
        as_json(state)
        return
    used, ceilings = state["usage"], state["budget"]
    table(
        ("OF", "USED", "CEILING"),
        [
            ("calls", used["calls"], ceilings["calls"]),
            ("model tokens", used["model_tokens"], ceilings["model_tokens"]),
            ("money", used["money"], ceilings["money"]),
            ("running time", _time(used["wall_ms"]), _time(ceilings["wall_ms"])),
        ],
        empty="",
    )


def _time(ms: int | None) -> str | None:
    return None if ms is None else duration(ms / 1000)
