"""``headgate keys``: API keys, made and revoked in the store itself, so that the first one needs no server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from headgate.cli.screen import complain, table
from headgate.clock import REAL_CLOCK
from headgate.config.load import load_settings
from headgate.config.units import parse_duration
from headgate.store.protocols import ApiKey, Keys

app = typer.Typer(help="API keys of the service.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration that says where the store is.")]
CONFIG = Path("headgate.yaml")
T = TypeVar("T")


class Role(StrEnum):
    """What a key may do."""

    SUBMIT = "submit"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


@app.command()
def create(
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.SUBMIT,
    tenant: Annotated[
        str | None, typer.Option(help="Whose runs it may submit and see; without it, everybody's.")
    ] = None,
    label: Annotated[str, typer.Option(help="Words to recognise it by.")] = "",
    expires: Annotated[str | None, typer.Option(metavar="DURATION", help="Such as 90d; never by default.")] = None,
    config: Config = CONFIG,
) -> None:
    """Make a key and show it, this once."""
    from headgate.server.auth import new_key

    now_ms = REAL_CLOCK.now_ms()
    expires_ms = None if expires is None else now_ms + round(1000 * _lifetime(expires))
    try:
        secret, key = new_key(
            role=role.value,
            tenant=tenant,
            label=label or "made on the command line",
            now_ms=now_ms,
            expires_ms=expires_ms,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--tenant") from error
    _with_keys(config, lambda keys: keys.add(key))
    print(secret)
    whose = f"tenant {tenant}" if tenant else "all tenants"
    complain(f"this is {key.id} ({role.value}, {whose}). Keep the key above safe: it is not shown again.")


@app.command("list")
def list_keys(config: Config = CONFIG) -> None:
    """List keys, never the keys themselves."""
    now_ms = REAL_CLOCK.now_ms()
    table(
        ("ID", "ROLE", "TENANT", "LABEL", "MADE", "EXPIRES", "STATE"),
        [
            (key.id, key.role, key.tenant or "all", key.label, _day(key.created_ms), _day(key.expires_ms),
             _state(key, now_ms))
            for key in _with_keys(config, lambda keys: keys.all())
        ],
        empty="no keys; `headgate keys create` makes one",
    )  # fmt: skip


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `headgate keys list` shows it.")],
    config: Config = CONFIG,
) -> None:
    """End a key's validity; servers notice within seconds."""
    if not _with_keys(config, lambda keys: keys.revoke(key_id, now_ms=REAL_CLOCK.now_ms())):
        complain(f"there is no valid key {key_id!r}")
        raise typer.Exit(1)
    print(f"revoked {key_id}")


def _with_keys(config: Path, use: Callable[[Keys], Awaitable[T]]) -> T:
    """What ``use`` makes of the keys in the configured store, opened for just this."""
    from headgate.store.open import open_store

    url = load_settings(config).store

    async def once() -> T:
        store = await open_store(url)
        try:
            return await use(store.keys)
        finally:
            await store.close()

    return asyncio.run(once())


def _lifetime(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--expires") from error


def _day(ms: int | None) -> str:
    return "never" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _state(key: ApiKey, now_ms: int) -> str:
    if key.revoked_ms is not None:
        return "revoked"
    return "expired" if key.expires_ms is not None and key.expires_ms <= now_ms else "valid"
