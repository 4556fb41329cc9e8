"""``make demo``: see headgate at work on real traffic, beside the same traffic with no limits."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from demo.processes import DemoFailed
from demo.run import Options, run_demo

SECONDS = 90.0
QUICK_SECONDS = 15.0


def options(arguments: list[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long it takes (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", action="store_true", help="keep the service's database in demo-out/service")
    parser.add_argument("--no-control", action="store_true", help="without the control beside")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS:g} seconds; its figures say little")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="where to write (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    if not 5 <= chosen.seconds <= 600:
        parser.error("--seconds must be between 5 and 600")
    return Options(
        seconds=QUICK_SECONDS if chosen.quick else chosen.seconds,
        seed=chosen.seed,
        keep=chosen.keep,
        control=not chosen.no_control,
        out=chosen.out.resolve(),
    )


async def interruptible(chosen: Options, console: Console) -> int:
    """Run the demo; SIGTERM ends it as Ctrl-C does."""
    demo = asyncio.ensure_future(run_demo(chosen, console))
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell in the background has SIGINT ignored
        asyncio.get_running_loop().add_signal_handler(number, demo.cancel)
    with suppress(asyncio.CancelledError):
        return await demo
    return 130


def main() -> int:
    """The exit status."""
    console = Console()
    try:
        return asyncio.run(interruptible(options(sys.argv[1:]), console))
    except DemoFailed as failure:
        console.print(f"[red bold]{failure}[/]")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
