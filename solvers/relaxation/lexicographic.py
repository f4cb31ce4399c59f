"""The triangle of lexicographic Gauss–Seidel: a prefix scan along lines, line after line across."""

from typing import Any

import jax
import jax.numpy as jnp

from solvers.operators import EllipticOperator


def solve_triangle(
    operator: EllipticOperator, weight: jax.Array, r: jax.Array, *, reverse: bool
) -> jax.Array:
    """Solve (D/ω + L) δ = r, L below the diagonal in index order (`reverse`: above it).

    Args:
        operator: A.
        weight: ω/D.
        r: residual, shape `grid.shape`.
        reverse: whether the nodes are visited from the last to the first.
    """
    grid = operator.grid
    weight = jnp.broadcast_to(weight, grid.shape)
    flip = jnp.flip if reverse else lambda x: x
    lows, wraps = [], []
    for axis in range(grid.ndim):
        low, high = (
            operator.weigh(jnp.broadcast_to(c, grid.shape)) for c in operator.face_pair(axis)
        )
        before = flip(weight * (high if reverse else low))
        after = flip(weight * (low if reverse else high))
        first, last = (jnp.arange(grid.shape[axis]) == i for i in (0, grid.shape[axis] - 1))
        along = [-1 if d == axis else 1 for d in range(grid.ndim)]
        lows.append(jnp.where(first.reshape(along), 0, before))
        is_wrap = grid.is_periodic(axis)
        wraps.append(jnp.where(last.reshape(along), after, 0) if is_wrap else None)
    return flip(_recur(lows, wraps, flip(r * weight)))


def _recur(lows: list[jax.Array], wraps: list[Any], g: jax.Array) -> jax.Array:
    """δ_i = g_i + Σ_d lowᵈ_i δ_{i−e_d}, plus wrapᵈ_i δ of the first node of a periodic axis d.

    Along the first axis slab by slab; the last axis is a prefix scan of x ↦ m x + g.
    """
    if g.ndim == 1:
        delta = _scan_line(lows[0], g)
        return delta if wraps[0] is None else delta + wraps[0] * delta[0]

    def slab(carry: tuple[jax.Array, jax.Array], terms: Any) -> Any:
        previous, first = carry
        index, low, wrap, inner_lows, inner_wraps, rows = terms
        rows = rows + low * previous
        rows = rows if wrap is None else rows + wrap * first
        delta = _recur(inner_lows, inner_wraps, rows)
        return (delta, jnp.where(index == 0, delta, first)), delta

    nothing = jnp.zeros_like(g[0])
    terms = (jnp.arange(g.shape[0]), lows[0], wraps[0], lows[1:], wraps[1:], g)
    return jax.lax.scan(slab, (nothing, nothing), terms)[1]


def _scan_line(m: jax.Array, g: jax.Array) -> jax.Array:
    """δ_i = m_i δ_{i−1} + g_i, m_0 = 0, by composing the maps in a tree."""

    def compose(first: Any, second: Any) -> Any:
        return first[0] * second[0], second[0] * first[1] + second[1]

    return jax.lax.associative_scan(compose, (m, g))[1]
