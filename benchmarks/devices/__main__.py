"""Every backend that JAX finds, and results of other machines, side by side.

Each method on each backend, in 2-D and 3-D and in both precisions: seconds, unknowns per second,
share of the measured memory bandwidth and compile time, with the accuracy beside them; training
steps per second, and the hybrid's seconds to its tolerance; but for `--quick` also what a cycle
sends on up to 64 devices, by the compiled program. It writes `results.json` and two
figures, and prints the tables and a verdict. `--add` puts results of earlier runs, here or
elsewhere, beside.
"""

import datetime
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from benchmarks.devices import figures, learning, scaling, solving, tables
from benchmarks.devices.backends import PRECISIONS, Device, default_label, find_devices
from benchmarks.devices.merging import BENCHMARK, FORMAT, Run, column_names, merged, read_runs
from benchmarks.devices.verdict import verdict
from benchmarks.options import Parser
from benchmarks.report import Stages, exit_code_of, plain_table
from benchmarks.results import environment, write_json

SIZES = {"quick": (256,), "default": (256, 1024), "full": (256, 1024, 4096)}
# At 32 in 3-D multigrid is a direct solver, but its levels are what takes long to compile.
SIZES_3D = {"quick": (32,), "default": (64, 128), "full": (64, 128, 256)}


class Settings(NamedTuple):
    """What to measure here, under which name, and what to put beside it."""

    mode: str
    sizes: dict[int, tuple[int, ...]]
    label: str | None
    devices: list[Device]
    backends: dict[str, list[str]]
    added: list[Run]
    output: Path


def run(settings: Settings, console: Console) -> dict[str, Any]:
    """Measure every device; what is finished is written after each grid."""
    path, own = settings.output / "results.json", []

    def save() -> None:
        write_json(path, contents([*own, *settings.added]))

    with Stages(console) as stages:
        for device in settings.devices:
            own.append(begin(device, settings))
            measure(device, own[-1], settings, stages, save)
        save()
        counted = _scaling(stages) if own and settings.mode != "quick" else []
    runs = merged(read_runs(path))  # as a reader of the file has them: null for NaN
    results: dict[str, Any] = contents(runs) | {"scaling": counted}
    results["verdict"] = verdict(runs, results["columns"], len(own))
    if counted:
        results["verdict"].append(scaling.verdict(counted))
    write_json(path, results)
    written = [path, *figures.draw_all(runs, counted, results["columns"], settings.output)]
    tables.print_all(console, runs, results["columns"], len(own))
    if counted:
        console.print(plain_table(scaling.table(counted)))
    for line in results["verdict"]:
        console.print(f"- {line}")
    console.print("Written: " + ", ".join(map(str, written)))
    return results


def _scaling(stages: Stages) -> list[dict[str, Any]]:
    with stages("messages on up to 64 devices", 1.0) as report:
        return scaling.measure(report)


def begin(device: Device, settings: Settings) -> Run:
    """The results of one device, of which nothing has been measured yet."""
    with jax.default_device(device):
        found = environment("each row has its own")
    label = settings.label or default_label(found["device"])
    if settings.label and len(settings.devices) > 1:
        label += f", {device.platform}"
    # Where compiled programs are kept, compile times are those of reading them.
    found["keeps_compiled_programs"] = bool(jax.config.values["jax_compilation_cache_dir"])
    return {
        "id": uuid.uuid4().hex,
        "label": label,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "mode": settings.mode,
        "platform": device.platform,
        "backends": settings.backends,
        "environment": found,
        "precisions": {dtype.name: {} for dtype in PRECISIONS},
        "rows": [],
    }


def measure(device: Device, own: Run, settings: Settings, stages: Stages, save: Any) -> None:
    """Add all parts to the results of one device; each is a module with a `measure` of its own."""
    with jax.default_device(device):
        solving.measure(device, own, settings.sizes, stages, save)
        learning.measure(device, own, stages, save)


def contents(runs: list[Run]) -> dict[str, Any]:
    """What `results.json` has: every run once, with the name of its column."""
    runs = merged(runs)
    return {"benchmark": BENCHMARK, "format": FORMAT, "columns": column_names(runs), "runs": runs}


def parse(argv: Sequence[str] | None) -> Settings:
    """Read the options, and the files to add; an impossible one is one line and exit code 2."""
    parser = Parser(prog="python -m benchmarks.devices", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    for name, text in (
        ("quick", "one small grid in 2-D and in 3-D, under two minutes on two cores"),
        ("full", "also 4096² and 256³"),
    ):
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name, help=text)
    parser.add_argument("--sizes", type=int, nargs="+", help="intervals per axis in 2-D")
    parser.add_argument("--sizes-3d", type=int, nargs="+", help="intervals per axis in 3-D")
    parser.add_argument("--platform", choices=("cpu", "gpu", "tpu"), help="only this backend")
    parser.add_argument(
        "--label", help="what to call this machine; by default its processor or accelerator"
    )
    parser.add_argument("--add", type=Path, nargs="+", default=[], metavar="FILE",
                        help="results.json of earlier runs, here or on other machines; the first "
                             "column, that of a run now if there is one, is what the others are "
                             "held against")  # fmt: skip
    parser.add_argument("--only-added", action="store_true",
                        help="measure nothing here, compare what is added")  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("results/devices"))
    options = parser.parse_args(argv)
    parser.expect_writable(options.output)
    if options.only_added and not options.add:
        parser.error("--only-added: needs --add with at least one results.json")
    added = []
    for path in options.add:
        try:
            added += read_runs(path)
        except ValueError as error:
            parser.error(f"--add: {error}")
    chosen = options.mode or "default"
    sizes = _sizes(parser, options, chosen)
    devices, backends = ([], {}) if options.only_added else _devices(parser, options.platform)
    return Settings(chosen, sizes, options.label, devices, backends, merged(added), options.output)


def _sizes(parser: Parser, options: Any, mode: str) -> dict[int, tuple[int, ...]]:
    sizes = {2: options.sizes or SIZES[mode], 3: options.sizes_3d or SIZES_3D[mode]}
    for name, own in zip(("--sizes", "--sizes-3d"), sizes.values(), strict=True):
        if min(own) < 4:
            parser.error(f"{name}: expected at least 4 intervals per axis, got {min(own)}")
    return {ndim: tuple(sorted(set(own))) for ndim, own in sizes.items()}


def _devices(parser: Parser, platform: str | None) -> tuple[list[Device], dict[str, list[str]]]:
    """What to measure, and the backends that are and are not there."""
    devices, missing = find_devices()
    backends = {"found": [device.platform for device in devices], "missing": missing}
    chosen = [device for device in devices if platform in (None, device.platform)]
    if not chosen:
        parser.error(f"--platform: JAX finds no {platform} here")
    return chosen, backends


def main(argv: Sequence[str] | None = None) -> int:
    jax.config.update("jax_enable_x64", True)
    settings = parse(argv)
    console = Console(width=None if sys.stdout.isatty() else 170)
    left = f"Grids that were finished are in {settings.output}; they can be added to another run."
    return exit_code_of(lambda: run(settings, console), console, left)


if __name__ == "__main__":
    sys.exit(main())
