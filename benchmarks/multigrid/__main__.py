"""Multigrid in seconds: to a relative residual of 1e-8 and to the discretisation error.

Every case is solved by all solvers that can, timed in turn round by round; it writes `results.json`
and two figures, and prints the tables and what was asked for with the numbers that answer it.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from benchmarks.multigrid import cases, checks, curves, factors, figures, rows, tables
from benchmarks.multigrid.contenders import versions
from benchmarks.multigrid.verdict import verdict
from benchmarks.options import Parser
from benchmarks.report import Stages, exit_code_of
from benchmarks.results import environment, write_json


class Settings(NamedTuple):
    """Unknowns per axis in 2-D and 3-D, how often everything is timed, and how much is done."""

    mode: str
    sizes: tuple[int, ...]
    sizes_3d: tuple[int, ...]
    output: Path

    @property
    def rounds(self) -> int:
        return 3 if self.mode == "quick" else 7

    @property
    def seeds(self) -> int:
        return 1 if self.mode == "quick" else 10


SIZES = {"quick": (127, 255), "default": (127, 255, 511, 1023), "full": (127, 255, 511, 1023, 2047)}
SIZES_3D = {"quick": (15,), "default": (31, 63, 127), "full": (31, 63, 127)}
FEW = ("multigrid", "multigrid_cg", "direct", "direct_cg", "pyamg", *rows.SINE)
SMOOTH = ("multigrid", "full", "full_once", "full_to_discretization", "multigrid_cg", "direct",
          "pyamg", *rows.SINE)  # fmt: skip
# Every way to ask for multigrid is a program of its own to compile: on small grids not all of them.
SMALL = ("multigrid", "full_to_discretization", "multigrid_cg", "cg", "direct", "pyamg", *rows.SINE)
QUICK = ("multigrid", "full", "multigrid_cg", "direct", "pyamg", *rows.SINE)


def plan(settings: Settings) -> list[tuple[Callable[[], cases.Case], tuple[str, ...]]]:
    """The cases, not yet made, and the solvers of each."""
    largest, largest_3d = settings.sizes[-1], settings.sizes_3d[-1]
    is_quick = settings.mode == "quick"
    chosen: list[Any] = []
    for n in settings.sizes:
        constant = rows.ALL if n in settings.sizes[-2:] else SMALL
        chosen.append((lambda n=n: cases.rough(n), QUICK if is_quick else constant))
    chosen.append((lambda: cases.smooth(largest), QUICK if is_quick else SMOOTH))
    middle = settings.sizes[len(settings.sizes) // 2 - 1]
    if is_quick:
        chosen.append((lambda: cases.rough(largest_3d, 3), QUICK))
        return [*chosen, (lambda: cases.varying(settings.sizes[0]), ("multigrid", "pyamg"))]
    chosen += [(lambda n=n: cases.rough(n, 3), SMOOTH) for n in settings.sizes_3d]
    chosen.append((lambda: cases.smooth(largest_3d, 3), SMOOTH))
    chosen += [(lambda: cases.anisotropic(middle), FEW), (lambda: cases.neumann(middle), FEW)]
    chosen += [(lambda n=n: cases.varying(n), FEW) for n in settings.sizes[:-1:2]]
    varied = settings.sizes_3d if settings.mode == "full" else settings.sizes_3d[:-1]
    chosen += [(lambda n=n: cases.varying(n, 3), FEW) for n in varied]
    return [*chosen, (lambda: cases.discs(settings.sizes[0]), FEW)]


def passes(settings: Settings) -> dict[str, Sequence[int]]:
    """Sizes at which one pass of full multigrid is held against the discretisation error."""
    flat, solid = settings.sizes, settings.sizes_3d
    if settings.mode == "quick":
        return {"smooth_2d": flat[-1:], "smooth_3d": solid}
    varied = solid if settings.mode == "full" else solid[:-1]
    return {"smooth_2d": flat, "varying_2d": flat[:-1:2], "smooth_3d": solid, "varying_3d": varied}


def run(settings: Settings, console: Console) -> dict[str, Any]:
    """Do all parts; what is finished is written after each, should a later one be interrupted."""
    path = settings.output / "results.json"
    results: dict[str, Any] = {"mode": settings.mode, "rows": [], "curves": None}
    results |= {"full_multigrid": [], "contrast": [], "factors": [], "verdict": []}
    with Stages(console) as stages:
        results["environment"] = environment("float64, cycles in float32 unless said")
        results["environment"]["versions"] |= versions()
        for make_case, names in plan(settings):
            case = make_case()
            with stages(f"{case.name}, {case.size} per axis", len(names)) as report:
                results["rows"] += rows.measure_case(case, names, settings.rounds, report)
            write_json(path, results)
        _other_parts(settings, results, stages)
    measured = [results[part] for part in ("rows", "full_multigrid", "factors", "contrast")]
    results["verdict"] = verdict(*measured)
    write_json(path, results)
    written = [path, *figures.draw_all(results, settings.output)]
    tables.print_all(console, results)
    console.print("Written: " + ", ".join(map(str, written)))
    return results


def _other_parts(settings: Settings, results: dict[str, Any], stages: Stages) -> None:
    path = settings.output / "results.json"
    main = cases.smooth(min(settings.sizes[-1], 1023))
    with stages("error against seconds", len(curves.LINES)) as report:
        found = curves.error_curves(main, settings.rounds, report)
    limit = rows.discretization_error(main)
    assert limit is not None
    for curve in found.values():
        curve |= curves.reached(curve, 1.3 * limit)
    results["curves"] = {"size": main.size, "discretization_error": limit, "solvers": found}
    sizes = passes(settings)
    with stages("full multigrid", sum(map(len, sizes.values()))) as report:
        results["full_multigrid"] = checks.full_multigrid(sizes, report)
    write_json(path, results)
    count = settings.seeds * len(checks.CONTRASTS)
    with stages("jumping coefficients", count) as report:
        results["contrast"] = checks.contrast(settings.sizes[0], settings.seeds, report)
    with stages("factors", len(factors.entries(settings.mode))) as report:
        results["factors"] = factors.table(settings.mode, report)


def parse(argv: Sequence[str] | None) -> Settings:
    parser = Parser(prog="python -m benchmarks.multigrid", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    for name, text in (
        ("quick", "small grids, under a minute"),
        ("full", "2047² and a varying 127³ too, and the long table of factors"),
    ):
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name, help=text)
    parser.add_argument("--sizes", type=int, nargs="+", help="unknowns per axis in 2-D")
    parser.add_argument("--sizes-3d", type=int, nargs="+", help="unknowns per axis in 3-D")
    parser.add_argument("--output", type=Path, default=Path("results/multigrid"))
    options = parser.parse_args(argv)
    parser.expect_writable(options.output)
    mode = options.mode or "default"
    sizes, sizes_3d = options.sizes or SIZES[mode], options.sizes_3d or SIZES_3D[mode]
    for name, values in (("--sizes", sizes), ("--sizes-3d", sizes_3d)):
        if min(values) < 3:
            parser.error(f"{name}: expected at least 3 unknowns per axis, got {min(values)}")
    return Settings(mode, tuple(sorted(sizes)), tuple(sorted(sizes_3d)), options.output)


def main(argv: Sequence[str] | None = None) -> int:
    jax.config.update("jax_enable_x64", True)
    settings = parse(argv)
    console = Console(width=None if sys.stdout.isatty() else 190)
    left = (
        f"What was finished, if anything, is in {settings.output}; the same command starts again."
    )
    return exit_code_of(lambda: run(settings, console), console, left)


if __name__ == "__main__":
    sys.exit(main())
