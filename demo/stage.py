"""Starts what is compared: the providers, the service, the control."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from demo.clients import Side
from demo.plan import Plan
from demo.processes import Child, Children, free_port
from demo.watch import Watch, read_control, read_service

ROOT = Path(__file__).resolve().parent.parent
AGENT = ROOT / "examples" / "support_agent"
SERVE = "import sys; from headgate.cli.entry import main; sys.exit(main())"


@dataclass(slots=True)
class Cast:
    """One side with everything that belongs to it."""

    side: Side
    watch: Watch
    process: Child
    provider_url: str | None


async def set_stage(children: Children, plan: Plan, out: Path, *, control: bool, provider: str | None) -> list[Cast]:
    """Start both sides and wait until they answer. ``provider``: a real one's base URL, instead of simulated ones."""
    starting = [_service(children, plan, out, provider)]
    if control:
        starting.append(_control(children, plan, out))
    return list(await asyncio.gather(*starting))


async def _service(children: Children, plan: Plan, out: Path, provider: str | None) -> Cast:
    env, provider_url = await _provider(children, plan, out, "provider-of-headgate", provider)
    home = out / "service"
    home.mkdir(exist_ok=True)
    port = free_port()
    # Its own store: relative paths count from the configuration, where an earlier demo may have left runs.
    env = {**env, "SUPPORT_STORE": f"sqlite:///{home.resolve()}/headgate.db"}
    process = await children.start(
        "headgate", ["-c", SERVE, "serve", "agent:gate", "--port", str(port)], env=env, cwd=home
    )
    url = f"http://127.0.0.1:{port}"
    await children.ready(process, f"{url}/readyz")
    return Cast(Side("headgate", url), Watch(url, provider_url, read_service), process, provider_url)


async def _control(children: Children, plan: Plan, out: Path) -> Cast:
    env, provider_url = await _provider(children, plan, out, "provider-of-control", None)
    port = free_port()
    env = {**env, "AGENT_SDK_RETRIES": "2"}  # the SDK's own default
    process = await children.start("control", ["-m", "demo.control", str(port), str(plan.seed)], env=env, cwd=out)
    url = f"http://127.0.0.1:{port}"
    await children.ready(process, f"{url}/state")
    return Cast(Side("no limits", url), Watch(url, provider_url, read_control), process, provider_url)


async def _provider(
    children: Children, plan: Plan, out: Path, name: str, real: str | None
) -> tuple[Mapping[str, str], str | None]:
    """The environment of whoever calls the provider, and where to ask a simulated one how it is."""
    env = {"PYTHONPATH": os.pathsep.join([str(AGENT), str(ROOT)])}
    if real is not None:
        return env, None
    port = free_port()
    arguments = ["-m", "headgate.lab.provider", "--port", str(port), "--seed", str(plan.seed)]
    process = await children.start(name, arguments, env={}, cwd=out)
    url = f"http://127.0.0.1:{port}"
    await children.ready(process, f"{url}/v1/models")
    return {**env, "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "simulated"}, url


async def begin_weather(cast: Cast, plan: Plan) -> None:
    """From now on the provider follows the plan's schedule."""
    if cast.provider_url is None:
        return
    async with httpx2.AsyncClient(base_url=cast.provider_url) as http:
        spells = [dataclasses.asdict(spell) for spell in plan.spells]
        (await http.post("/admin/schedule", json={"spells": spells})).raise_for_status()


async def provider_calls(cast: Cast) -> int | None:
    """Calls the provider has received; ``None`` for a real one."""
    if cast.provider_url is None:
        return None
    async with httpx2.AsyncClient(base_url=cast.provider_url) as http:
        return int((await http.get("/stats")).json()["received"])


def python() -> str:
    """Which interpreter all of this runs in, for the report."""
    return sys.version.split()[0]
