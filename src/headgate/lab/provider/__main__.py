"""``python -m headgate.lab.provider --port 9000 --seed 7``: one simulated provider process."""

from __future__ import annotations

import argparse
import random

import uvicorn

from headgate.clock import REAL_CLOCK
from headgate.lab.provider.catalogue import MODELS
from headgate.lab.provider.physics import ModelSpec
from headgate.lab.provider.server import ProviderApp
from headgate.lab.provider.service import Provider
from headgate.lab.scenario.description import load_scenario
from headgate.lab.scenario.world import spec_of

BACKLOG = 2048


def main() -> None:
    """Serve until asked to stop."""
    parser = argparse.ArgumentParser(prog="python -m headgate.lab.provider", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--scenario", help="its dependencies, tools too, in place of the models; a name or a file")
    chosen = parser.parse_args()
    models: tuple[ModelSpec, ...] = MODELS
    if chosen.scenario is not None:
        described = load_scenario(chosen.scenario).dependencies
        models = tuple(spec_of(name, one) for name, one in described.items())
    provider = Provider(models, clock=REAL_CLOCK, rng=random.Random(chosen.seed))
    config = uvicorn.Config(
        ProviderApp(provider, REAL_CLOCK),
        host=chosen.host,
        port=chosen.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    listening = config.bind_socket()
    listening.listen(BACKLOG)
    host, port = listening.getsockname()[:2]
    # from here on connections wait for the server instead of failing, so whoever reads this may begin
    print(f"listening at http://{host}:{port}/v1", flush=True)  # noqa: T201  it is what this process says
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
