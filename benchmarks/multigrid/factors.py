"""Measured convergence factors against the house's bounds and the prediction."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers import Boundary, Cycle, EllipticOperator, Grid, Multigrid, predict_factor
from solvers.multigrid import coarsest
from solvers.multigrid.blocks import split
from solvers.multigrid.cycle import Plan, run_cycle, size
from solvers.multigrid.hierarchy import build, finest_level

CYCLES, SMALL = 10, 2**12
# Per cycle, asymptotic: Dirichlet sides, equal couplings, V-cycles with over-relaxation 1.15.
BOUNDS = {(2, 1, 1): 0.037, (2, 2, 1): 0.019, (3, 1, 1): 0.095}
SIZES = (17, 33, 64, 65, 100, 127, 128, 129, 257, 511)
SIZES_3D = (17, 33, 64, 65)
RATIOS = (1e-4, 1e-2, 1e2, 1e4)


class Entry(NamedTuple):
    """Unknowns per axis (or intervals on Neumann axes), sides, diffusion per axis, sweeps."""

    size: int
    ndim: int
    sides: Boundary = Boundary.DIRICHLET
    diffusion: tuple[float, ...] | None = None
    pre: int = 1


def entries(mode: str) -> list[Entry]:
    """What to measure; every one is a compilation of some seconds."""
    if mode == "quick":
        return [Entry(33, 2)]
    if mode == "default":
        chosen = [Entry(n, 2) for n in (64, 127, 129, 257)] + [Entry(127, 2, pre=2)]
        chosen += [Entry(100, 2, Boundary.NEUMANN), Entry(100, 2, Boundary.PERIODIC)]
        chosen += [Entry(127, 2, diffusion=(1.0, r)) for r in (1e-2, 1e2)]
        return [*chosen, Entry(33, 3), Entry(33, 3, diffusion=(1.0, 1.0, 1e-2))]
    return list(_all())


def _all() -> Iterable[Entry]:
    for sides in Boundary:
        yield from (Entry(n, 2, sides) for n in SIZES)
        yield from (Entry(n, 3, sides) for n in SIZES_3D)
    for n in (65, 127, 257):
        yield Entry(n, 2, pre=2)
        yield from (Entry(n, 2, diffusion=(1.0, r)) for r in RATIOS)
    for ratio in RATIOS:
        yield Entry(33, 3, diffusion=(1.0, 1.0, ratio))
        yield Entry(33, 3, diffusion=(1.0, ratio, ratio))


def table(mode: str, report: Callable[[float], None]) -> list[dict[str, Any]]:
    rows = []
    for done, entry in enumerate(entries(mode), 1):
        rows.append(measure(entry))
        report(done)
    return rows


def measure(entry: Entry) -> dict[str, Any]:
    """One row: geometric mean of cycles 3 to 10 of A u = 0 from a random start, in float64.

    Levels go down to about 12² unknowns: the tensor solve of a larger coarsest grid, which makes a
    cycle faster and 128² a single level, would hide the factor of small grids. Compiled functions
    are kept by grid and do not know of this, hence a box that no other part has.
    """
    more = {Boundary.DIRICHLET: 1, Boundary.NEUMANN: -1, Boundary.PERIODIC: 0}[entry.sides]
    grid = Grid((entry.size + more,) * entry.ndim, upper=2.0, boundary=entry.sides)
    operator = EllipticOperator(grid, 1.0 if entry.diffusion is None else entry.diffusion)
    start = jnp.asarray(np.random.default_rng(0).standard_normal(grid.shape))
    with mock.patch.object(coarsest, "TENSOR_WORK", SMALL):
        norms = np.asarray(_norms(operator, start, jnp.zeros_like(start), entry.pre))
        predicted = float(predict_factor(operator, Multigrid(pre=entry.pre)))
    measured = float((norms[CYCLES] / norms[2]) ** (1 / (CYCLES - 2))) if norms.any() else None
    is_plain = entry.sides is Boundary.DIRICHLET and entry.diffusion is None
    bound = BOUNDS.get((entry.ndim, entry.pre, 1)) if is_plain else None
    return {
        "size": entry.size,
        "ndim": entry.ndim,
        "sides": entry.sides.name.lower(),
        "diffusion": entry.diffusion,
        "pre": entry.pre,
        "measured": measured,
        "predicted": predicted,
        "bound": bound,
        "met": None if bound is None or measured is None else measured <= bound,
    }


@eqx.filter_jit
def _norms(operator: EllipticOperator, start: jax.Array, zero: jax.Array, pre: int) -> jax.Array:
    hierarchy = build(operator, None)
    if not hierarchy.levels:
        return jnp.zeros(CYCLES + 1)
    level, f = finest_level(operator), split(zero)

    def norm(u: Any) -> jax.Array:
        return size(level.weigh(level.residual(f, u)))

    def cycle(i: jax.Array, state: Any) -> Any:
        u, norms = state
        u = run_cycle(hierarchy, Plan(Cycle.V, pre, 1), f, u)
        return u, norms.at[i].set(norm(u))

    u = split(start)
    norms = jnp.zeros(CYCLES + 1).at[0].set(norm(u))
    return jax.lax.fori_loop(1, CYCLES + 1, cycle, (u, norms))[1]
