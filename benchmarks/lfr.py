"""What the low-frequency ratio of many samples costs, beside their distances alone.

The limit is the time for all |xᵢ−xⱼ|², tile by tile and summed up, timed in turn with LFR for all
variances. Memory is what a fresh process takes at its peak beyond what it has once the inputs are
there, compilation included.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from benchmarks.options import Parser
from benchmarks.report import Stages, plain_table
from benchmarks.results import environment, write_json
from nets import low_frequency_ratio
from nets.filtering import in_blocks, tile_of_distances

RUNS = 5
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
VALUES = 10  # columns of y, as many as MNIST has labels


def draw(samples: int, coordinates: int, count: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Points, values and `count` geometric variances, which the time does not depend on."""
    rng = np.random.default_rng(0)
    x = rng.random((samples, coordinates), np.float32)
    y = rng.standard_normal((samples, VALUES), np.float32)
    return jnp.asarray(x), jnp.asarray(y), jnp.geomspace(0.02, 50, count, dtype=jnp.float32)


@jax.jit
def sum_of_distances(x: jax.Array) -> jax.Array:
    """Σᵢⱼ |xᵢ−xⱼ|², by the tiles that the filter takes."""
    blocks = in_blocks(x - jnp.mean(x, 0, keepdims=True))
    every = jnp.arange(len(blocks))

    def add(total: jax.Array, i: jax.Array, j: jax.Array) -> tuple[jax.Array, None]:
        return total + jnp.sum(tile_of_distances(blocks, j, i)), None

    def row(i: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda total, j: add(total, i, j), jnp.zeros((), x.dtype), every)[0]

    return jnp.sum(jax.lax.map(row, every))


def seconds_of(work: Callable[[], jax.Array]) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - begin


def resident_bytes(field: str) -> int:
    """Memory of this process: "VmRSS" is what it has now, "VmHWM" the most since the last reset."""
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def memory_beyond_inputs(samples: int, coordinates: int, count: int) -> int | None:
    """Bytes at the peak of one LFR beyond those with the inputs; for a process of its own.

    None where the system does not say. Not `ru_maxrss`: it is inherited from the parent process,
    and has the peak of drawing the inputs in it.
    """
    if not STATUS.exists():
        return None
    inputs = jax.block_until_ready(draw(samples, coordinates, count))
    before = resident_bytes("VmRSS")
    RESET.write_text("5", encoding="utf-8")
    jax.block_until_ready(low_frequency_ratio(*inputs))
    return resident_bytes("VmHWM") - before


def measure(samples: int, coordinates: int, count: int, runs: int) -> dict[str, Any]:
    """Median of interleaved runs, and memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        memory = pool.submit(memory_beyond_inputs, samples, coordinates, count).result()
    x, y, variances = draw(samples, coordinates, count)
    works = (lambda: sum_of_distances(x), lambda: low_frequency_ratio(x, y, variances))
    compiling = [seconds_of(work) for work in works]
    times = np.array([[seconds_of(work) for work in works] for _ in range(runs)])
    return {
        "samples": samples,
        "coordinates": coordinates,
        "variances": count,
        "values": VALUES,
        "runs": runs,
        "first_call_seconds": compiling[1],
        "distance_seconds": float(np.median(times[:, 0])),
        "ratio_seconds": float(np.median(times[:, 1])),
        "multiple": float(np.median(times[:, 1] / times[:, 0])),
        "megabytes": None if memory is None else memory / 2**20,
    }


def run(sizes: Sequence[int], options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure all sizes; print a table and write `lfr.json`."""
    rows = []
    with Stages(console) as stages, stages("LFR", len(sizes)) as report:
        for done, samples in enumerate(sizes, 1):
            # A run takes N²: of 30 000 samples one is enough.
            runs = options.runs or max(1, min(RUNS, round(RUNS * (5000 / samples) ** 2)))
            rows.append(measure(samples, options.coordinates, options.variances, runs))
            report(done)
    results = {"rows": rows, "environment": environment("float32")}
    write_json(options.output / "lfr.json", results)
    names = ("samples", "distance_seconds", "ratio_seconds", "multiple", "megabytes")
    title = f"LFR for {options.variances} variances, {options.coordinates} coordinates"
    columns = ["samples", "distances s", "LFR s", "multiple", "MiB beyond inputs"]
    table = [[str(row[names[0]]), *(row[name] for name in names[1:])] for row in rows]
    console.print(plain_table({"title": title, "columns": columns, "rows": table}))
    console.print(f"Written: {options.output / 'lfr.json'}")
    return results


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m benchmarks.lfr", description=__doc__)
    parser.add_argument("--samples", type=int, nargs="+", default=[5000], help="numbers of points")
    parser.add_argument("--coordinates", type=int, default=784, help="of a point")
    parser.add_argument("--variances", type=int, default=50, help="how many")
    parser.add_argument("--runs", type=int, help="of each; by default 5, fewer for many samples")
    parser.add_argument("--output", type=Path, default=Path("results/lfr"))
    options = parser.parse_args(argv)
    parser.expect_writable(options.output)
    counts = {"--samples": min(options.samples), "--coordinates": options.coordinates,
              "--variances": options.variances, "--runs": options.runs or 1}  # fmt: skip
    for name, count in counts.items():
        if count < 1:
            parser.error(f"{name}: expected at least 1, got {count}")
    run(options.samples, options, Console(width=None if sys.stdout.isatty() else 120))
    return 0


if __name__ == "__main__":
    sys.exit(main())
