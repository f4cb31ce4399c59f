"""Handing over: the scheduler's regret, every way to start a solver, and the solvers that win.

Fourteen problems, five networks each: about twenty minutes on two cores. It writes
`results.json` after each problem and two figures, and prints a table of each kind and a verdict for
each problem. Interrupted, the same command goes on with the problems that are missing.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from benchmarks.handoff import figures, tables
from benchmarks.handoff.rows import measure
from benchmarks.handoff.verdict import summary, verdict
from benchmarks.options import Parser
from benchmarks.report import Stages, exit_code_of
from benchmarks.results import environment, write_json
from benchmarks.suite import QUICK, SUITE, Entry
from solvers.hybrid.timing import forget


class Settings(NamedTuple):
    """What to run, and where to write it."""

    mode: str
    entries: tuple[Entry, ...]
    seeds: int
    output: Path

    @property
    def named(self) -> dict[str, Any]:
        return {"mode": self.mode, "seeds": self.seeds, "problems": [e.name for e in self.entries]}


def run(settings: Settings, console: Console) -> dict[str, Any]:
    """All problems; those that an earlier run of the same settings has finished are kept."""
    path = settings.output / "results.json"
    kept = _kept(path, settings)
    results: dict[str, Any] = {
        "settings": settings.named,
        "problems": kept,
        "environment": environment("float64"),
    }
    done = {row["problem"] for row in kept}
    if done:
        console.print(f"Kept from {path}: {', '.join(sorted(done))}.")
    with Stages(console) as stages:
        for entry in settings.entries:
            if entry.name in done:
                continue
            with stages(f"{entry.name}, {entry.intervals[settings.mode]} intervals", 1.0) as report:
                row = measure(
                    entry, entry.intervals[settings.mode], settings.seeds, report,
                    all_ways=settings.mode == "full",
                )  # fmt: skip
            forget()
            row["verdict"] = verdict(row)
            results["problems"].append(row)
            write_json(path, results)
    results = json.loads(path.read_text(encoding="utf-8"), parse_constant=float)
    results["summary"] = summary(results["problems"])
    write_json(path, results)
    written = [path, *figures.draw_all(results["problems"], settings.output)]
    tables.print_all(console, results)
    console.print("Written: " + ", ".join(map(str, written)))
    return results


def _kept(path: Path, settings: Settings) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    is_whole = "summary" in found
    return [] if is_whole or found.get("settings") != settings.named else found["problems"]


def parse(argv: Sequence[str] | None) -> Settings:
    """Read the options; an impossible one is one line and exit code 2."""
    parser = Parser(prog="python -m benchmarks.handoff", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    for name, text in (
        ("quick", "four small problems, two networks each"),
        (
            "full",
            "finer grids, all ways into all solvers, and every solver from zero run to its end",
        ),
    ):
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name, help=text)
    names = list(SUITE)
    parser.add_argument("--problems", nargs="+", choices=names, help="only these")
    parser.add_argument("--seeds", type=int, help="networks for each problem (default 5; quick 2)")
    parser.add_argument("--output", type=Path, default=Path("results/handoff"))
    options = parser.parse_args(argv)
    mode = options.mode or "default"
    seeds = options.seeds if options.seeds is not None else {"quick": 2}.get(mode, 5)
    if seeds < 1:
        parser.error(f"--seeds: expected at least 1, got {seeds}")
    parser.expect_writable(options.output)
    chosen = options.problems or (QUICK if mode == "quick" else names)
    return Settings(mode, tuple(SUITE[n] for n in names if n in chosen), seeds, options.output)


def main(argv: Sequence[str] | None = None) -> int:
    jax.config.update("jax_enable_x64", True)
    settings = parse(argv)
    console = Console(width=None if sys.stdout.isatty() else 170)
    left = f"Problems that were finished are in {settings.output}; the same command goes on."
    return exit_code_of(lambda: run(settings, console), console, left)


if __name__ == "__main__":
    sys.exit(main())
