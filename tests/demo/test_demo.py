"""The demo as people start it: real processes, real sockets, a few seconds of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.process
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120


@contextmanager
def demo(out: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running demo; whatever it leaves behind is ended with the test."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    running = subprocess.Popen(  # noqa: S603 - our own interpreter on our own module
        [sys.executable, "-m", "demo", "--out", str(out), *arguments],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield running
    finally:
        if running.poll() is None:
            left = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
            for process in left:
                process.kill()
        running.communicate()


def test_a_short_demo_accounts_for_every_accepted_run(tmp_path: Path) -> None:
    with demo(tmp_path, "--seconds", "6", "--seed", "3") as running:
        told, _ = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0, told

    report = json.loads((tmp_path / "report.json").read_text())
    service, control = report["sides"]["headgate"], report["sides"]["no limits"]
    for side in (service, control):
        figures, requests = side["figures"], side["requests"]
        assert figures["offered"] == len(requests) > 20
        assert figures["admitted"] == sum(one["run"] is not None for one in requests) == side["accepted"]
        assert figures["offered"] == figures["admitted"] + sum(figures["refused"].values())
        ended = figures["on_time"] + figures["late"] + sum(figures["failed"].values()) + figures["unfinished"]
        assert figures["admitted"] == ended
        assert figures["provider_calls"] > 0
        assert figures["model"]["p50"] > 0
    assert service["figures"]["kept"]
    assert service["lost"] == service["unfinished"] == []
    assert control["figures"]["refused"] == {}

    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert "finished on time" in (tmp_path / "table.txt").read_text()
    assert not (tmp_path / "service").exists()


def test_an_interrupted_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    with demo(tmp_path, "--seconds", "60") as running:
        ready_by = time.monotonic() + PATIENCE_S
        while not (tmp_path / "logs" / "control.log").exists():  # the last one to be started
            assert running.poll() is None
            assert time.monotonic() < ready_by
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(timeout=0.2)
        children = psutil.Process(running.pid).children(recursive=True)
        assert len(children) >= 3

        running.send_signal(signal.SIGINT)

        assert running.wait(timeout=PATIENCE_S) == 130
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_an_impossible_duration_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--seconds", "1"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--seconds must be between 5 and 600" in done.stderr
