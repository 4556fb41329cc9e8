"""Running the service in one process: the gate, its workers, and uvicorn inside our own event loop.

The end comes in order: refuse new work (``/readyz`` says 503, every POST too, streams end), stop claiming and let
running work reach its next step, close the listeners, close the store. Whatever did not get that far stays stored
and goes on at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator

import uvicorn

from headgate.errors import HeadgateError
from headgate.gate import Gate
from headgate.server.app import build_app
from headgate.server.auth import is_loopback
from headgate.server.front import HEAD_MAX, Front
from headgate.server.protocol import protocol_for

log = logging.getLogger("headgate.server")

KEEP_ALIVE_S = 30
"""An idle connection is closed after this."""
CLOSE_S = 5
"""How long answers in flight may take once draining is over."""
BACKLOG = 2048


class _Uvicorn(uvicorn.Server):
    """Signals are ours: draining begins long before the listeners close."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(
    gate: Gate,
    *,
    host: str | None = None,
    port: int | None = None,
    insecure: bool = False,
    workers: bool = True,
    ready: Callable[[str], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until asked to stop (SIGINT, SIGTERM, ``stop``, or cancellation), then drain.

    ``host`` and ``port`` come from the settings by default; port 0 takes any free one. ``workers=False`` only takes
    runs in. ``ready`` is called once with the URL when requests are answered. A second signal ends draining early.

    Raises:
        HeadgateError: without any API key in the store it would be reachable from elsewhere, or the address cannot be
            bound. StoreError: the store cannot be opened.
    """
    host = host if host is not None else gate.settings.server.host
    port = port if port is not None else gate.settings.server.port
    stopping = stop if stop is not None else asyncio.Event()
    hurry = asyncio.Event()
    listener = _listen(host, port)
    try:
        await gate.open()
        if not insecure and not _is_local(listener) and not await gate.store.keys.all():
            raise HeadgateError(
                f"refusing to serve {host}: without API keys anybody who reaches it would be admin. Make a key with "
                "`headgate keys create`, serve 127.0.0.1, or pass --insecure."
            )
        app = build_app(gate, insecure=insecure)
        server = _Uvicorn(_config(gate, app))
        await gate.start(workers=workers, upkeep=True)
        with _signals(stopping, hurry):
            await _run(server, listener, app, gate, stopping, hurry, ready)
    finally:
        listener.close()
        await gate.close()


def run(
    gate: Gate,
    *,
    host: str | None = None,
    port: int | None = None,
    insecure: bool = False,
    workers: bool = True,
    ready: Callable[[str], None] | None = None,
) -> None:
    """`serve` on a fresh event loop (uvloop if it is installed)."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(gate, host=host, port=port, insecure=insecure, workers=workers, ready=ready))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, or ``None`` for asyncio's own."""
    try:
        import uvloop  # optional, and not there on Windows
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _run(
    server: _Uvicorn,
    listener: socket.socket,
    app: Front,
    gate: Gate,
    stopping: asyncio.Event,
    hurry: asyncio.Event,
    ready: Callable[[str], None] | None,
) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="headgate-http")
    begun = asyncio.create_task(server.listening.wait(), name="headgate-listening")
    asked = asyncio.create_task(stopping.wait(), name="headgate-stop")
    try:
        await asyncio.wait({serving, begun}, return_when=asyncio.FIRST_COMPLETED)
        if server.started and ready is not None:
            ready(_url(listener))
        await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        begun.cancel()
        asked.cancel()
        app.begin_drain()
        draining = asyncio.create_task(gate.drain(), name="headgate-drain")
        hurried = asyncio.create_task(hurry.wait(), name="headgate-hurry")
        await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        server.should_exit = True
        server.force_exit = hurry.is_set()
        await asyncio.gather(serving, return_exceptions=True)
        if draining.done():
            draining.result()
        else:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
    if not serving.cancelled():
        serving.result()


def _config(gate: Gate, app: Front) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol_for(gate.settings.server.connections),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # addresses decide who is local; a header must not
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CLOSE_S,
        h11_max_incomplete_event_size=HEAD_MAX,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(info[4][:2], family=info[0], backlog=BACKLOG)
    except OSError as error:
        raise HeadgateError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


def _is_local(listener: socket.socket) -> bool:
    return is_loopback(listener.getsockname()[0])


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _signals(stopping: asyncio.Event, hurry: asyncio.Event) -> Iterator[None]:
    """First SIGINT or SIGTERM: stop. Second: stop at once. Elsewhere than in the main thread nothing is touched."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def told() -> None:
        if stopping.is_set():
            hurry.set()
        stopping.set()

    caught = []
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels the runner instead
            loop.add_signal_handler(number, told)
            caught.append(number)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
