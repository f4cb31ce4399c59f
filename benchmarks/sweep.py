"""How near a Jacobi sweep comes to the machine's copy bandwidth.

A sweep has to read u and b and write u. The limit is what the same machine takes for just that, the
compiled v = u + s·b on arrays of the same size, timed in turn with the sweeps; the sweep is timed
as `solve` does it, its looks at the residual included.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console

from benchmarks.devices.triad import Triad
from benchmarks.figures import STYLE
from benchmarks.options import Parser
from benchmarks.report import Stages, plain_table
from benchmarks.results import environment, write_json
from solvers import Grid, Jacobi, Poisson
from solvers.hybrid.timing import measure_step

SIZES = (128, 256, 512, 1024, 2048)
RUNS = 9


def measure(size: int, dtype: Any) -> dict[str, Any]:
    """Median over interleaved runs at size × size unknowns."""
    grid = Grid((size + 1, size + 1), dtype=dtype)
    problem, method = Poisson(grid, 1.0), Jacobi()
    triad = Triad(dtype, grid.size)
    sweeps, ratios = [], []
    for _ in range(RUNS):
        sweeps.append(measure_step(problem, method, time.perf_counter, least=0.05)[0])
        triad.again()
        ratios.append(triad.seconds[-1] / sweeps[-1])
    moved = 3 * grid.size * np.dtype(dtype).itemsize
    return {
        "size": size,
        "dtype": np.dtype(dtype).name,
        "sweep_seconds": float(np.median(sweeps)),
        "copy_seconds": float(np.median(triad.seconds)),
        "sweep_gb_per_s": moved / float(np.median(sweeps)) / 1e9,
        "copy_gb_per_s": moved / float(np.median(triad.seconds)) / 1e9,
        "ratio": float(np.median(ratios)),
        "ratio_spread": [float(x) for x in np.quantile(ratios, [0.25, 0.75])],
    }


def run(sizes: Sequence[int], output: Path, console: Console) -> dict[str, Any]:
    """Measure all sizes in both precisions; write `sweep.json` and `sweep.png`."""
    cases: list[tuple[int, Any]] = [(n, t) for t in (jnp.float32, jnp.float64) for n in sizes]
    with Stages(console) as stages, stages("Jacobi sweeps", len(cases)) as report:
        rows = [_reported(report, i, measure, *case) for i, case in enumerate(cases, 1)]
    results = {"rows": rows, "environment": environment("float32 and float64")}
    write_json(output / "sweep.json", results)
    _draw(rows, output / "sweep.png")
    columns = ["unknowns", "precision", "sweep µs", "copy µs", "sweep GB/s", "copy GB/s", "ratio"]
    table = [
        [
            f"{row['size']}²",
            row["dtype"],
            row["sweep_seconds"] * 1e6,
            row["copy_seconds"] * 1e6,
            row["sweep_gb_per_s"],
            row["copy_gb_per_s"],
            row["ratio"],
        ]
        for row in rows
    ]
    title = "A Jacobi sweep against reading u and b and writing u"
    console.print(plain_table({"title": title, "columns": columns, "rows": table}))
    console.print(f"Written: {output / 'sweep.json'}, {output / 'sweep.png'}")
    return results


def _reported(report: Callable[[float], None], done: int, work: Any, *arguments: Any) -> Any:
    result = work(*arguments)
    report(done)
    return result


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        for dtype, dash in (("float32", "-"), ("float64", "--")):
            chosen = [row for row in rows if row["dtype"] == dtype]
            sizes = [row["size"] for row in chosen]
            for name, colour in (("sweep", "#D55E00"), ("copy", "#000000")):
                speeds = [row[f"{name}_gb_per_s"] for row in chosen]
                axes.plot(sizes, speeds, dash, color=colour, marker="o", label=f"{name}, {dtype}")
        axes.set_xscale("log", base=2)
        axes.set(yscale="log", xlabel="unknowns per side", ylabel="GB/s (two reads, one write)")
        axes.set_title("Jacobi sweeps and the copy bandwidth")
        axes.legend()
        figure.savefig(path)
        plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    jax.config.update("jax_enable_x64", True)
    parser = Parser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="unknowns per side")
    parser.add_argument("--output", type=Path, default=Path("results/sweep"))
    options = parser.parse_args(argv)
    parser.expect_writable(options.output)
    run(options.sizes, options.output, Console(width=None if sys.stdout.isatty() else 120))
    return 0


if __name__ == "__main__":
    sys.exit(main())
