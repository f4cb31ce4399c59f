"""Sweeps of the relaxations on parity blocks."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from solvers.multigrid.blocks import (
    Blocks,
    Parity,
    Values,
    flipped,
    interleave_axes,
    parities,
    split,
)
from solvers.multigrid.level import Level, unit
from solvers.multigrid.seam import crossings, solve_crossing
from solvers.multigrid.stacked import Offset
from solvers.multigrid.stencil import StencilLevel
from solvers.relaxation.chebyshev import LARGEST, Chebyshev, polynomial_sweep, smoothing_part
from solvers.relaxation.gauss_seidel import GaussSeidel, Ordering
from solvers.relaxation.jacobi import Jacobi
from solvers.relaxation.lines import LineRelaxation
from solvers.tridiagonal import TridiagonalFactor, factor

SMOOTHERS = Jacobi | GaussSeidel | Chebyshev | LineRelaxation


class Relaxation(eqx.Module):
    """A relaxation on one level."""

    @abc.abstractmethod
    def sweep(self, level: Level | StencilLevel, f: Values, u: Values, *, reverse: bool) -> Values:
        """One sweep for A u = f; `u` None is 0, `reverse` goes from last to first."""


class JacobiRelaxation(Relaxation):
    """u + ω D⁻¹(f − A u)."""

    omega: Any

    def sweep(self, level: Level | StencilLevel, f: Values, u: Values, *, reverse: bool) -> Values:
        change = level.scale(f if u is None else level.residual(f, u))
        change = jax.tree.map(lambda x: _as(self.omega, x) * x, change)
        return change if u is None else jax.tree.map(jnp.add, u, change)


class ColourRelaxation(Relaxation):
    """Gauss–Seidel, one colour after the other: u ← (1 − ω)u + ω D⁻¹(f + Σ s u).

    Red and black where nodes couple along axes only, else each block is a colour.
    """

    omega: Any

    def sweep(self, level: Level | StencilLevel, f: Values, u: Values, *, reverse: bool) -> Values:
        if isinstance(level, StencilLevel):
            return level.relax(self.omega, f, u, reverse=reverse)
        u = {} if u is None else dict(u)
        colours = level.colours()
        for colour in reversed(colours) if reverse else colours:
            u |= {parity: _relaxed(level, self.omega, f, u, parity) for parity in colour}
        return u


class ChebyshevRelaxation(Relaxation):
    """A Chebyshev polynomial in D⁻¹A."""

    degree: int = eqx.field(static=True)
    smallest: Any

    def sweep(self, level: Level | StencilLevel, f: Values, u: Values, *, reverse: bool) -> Values:
        return polynomial_sweep(
            lambda v: level.residual(f, v),
            level.scale,
            jax.tree.map(jnp.zeros_like, f) if u is None else u,
            degree=self.degree,
            smallest=self.smallest,
            largest=LARGEST,
        )


class LineGroup(eqx.Module):
    """Lines along an axis that are relaxed at once.

    Attributes:
        axis: along which.
        parities: of the lines across it, as blocks with parity 0 along it.
        factors: of their tridiagonal systems.
    """

    axis: int = eqx.field(static=True)
    parities: tuple[Parity, ...] = eqx.field(static=True)
    factors: tuple[TridiagonalFactor, ...]

    def corrected(self, r: Blocks, u: Blocks) -> Blocks:
        """u plus the solutions of all lines for the residual r."""
        u = dict(u)
        for parity, factored in zip(self.parities, self.factors, strict=True):
            lines = {p: r[p] for p in (parity, flipped(parity, (self.axis,)))}
            change = factored.solve(interleave_axes(lines, (self.axis,))[parity])
            for p, part in split(change, (self.axis,)).items():
                block = tuple(p[d] if d == self.axis else q for d, q in enumerate(parity))
                u[block] = u[block] + part
        return u


class LinesRelaxation(Relaxation):
    """Zebra lines along one axis after the other: even lines, then odd ones.

    On stencils of 3ᵈ points each parity across is a group of its own.
    """

    groups: tuple[LineGroup, ...]

    def sweep(self, level: Level | StencilLevel, f: Values, u: Values, *, reverse: bool) -> Values:
        u = jax.tree.map(jnp.zeros_like, f) if u is None else u
        for group in reversed(self.groups) if reverse else self.groups:
            r = level.to_blocks(level.residual(f, u))
            u = level.of_blocks(group.corrected(r, level.to_blocks(u)))
        return u


def line_groups(level: Level | StencilLevel, axes: tuple[int, ...]) -> tuple[LineGroup, ...]:
    """Factor the lines of a level along each of `axes`."""
    groups = []
    for axis in axes:
        across = sorted((p for p in parities(level.ndim) if p[axis] == 0), key=lambda p: sum(p) % 2)
        if isinstance(level, StencilLevel):
            colours = [(parity,) for parity in across]
        else:
            colours = [tuple(p for p in across if sum(p) % 2 == colour) for colour in (0, 1)]
        for colour in colours:
            factors = tuple(_factor(level, axis, parity) for parity in colour)
            if factors:
                groups.append(LineGroup(axis, colour, factors))
    return tuple(groups)


def _factor(level: Level | StencilLevel, axis: int, parity: Parity) -> TridiagonalFactor:
    """Factor the lines along `axis` in the blocks of one parity across."""

    def lines(blocks: Blocks) -> jax.Array:
        pair = (parity, flipped(parity, (axis,)))
        full = {p: jnp.broadcast_to(blocks[p], level.block_shape(p)) for p in pair}
        return interleave_axes(full, (axis,))[parity]

    low, high = (level.couplings_at(unit(axis, step, level.ndim)) for step in (-1, 1))
    ones = level.split(jnp.ones(level.shape, level.dtype))
    inverse = lines(level.to_blocks(level.scale(ones)))
    diagonal = jnp.where(inverse > 0, 1 / jnp.where(inverse > 0, inverse, 1), 1)
    if all(n == 1 for other, n in enumerate(level.shape) if other != axis):
        diagonal = diagonal * (1 + PINNED)
    nothing = jnp.zeros_like(diagonal)
    lower = nothing if low is None else -lines(low)
    upper = nothing if high is None else -lines(high)
    is_periodic = level.wraps[axis] and level.shape[axis] > 2
    return factor(lower, diagonal, upper, axis, periodic=is_periodic)


# Of the diagonal, by which a level's only line is held: it may be all of a singular operator.
PINNED = 1e-6
# With one sweep before and one after a full coarsening; 1 with semicoarsening.
# Yavneh 1996, SIAM J. Sci. Comput. 17, 180–192.
OVER_RELAXATION = 1.15


def default_over_relaxation(is_full: bool) -> float:
    """ω of Gauss–Seidel by colours where all axes are coarsened, and where not."""
    return OVER_RELAXATION if is_full else 1.0


def best_damping(ndim: int, smoother: Jacobi) -> Any:
    """The damping of a Jacobi smoother, by default the one that smooths best, 2d/(2d + 1)."""
    return 2 * ndim / (2 * ndim + 1) if smoother.damping is None else smoother.damping


def relaxation_on(level: Level | StencilLevel, smoother: Any, *, is_full: bool) -> Relaxation:
    """The block form of a public relaxation; by default over-relaxed Gauss–Seidel by colours."""
    if smoother is None:
        return ColourRelaxation(default_over_relaxation(is_full))
    if isinstance(smoother, GaussSeidel) and smoother.ordering is Ordering.RED_BLACK:
        return ColourRelaxation(smoother.over_relaxation)
    if isinstance(smoother, Jacobi):
        if smoother.fused > 1:
            raise ValueError("smoother: Multigrid has no fused sweeps, leave out Jacobi's fused")
        return JacobiRelaxation(best_damping(level.ndim, smoother))
    if isinstance(smoother, Chebyshev):
        smallest = smoothing_part(level.ndim) if smoother.smallest is None else smoother.smallest
        return ChebyshevRelaxation(smoother.degree, smallest)
    if isinstance(smoother, LineRelaxation):
        axes = tuple(range(level.ndim)) if smoother.axes is None else smoother.axes
        if max(axes) >= level.ndim:
            raise ValueError(f"smoother: expected axes below {level.ndim}, got {axes}")
        return LinesRelaxation(line_groups(level, axes))
    raise ValueError(
        "smoother: expected Jacobi, red-black GaussSeidel, Chebyshev or LineRelaxation, "
        f"got {smoother!r}"
    )


def coarsens_all_axes(smoother: Any) -> bool:
    """Whether a relaxation smooths along all axes however they are coupled."""
    return isinstance(smoother, LineRelaxation)


def _as(number: Any, like: jax.Array) -> jax.Array:
    return jnp.asarray(number).astype(like.dtype)


def _relaxed(level: Level, omega: Any, f: Blocks, u: Blocks, parity: Parity) -> jax.Array:
    old, inverse = u.get(parity), level.inverse_diagonal[parity]
    inflow = level.inflow(u, parity)
    target = inverse * (f[parity] if inflow is None else f[parity] + inflow)
    target = _with_seams(level, old, target, parity)
    weight = _as(omega, target)
    return weight * target if old is None else (1 - weight) * old + weight * target


def _with_seams(
    level: Level, old: jax.Array | None, target: jax.Array, parity: Parity
) -> jax.Array:
    """What to relax to, with the nodes next to seams solved for together."""

    def share(offset: Offset) -> jax.Array | None:
        coupling = level.couplings_at(offset)
        return None if coupling is None else coupling[parity] * level.inverse_diagonal[parity]

    axes = [axis for axis in range(level.ndim) if level.has_seam(axis) and parity[axis] == 0]
    relaxed = target
    for seams in crossings(axes):
        for start, values in solve_crossing(share, seams, old, target):
            relaxed = jax.lax.dynamic_update_slice(relaxed, values, start)
    return relaxed
