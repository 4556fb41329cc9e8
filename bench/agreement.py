"""The same scenario in virtual time and in real time, over HTTP and with real processes: do they agree?

    python -m bench.agreement                     about two minutes a seed
    python -m bench.agreement --seeds 3 --most 10
    python -m bench.agreement --apart             intake and workers in processes of their own

Real time needs a machine that is otherwise idle: with more to do than it has cores, calls and leases wait for the
machine and not for the dependencies. The load average is told with the result.

In real time there are three processes: ``headgate serve`` with its workers and a store on disk, the simulated
provider as its dependencies, and this one, which sends the load; with ``--apart`` a fourth, ``headgate worker``.
Exits non-zero when the mean goodputs are more than ``--most`` points apart.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import mean

from headgate.lab.live import live
from headgate.lab.provider.process import ProviderProcess
from headgate.lab.scenario.bound import bound
from headgate.lab.scenario.description import Scenario, load_scenario
from headgate.lab.scenario.play import Played, play
from headgate.lab.scenario.scores import score

FILE = Path(__file__).with_suffix(".yaml")
FIRST_SEED = 1
STARTS_WITHIN_S = 30.0
SHOWN = ("goodput", "accepted-late", "critical-on-time", "interactive-on-time", "standard-on-time", "eta-error")


@contextmanager
def running(command: str, *options: str, env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``headgate COMMAND`` of the app, until the block ends."""
    arguments = [sys.executable, "-m", "headgate", command, "bench.agreement_app:gate", *options, "--log", "off"]
    with log.open("wb") as out:
        process = subprocess.Popen(arguments, env={**os.environ, **env}, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STARTS_WITHIN_S)


def address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where it serves, once it says so."""
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        words = log.read_text().partition(" at http://")[2].split()
        if words:
            return f"http://{words[0]}"
        time.sleep(0.1)
    raise RuntimeError(f"the service did not start: {log.read_text()}")


def real(scenario: Scenario, seed: int, *, apart: bool) -> Played:
    spells = [
        {
            "start_s": one.since,
            "end_s": one.until,
            "capacity": one.capacity,
            "slow": one.slow,
            "errors": one.errors,
            "models": list(one.on),
            "fault": one.fault,
            "stalled": one.stalled,
        }
        for one in scenario.troubles
    ]
    with (
        tempfile.TemporaryDirectory(prefix="headgate-agreement-") as folder,
        ProviderProcess(seed=seed, scenario=str(FILE)) as provider,
    ):
        env = {
            "AGREEMENT_SCENARIO": str(FILE),
            "AGREEMENT_PROVIDER": provider.base_url,
            "AGREEMENT_STORE": f"sqlite:///{folder}/runs.db",
        }
        log = Path(folder) / "log"
        with ExitStack() as processes:
            options = ("--port", "0", *(["--no-workers"] if apart else []))
            service = processes.enter_context(running("serve", *options, env=env, log=log))
            url = address(service, log)
            if apart:
                processes.enter_context(running("worker", env=env, log=Path(folder) / "worker.log"))
            provider.schedule(spells)
            return live(scenario, url, seed=seed)


def main() -> int:
    parser = argparse.ArgumentParser(description="Virtual time against real time.")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--most", type=float, default=10.0, help="points of goodput that they may be apart")
    parser.add_argument("--apart", action="store_true", help="workers in a process of their own")
    arguments = parser.parse_args()
    scenario = load_scenario(str(FILE))
    found: dict[str, list[float]] = {"virtual": [], "real": []}
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
        for name, played in (
            ("virtual", play(scenario, seed=seed)),
            ("real", real(scenario, seed, apart=arguments.apart)),
        ):
            could = bound(scenario, [f.wish for f in played.fates if f.wish.at_s >= scenario.warm_up])
            measured = score(played, could).measures
            found[name].append(measured["goodput"])
            told = ", ".join(f"{one} {measured[one]:.3f}" for one in SHOWN)
            print(f"seed {seed} {name:8} {len(played.fates)} wishes, {played.seconds:.0f} s: {told}", flush=True)
    apart = 100 * abs(mean(found["virtual"]) - mean(found["real"]))
    print(f"apart: {apart:.1f} points of goodput (at most {arguments.most:g})")
    load, cores = os.getloadavg()[1], os.cpu_count() or 1
    if load > cores:
        print(f"NOTE   the machine was busy (load {load:.1f} on {cores} cores): real time proves little here")
    return 0 if apart <= arguments.most else 1


if __name__ == "__main__":
    sys.exit(main())
