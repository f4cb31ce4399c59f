"""Sweeps of the relaxations on parity blocks."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from solvers.multigrid.blocks import Blocks, Parity
from solvers.multigrid.level import Level, unit
from solvers.multigrid.stencil import StencilLevel
from solvers.relaxation.gauss_seidel import GaussSeidel
from solvers.relaxation.jacobi import Jacobi


class Relaxation(eqx.Module):
    """A relaxation on one level."""

    @abc.abstractmethod
    def sweep(self, level: Level | StencilLevel, f: Blocks, u: Blocks, *, reverse: bool) -> Blocks:
        """One sweep for A u = f; blocks that `u` lacks are 0, and `reverse` goes from last to first."""


class JacobiRelaxation(Relaxation):
    """u + ω D⁻¹(f − A u)."""

    omega: Any

    def sweep(self, level: Level | StencilLevel, f: Blocks, u: Blocks, *, reverse: bool) -> Blocks:
        change = level.scale(level.residual(f, u) if u else f)
        change = {parity: _as(self.omega, x) * x for parity, x in change.items()}
        return {parity: u[parity] + x for parity, x in change.items()} if u else change


class ColourRelaxation(Relaxation):
    """Gauss–Seidel, one colour after the other: u ← (1 − ω)u + ω D⁻¹(f + Σ s u).

    Red and black where nodes couple along axes only, else each block is a colour.
    """

    omega: Any

    def sweep(self, level: Level | StencilLevel, f: Blocks, u: Blocks, *, reverse: bool) -> Blocks:
        if isinstance(level, StencilLevel):
            return level.relax(self.omega, f, u, reverse=reverse)
        u = dict(u)
        colours = level.colours()
        for colour in reversed(colours) if reverse else colours:
            u |= {parity: _relaxed(level, self.omega, f, u, parity) for parity in colour}
        return u


class ChebyshevRelaxation(Relaxation):
    """A Chebyshev polynomial in D⁻¹A."""

    degree: int = eqx.field(static=True)
    smallest: Any

    def sweep(self, level: Level | StencilLevel, f: Blocks, u: Blocks, *, reverse: bool) -> Blocks:
        raise NotImplementedError


# Best for full coarsening with one sweep before and one after: Yavneh 1996, SIAM J. Sci. Comput. 17.
OVER_RELAXATION = 1.15
# Damping that smooths best: 2d/(2d + 1).


def relaxation_on(level: Level | StencilLevel, smoother: Any, *, is_full: bool) -> Relaxation:
    """The block form of a public relaxation; by default over-relaxed Gauss–Seidel by colours.

    Over-relaxation pays where all axes are coarsened, and not with semicoarsening.
    """
    if smoother is None:
        return ColourRelaxation(OVER_RELAXATION if is_full else 1.0)
    if isinstance(smoother, GaussSeidel):
        return ColourRelaxation(smoother.over_relaxation)
    if isinstance(smoother, Jacobi):
        best = 2 * level.ndim / (2 * level.ndim + 1)
        return JacobiRelaxation(best if smoother.damping is None else smoother.damping)
    raise ValueError(f"smoother: expected a relaxation of this package, got {smoother!r}")


def coarsens_all_axes(smoother: Any) -> bool:
    """Whether a relaxation smooths along all axes however they are coupled."""
    return type(smoother).__name__ == "LineRelaxation"


def _as(number: Any, like: jax.Array) -> jax.Array:
    return jnp.asarray(number).astype(like.dtype)


def _relaxed(level: Level, omega: Any, f: Blocks, u: Blocks, parity: Parity) -> jax.Array:
    old, inverse = u.get(parity), level.inverse_diagonal[parity]
    inflow = level.inflow(u, parity)
    target = inverse * (f[parity] if inflow is None else f[parity] + inflow)
    for axis in range(level.ndim):
        if level.has_seam(axis) and parity[axis] == 0:
            target = _solve_seam(level, old, target, parity, axis)
    weight = _as(omega, target)
    return weight * target if old is None else (1 - weight) * old + weight * target


def _solve_seam(
    level: Level, old: jax.Array | None, target: jax.Array, parity: Parity, axis: int
) -> jax.Array:
    """Relax the last and the first node along a periodic axis of odd length as pairs.

    They are neighbours of one colour, and near each other on coarse levels: one by one they would
    not settle.
    """
    inverse = level.inverse_diagonal[parity]
    end = target.shape[axis] - 1

    def line(x: jax.Array, at: int) -> jax.Array:
        return jax.lax.slice_in_dim(jnp.broadcast_to(x, target.shape), at, at + 1, axis=axis)

    down, up = (level.couplings[unit(axis, step, level.ndim)][parity] for step in (-1, 1))
    alpha, beta = line(down, 0) * line(inverse, 0), line(up, end) * line(inverse, end)
    first, last = line(target, 0), line(target, end)
    if old is not None:
        first, last = first - alpha * line(old, end), last - beta * line(old, 0)
    scale = 1 - alpha * beta
    target = jax.lax.dynamic_update_slice_in_dim(
        target, (first + alpha * last) / scale, 0, axis=axis
    )
    return jax.lax.dynamic_update_slice_in_dim(
        target, (last + beta * first) / scale, end, axis=axis
    )
