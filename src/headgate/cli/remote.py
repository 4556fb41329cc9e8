"""The running service that client commands talk to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.screen import complain

if TYPE_CHECKING:
    from headgate.client import Client

DEFAULT_URL = "http://127.0.0.1:8400"

Url = Annotated[str, typer.Option("--url", envvar="HEADGATE_URL", help="Where the service is.", show_default=True)]
Key = Annotated[
    str | None,
    typer.Option(
        "--api-key", envvar="HEADGATE_API_KEY", help="API key; better in the environment.", show_envvar=True
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@contextmanager
def service(url: str, key: str | None) -> Iterator[Client]:
    """A client of the service at ``url``; a service that cannot be reached ends the command with one line."""
    import httpx2

    from headgate.client import Client

    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url!r} is not an HTTP URL; write for example {DEFAULT_URL}", param_hint="--url")
    try:
        with Client(url, api_key=key) as client:
            yield client
    except httpx2.InvalidURL as error:
        raise typer.BadParameter(f"{url!r}: {error}", param_hint="--url") from error
    except httpx2.TransportError as error:
        complain(f"cannot reach {url}: {str(error) or type(error).__name__}; is `headgate serve` running there?")
        raise typer.Exit(1) from error
