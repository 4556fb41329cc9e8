"""The simulated provider in a process of its own, for tests and real SDKs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx2

from headgate.errors import HeadgateError

STOP_WITHIN_S = 5.0
PATIENCE_S = 10.0
"""For answers about the provider itself."""


class ProviderProcess:
    """Started by ``with``, stopped at its end. Listens on a free port of the loopback."""

    def __init__(self, *, seed: int = 7, scenario: str | None = None) -> None:
        """``scenario`` is a name or a file: its dependencies, tools too, in place of the catalogue's models."""
        self._seed = seed
        self._scenario = scenario
        self._process: subprocess.Popen[str] | None = None
        self.base_url = ""
        """What SDKs call ``base_url``, ending in ``/v1``."""

    def __enter__(self) -> Self:
        arguments = [sys.executable, "-m", "headgate.lab.provider", "--port", "0", "--seed", str(self._seed)]
        if self._scenario is not None:
            arguments += ["--scenario", self._scenario]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)  # noqa: S603  our own module
        told = self._process.stdout.readline() if self._process.stdout is not None else ""
        # the socket listens before this is told, so nothing has to be tried until it answers
        self.base_url = told.strip().rpartition(" ")[2]
        if not self.base_url.startswith("http://"):
            self._stop()
            raise HeadgateError(f"the simulated provider did not start: {told.strip() or 'it said nothing'}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def schedule(self, spells: Sequence[Mapping[str, Any]]) -> None:
        """Bad weather from now on: ``[{"start_s": 0, "end_s": 60, "models": ["large"], "errors": 0.5}]``. The keys
        are those of `headgate.lab.weather.Spell`; an empty list ends all of it.

        Raises:
            HeadgateError: a spell is not a possible one.
        """
        answer = httpx2.post(f"{self._root}/admin/schedule", json={"spells": list(spells)}, timeout=PATIENCE_S)
        if answer.status_code != 200:
            raise HeadgateError(f"the simulated provider refused: {answer.text}")

    def ledger(self) -> dict[str, Any]:
        """What it received and how it answered: ``received``, ``ok``, and ``models`` with ``by_status`` and more."""
        told: dict[str, Any] = httpx2.get(f"{self._root}/stats", timeout=PATIENCE_S).json()
        return told

    @property
    def _root(self) -> str:
        return self.base_url.removesuffix("/v1")

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
