"""All policies on the same wishes, in virtual time: goodput by policy and scenario.

    python -m bench.contest                                              every policy, every scenario, 3 seeds
    python -m bench.contest --scenario surge-outage --policy none --policy headgate --seeds 10
    python -m bench.contest --jobs 2 --out results.jsonl                 two processes; each play becomes a line
    python -m bench.contest --read results.jsonl                         only the table, of results of before
    python -m bench.contest --seeds 10 --jobs 2 --write                  docs/lab.md, with its pictures

Plays that are in the file of ``--out`` are not played again; after a change of the code, begin a new file.

Mean over the seeds, and the spread (standard deviation). `headgate.lab.contest.rivals.field` says what each rival is
made of. With 28,000 calls, a play of a rival takes about three seconds, one of headgate twenty to thirty.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from statistics import mean, pstdev

from headgate.lab.contest.compare import Entry, compare_all, read_lines
from headgate.lab.contest.contestants import contestants
from headgate.lab.report.folder import put_together
from headgate.lab.report.markdown import write_page
from headgate.lab.report.pictures import draw
from headgate.lab.scenario.description import load_scenario, shipped

FIRST_SEED = 1
PAGE = Path(__file__).resolve().parents[1] / "docs" / "lab.md"
PICTURES = PAGE.with_suffix("")
SHOWN = ("surge-outage",)
"""Scenarios whose timelines the page shows."""


def table(entries: Sequence[Entry], measure: str) -> list[str]:
    """Policies down, scenarios across, their mean at the end."""
    scenarios = list(dict.fromkeys(one.scenario for one in entries))
    policies = [name for name in contestants() if any(one.policy == name for one in entries)]
    values: dict[tuple[str, str], list[float]] = {}
    for one in entries:
        values.setdefault((one.policy, one.scenario), []).append(one.measures[measure])
    width = max([len(name) for name in policies] + [len(measure)])
    lines = [" ".join([f"{measure:{width}}", *(f"{name:>16}" for name in scenarios), f"{'mean':>7}"])]
    for policy in policies:
        cells = [values.get((policy, scenario), []) for scenario in scenarios]
        known = [mean(cell) for cell in cells if cell and math.isfinite(sum(cell))]
        whole = f"{mean(known):7.3f}" if len(known) == len(scenarios) else f"{'–':>7}"
        lines.append(" ".join([f"{policy:{width}}", *(f"{spread(cell):>16}" for cell in cells), whole]))
    return lines


def spread(values: Iterable[float]) -> str:
    """Mean ± standard deviation of the values that are numbers."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    if any(math.isinf(value) for value in known):
        return f"never in {sum(map(math.isinf, known))}/{len(known)}"
    return f"{mean(known):.3f} ± {pstdev(known):.3f}"


def read(path: Path) -> list[Entry]:
    """Results of before, each play once: of two with the same scenario, seed and policy the later one counts."""
    entries = read_lines(path.read_text(encoding="utf-8"))
    return list({(one.scenario, one.seed, one.policy): one for one in entries}.values())


def play(arguments: argparse.Namespace) -> list[Entry]:
    scenarios = [load_scenario(name) for name in arguments.scenario or shipped()]
    policies = arguments.policy or list(contestants())
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)

    def on_done(done: int, total: int) -> None:
        print(f"\r{done} of {total} plays", end="", file=sys.stderr, flush=True)

    entries = read(arguments.out) if arguments.out is not None and arguments.out.exists() else []
    known = {(one.scenario, one.seed, one.policy) for one in entries}
    asked = {(scenario.name, seed, policy) for scenario in scenarios for seed in seeds for policy in policies}
    if known:
        print(f"{len(known & asked)} of {len(asked)} are in {arguments.out} already", file=sys.stderr)
    tasks = [
        (scenario, seed, policy)
        for scenario, seed, policy in product(scenarios, seeds, policies)
        if (scenario.name, seed, policy) not in known
    ]
    for entry in compare_all(tasks, jobs=arguments.jobs, on_done=on_done):
        entries.append(entry)
        if arguments.out is not None:
            with arguments.out.open("a", encoding="utf-8") as out:
                out.write(entry.line())
    print(file=sys.stderr)
    entries = [one for one in entries if (one.scenario, one.seed, one.policy) in asked]
    order = {scenario.name: place for place, scenario in enumerate(scenarios)}
    return sorted(entries, key=lambda one: (order[one.scenario], one.seed))


def write(entries: Sequence[Entry]) -> None:
    """The table and the pictures of docs/lab.md."""
    scenarios = [load_scenario(name) for name in dict.fromkeys(one.scenario for one in entries)]
    results = put_together(entries, scenarios, sorted({one.seed for one in entries}))
    PICTURES.mkdir(exist_ok=True)
    write_page(results, PAGE, draw(results, PICTURES, only=SHOWN)[::-1])
    print(f"wrote {PAGE}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Goodput of every policy on the same wishes.")
    parser.add_argument("--scenario", choices=list(shipped()), action="append")
    parser.add_argument("--policy", choices=list(contestants()), action="append")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--jobs", type=int, default=1, help="plays side by side")
    parser.add_argument(
        "--out", type=Path, help="add each result to this file, as a line of JSON; what is in it is not played again"
    )
    parser.add_argument("--read", type=Path, help="play nothing; show the results in this file")
    parser.add_argument("--write", action="store_true", help="write docs/lab.md and its pictures")
    parser.add_argument("--measure", action="append", help="besides or instead of goodput")
    arguments = parser.parse_args()
    entries = play(arguments) if arguments.read is None else read(arguments.read)
    for measure in arguments.measure or ["goodput"]:
        print("\n".join(table(entries, measure)), end="\n\n")
    if arguments.write:
        write(entries)
    return 0


if __name__ == "__main__":
    sys.exit(main())
