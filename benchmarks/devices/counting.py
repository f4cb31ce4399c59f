"""Counts what a V-cycle sends on growing meshes of devices; prints a JSON object a line.

`benchmarks.devices.scaling` runs it in a process with as many forced host devices as it needs. The
programs are compiled and not run.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.devices.messages import messages, sent_bytes
from solvers import Grid, Multigrid, Poisson, place
from solvers.placement import on, placed

# Devices along each axis, and intervals: of each device's part, or of the whole grid.
WEAK = {2: ((1, 2, 4, 8), 256), 3: ((1, 2, 4), 32)}
STRONG = {2: ((1, 2, 4, 8), 1024), 3: ((1, 2, 4), 96)}


class Case(NamedTuple):
    """A grid and the mesh for it, `along` devices along each axis."""

    part: str
    ndim: int
    along: int
    intervals: int


def cases() -> Iterator[Case]:
    """All of them, the work per device constant and the work in all constant."""
    for part, table in (("weak", WEAK), ("strong", STRONG)):
        for ndim, (alongs, size) in table.items():
            for along in alongs:
                yield Case(part, ndim, along, size * along if part == "weak" else size)


def count(case: Case) -> dict[str, Any]:
    """What one V-cycle in single precision sends from each device."""
    devices = case.along**case.ndim
    shape = (case.along,) * case.ndim
    mesh = Mesh(np.array(jax.devices()[:devices]).reshape(shape), ("x", "y", "z")[: case.ndim])
    grid = Grid((case.intervals,) * case.ndim, dtype="float32")
    problem = place(lambda: Poisson(grid, source=1.0), mesh)

    def cycle(problem: Any) -> Any:
        inside, method = problem.inside(), Multigrid()
        setup = method.prepare(inside.operator)
        return placed(method.precondition(setup, inside.rhs, 1), problem.mesh)

    with on(problem.mesh):
        text = eqx.filter_jit(cycle).lower(problem).compile().compiled.as_text()
    found = list(messages(text))
    own = -(-case.intervals // case.along)
    return case._asdict() | {
        "devices": devices,
        "unknowns": grid.size,
        "surface_bytes": 2 * case.ndim * own ** (case.ndim - 1) * grid.dtype.itemsize,
        "messages": len(found),
        "halo_bytes": sum(sent_bytes(m, devices) for m in found if m.kind == "collective-permute"),
        "other_bytes": sum(sent_bytes(m, devices) for m in found if m.kind != "collective-permute"),
        "largest": max((m.largest for m in found), default=0),
    }


def main() -> int:
    for case in cases():
        print(json.dumps(count(case)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
