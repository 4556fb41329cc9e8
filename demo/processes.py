"""The processes of the demo: started, waited for, and always stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2

READY_WITHIN_S = 30.0
STOP_WITHIN_S = 15.0


class DemoFailed(RuntimeError):
    """The demo cannot go on; the message says what to look at."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running process of ours."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


class Children:
    """All processes of one demo. ``async with`` stops them, whatever happens."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []

    async def start(self, name: str, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> Child:
        """Start this Python with ``arguments``; its output goes to ``<name>.log``."""
        log = self._logs / f"{name}.log"
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
                cwd=cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only us; we stop them in order
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    async def ready(self, child: Child, url: str) -> None:
        """Wait until ``url`` answers 200.

        Raises:
            DemoFailed: the process ended, or does not answer in time.
        """
        async with httpx2.AsyncClient(timeout=2.0) as client:
            for _ in range(int(READY_WITHIN_S / 0.1)):
                if child.process.returncode is not None:
                    raise DemoFailed(f"{child.name} ended with {child.process.returncode}:\n{child.last_words}")
                try:
                    if (await client.get(url)).status_code == 200:
                        return
                except httpx2.HTTPError:
                    pass  # not listening yet
                await asyncio.sleep(0.1)
        raise DemoFailed(f"{child.name} is not ready after {READY_WITHIN_S:.0f} s:\n{child.last_words}")

    def check(self) -> None:
        """All still run.

        Raises:
            DemoFailed: one ended by itself.
        """
        for child in self._children:
            if child.process.returncode is not None:
                raise DemoFailed(f"{child.name} ended with {child.process.returncode}:\n{child.last_words}")

    async def stop(self, child: Child) -> int:
        """Ask a process to end, and make it when it does not. Returns its status."""
        if child in self._children:
            self._children.remove(child)
        if child.process.returncode is None:
            child.process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_WITHIN_S):
                    await child.process.wait()
            except TimeoutError:
                child.process.kill()
        return await child.process.wait()

    async def __aenter__(self) -> Children:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(self.stop(child) for child in reversed(self._children)))


def free_port() -> int:
    """A port on the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
