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
# Per cycle, asymptotic: Dirichlet sides, equal couplings, over-relaxation 1.15, by axes and pre.
TEXTBOOK = {(2, 1): 0.037, (2, 2): 0.019, (3, 1): 0.095}
# Above it, for sizes that are not 2ᵏ − 1 or sides that are not Dirichlet; for odd axes of these.
OTHER, SEAM = 1.2, 1.5
UNEQUAL = 0.15  # for axes of unequal lengths or couplings
SIZES = (17, 18, 33, 64, 65, 100, 127, 128, 129, 257, 511, 512, 1000, 1023, 1025)
SIZES_3D = (17, 18, 33, 63, 64, 65)
RATIOS = (1e-4, 1e-2, 1e2, 1e4)


class Entry(NamedTuple):
    """Unknowns per axis, sides, diffusion per axis, sweeps before the correction."""

    sizes: tuple[int, ...]
    sides: Boundary = Boundary.DIRICHLET
    diffusion: tuple[float, ...] | None = None
    pre: int = 1

    @property
    def bound(self) -> float:
        """What the factor is to be at most."""
        if self.diffusion is not None or len(set(self.sizes)) > 1:
            return UNEQUAL
        textbook = TEXTBOOK[len(self.sizes), self.pre]
        size = self.sizes[0]
        if self.sides is not Boundary.DIRICHLET:
            return textbook * (SEAM if size % 2 else OTHER)
        return textbook if (size + 1).bit_count() == 1 else textbook * OTHER


def entries(mode: str) -> list[Entry]:
    """What to measure; every one is a compilation of some seconds."""
    if mode == "quick":
        return [Entry((33, 33))]
    if mode == "default":
        chosen = [Entry((n, n)) for n in (64, 127, 129, 257)] + [Entry((127, 127), pre=2)]
        chosen += [Entry((100, 100), Boundary.NEUMANN), Entry((100, 100), Boundary.PERIODIC)]
        chosen += [Entry((127, 127), diffusion=(1.0, r)) for r in (1e-2, 1e2)]
        return [*chosen, Entry((33, 33, 33)), Entry((33, 33, 33), diffusion=(1.0, 1.0, 1e-2))]
    return list(_all())


def _all() -> Iterable[Entry]:
    for sides in Boundary:
        yield from (Entry((n, n), sides) for n in SIZES)
        yield from (Entry((n, n, n), sides) for n in SIZES_3D)
        yield from (Entry(sizes, sides) for sizes in ((257, 40), (100, 63), (33, 48, 20)))
    for n in (65, 127, 257):
        yield Entry((n, n), pre=2)
        yield from (Entry((n, n), diffusion=(1.0, r)) for r in RATIOS)
    for ratio in RATIOS:
        for axis in range(3):
            diffusion = tuple(ratio if d == axis else 1.0 for d in range(3))
            yield Entry((33, 33, 33), diffusion=diffusion)


def table(mode: str, report: Callable[[float], None]) -> list[dict[str, Any]]:
    rows = []
    for done, entry in enumerate(entries(mode), 1):
        rows.append(measure(entry))
        report(done)
        jax.clear_caches()  # a hundred compiled programs have more memory maps than Linux allows
    return rows


def measure(entry: Entry) -> dict[str, Any]:
    """One row: geometric mean of cycles 3 to 10 of A u = 0 from a random start, in float64.

    Levels go down to about 12² unknowns: the tensor solve of a larger coarsest grid, which makes a
    cycle faster and 128² a single level, would hide the factor of small grids. Compiled functions
    are kept by grid and do not know of this, hence a box that no other part has.
    """
    more = {Boundary.DIRICHLET: 1, Boundary.NEUMANN: -1, Boundary.PERIODIC: 0}[entry.sides]
    intervals = tuple(n + more for n in entry.sizes)
    grid = Grid(intervals, upper=2.0, boundary=entry.sides)
    operator = EllipticOperator(grid, 1.0 if entry.diffusion is None else entry.diffusion)
    start = jnp.asarray(np.random.default_rng(0).standard_normal(grid.shape))
    with mock.patch.object(coarsest, "TENSOR_WORK", SMALL):
        norms = np.asarray(_norms(operator, start, jnp.zeros_like(start), entry.pre))
        predicted = float(predict_factor(operator, Multigrid(pre=entry.pre)))
    measured = float((norms[CYCLES] / norms[2]) ** (1 / (CYCLES - 2))) if norms.any() else None
    return {
        "sizes": list(entry.sizes),
        "sides": entry.sides.name.lower(),
        "diffusion": entry.diffusion,
        "pre": entry.pre,
        "measured": measured,
        "predicted": predicted,
        "bound": entry.bound,
        "met": None if measured is None else measured <= entry.bound,
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
