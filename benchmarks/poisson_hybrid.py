"""The main job: one Poisson problem by network, by relaxation, and by the hybrid of the two.

Every row is charged for all it does and ends at the discretisation error or at 1.2 times the
seconds of Jacobi alone. It writes `results.json` and four figures, and prints the table.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from benchmarks import figures, paper, scaling
from benchmarks.options import Parser
from benchmarks.report import Stages, exit_code_of, print_report
from benchmarks.results import write_json
from benchmarks.rows import RELAXATIONS, Settings, race, results_of
from solvers import gallery

INTERVALS = {
    "quick": {1: 1000, 2: 64, 3: 24},
    "default": {1: 4000, 2: 256, 3: 64},
    "full": {1: 4000, 2: 256, 3: 64},
}


def run(settings: Settings, console: Console) -> dict[str, Any]:
    """Do what `settings` ask for, write it, print it."""
    if settings.mode == "paper":
        return paper.run(settings.seed, settings.output, console)
    make_case = gallery.CASES[settings.problem]
    ndim = make_case(8).problem.grid.ndim
    intervals = settings.intervals or INTERVALS[settings.mode][ndim]
    path = settings.output / "results.json"
    with Stages(console) as stages:
        outcome = race(make_case(intervals), settings, stages)
        results = results_of(outcome, settings)
        # What there is stays, should the long part be interrupted.
        write_json(path, results)
        if settings.mode == "full":
            results |= scaling.full(outcome, results, settings, stages)
            write_json(path, results)
    written = [path, *figures.draw_all(outcome, results, settings.output)]
    print_report(console, results, written)
    return results


def parse(argv: Sequence[str] | None) -> Settings:
    """Read the options; an impossible one is one line and exit code 2."""
    parser = Parser(prog="python -m benchmarks.poisson_hybrid", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    for name, text in (
        ("quick", "under a minute: 1000 intervals"),
        (
            "full",
            "about a quarter of an hour: growth with the number of intervals, five seeds, regret",
        ),
        ("paper", "the published network, optimiser, penalty and grids"),
    ):
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name, help=text)
    parser.add_argument("--intervals", type=int, help="per axis (default 4000; 256 in 2-D)")
    parser.add_argument("--problem", choices=sorted(gallery.CASES), default="published")
    parser.add_argument("--relaxation", choices=sorted(RELAXATIONS), default="jacobi")
    parser.add_argument("--seed", type=int, default=0, help="of the network (default 0)")
    parser.add_argument("--output", type=Path, default=Path("results/poisson_hybrid"))
    parser.add_argument("--platform", choices=("cpu", "gpu", "tpu"))
    options = parser.parse_args(argv)
    if options.intervals is not None and options.intervals < 16:
        parser.error(f"--intervals: expected at least 16, got {options.intervals}")
    if options.seed < 0:
        parser.error(f"--seed: expected a number of at least 0, got {options.seed}")
    parser.expect_writable(options.output)
    if options.mode == "paper" and (options.intervals or options.problem != "published"):
        parser.error("--paper: comes with its own problem and grids")
    options.mode = options.mode or "default"
    _choose_platform(parser, options.platform)
    return Settings(**vars(options))


def _choose_platform(parser: argparse.ArgumentParser, platform: str | None) -> None:
    if platform is None:
        return
    try:
        device = jax.devices(platform)[0]
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        parser.error(f"--platform: JAX finds no {platform} here ({reason})")
    jax.config.update("jax_default_device", device)


def main(argv: Sequence[str] | None = None) -> int:
    jax.config.update("jax_enable_x64", True)
    settings = parse(argv)
    console = Console(width=None if sys.stdout.isatty() else 150)
    left = (
        f"What was finished, if anything, is in {settings.output}; the same command starts again."
    )
    return exit_code_of(lambda: run(settings, console), console, left)


if __name__ == "__main__":
    sys.exit(main())
