"""Diagonally dominant tridiagonal systems, solved in two passes through blocks of rows."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from solvers.tridiagonal import put, recur, row

Rows = Callable[[jax.Array], jax.Array]


def _as_it_is(rows: jax.Array) -> jax.Array:
    return rows


class DominantSystems(NamedTuple):
    """The systems l_j x_{j−1} + d_j x_j + u_j x_{j+1} = r_j with l, u ≤ 0 and d = w e − l − u.

    Their pivots p are found from w e ≥ 0 without any subtraction,

        s_j = w_j e_j − l_j s_{j−1}/p_{j−1},   p_j = s_j − u_j,   s_0/p_0 = 1,

    so that each is as good as rounding allows, however small e is beside l and u.

    Args:
        lower: l, with as many axes as r, broadcasting to it. l_1 and u_n, which lead out of the
            system, still count in d: as they stand beside a Dirichlet side, 0 beside a Neumann one.
        excess: e.
        share: w, a second factor, so that w e need not be of the shape of r.
        upper: u.
        axis: of the recurrence.
        is_pinned: take x_j = 0 where a pivot is exactly 0, as the last of a constant mode is.

    Reference: Grassmann, Taksar, Heyman 1985, "Regenerative analysis and steady state distributions
    for Markov chains", Operations Research 33(5), doi:10.1287/opre.33.5.1107.

    Example:
        >>> l, e, u = jnp.array([0.0, -1.0]), jnp.full(2, 1e-20), jnp.array([-1.0, 0.0])
        >>> print(DominantSystems(l, e, jnp.ones(1), u, axis=0).solve(e, width=2))
        [1. 1.]
    """

    lower: jax.Array
    excess: jax.Array
    share: jax.Array
    upper: jax.Array
    axis: int
    is_pinned: bool = False

    def solve(
        self, rhs: jax.Array, *, width: int, before: Rows = _as_it_is, after: Rows = _as_it_is
    ) -> jax.Array:
        """Solve for after⁻¹(x), given before⁻¹(r), both functions along the other axes.

        Whatever is done to a block is done while it is in the cache. Pivots are not kept, for that
        is an array more to ask of the system: a block's are computed again from s/p before it.

        Args:
            rhs: what `before` makes r of.
            width: number of rows in a block.
            before: what to do to a block of `rhs` first.
            after: what to do to a block of x in the end.

        Cost: two passes over r, three steps a row.
        """
        count, rest = divmod(rhs.shape[self.axis], width)
        zero = jnp.zeros_like(self._turn(jax.lax.slice_in_dim(rhs, 0, 1, axis=self.axis)))
        ratios = jnp.zeros((count, *zero.shape), zero.dtype)

        def down(i: jax.Array, state: Any) -> Any:
            rows, ratios, ratio, y = state
            ratios = jax.lax.dynamic_update_index_in_dim(ratios, ratio, i, 0)
            rows, ratio, y = self._forward(rows, range(width), i * width, (ratio, y), before)
            return rows, ratios, ratio, y

        def up(i: jax.Array, state: Any) -> Any:
            (rows, x), j = state, count - 1 - i
            return self._backward(rows, range(width), j * width, (ratios[j], x), after)

        state = (rhs, ratios, jnp.ones_like(zero), zero)
        rows, ratios, ratio, y = jax.lax.fori_loop(0, count, down, state)
        x = zero
        if rest:
            done = count * width
            rows, _, _ = self._forward(rows, range(rest), done, (ratio, y), before)
            rows, x = self._backward(rows, range(rest), done, (ratio, x), after)
        return jax.lax.fori_loop(0, count, up, (rows, x))[0]

    def _forward(
        self, rows: jax.Array, order: range, start: Any, carry: Any, before: Rows
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """y_j = (r_j − l_j y_{j−1})/p_j in a block, from s/p and y before it."""

        def step(i: Any, r: jax.Array, carry: Any) -> Any:
            pivot, y = carry
            pivot = self._pivot(start + i, pivot)
            y = (r - self._at(self.lower, start + i) * y) * pivot[1]
            return y, (pivot, y)

        block = jax.lax.dynamic_slice_in_dim(rows, start, len(order), self.axis)
        ratio, y = carry
        carry = ((ratio, jnp.ones_like(ratio)), y)
        block, ((s, inverse), y) = recur(step, self._turn(before(block)), 0, order, carry)
        return put(rows, self._turn(block), start, self.axis), s * inverse, y

    def _backward(
        self, rows: jax.Array, order: range, start: Any, carry: Any, after: Rows
    ) -> tuple[jax.Array, jax.Array]:
        """x_j = y_j − u_j x_{j+1}/p_j in a block, from s/p before it and x behind it."""

        def invert(i: Any, _: jax.Array, pivot: Any) -> Any:
            pivot = self._pivot(start + i, pivot)
            return pivot[1], pivot

        def step(i: Any, y: jax.Array, x: jax.Array) -> Any:
            x = y - self._at(self.upper, start + i) * x * row(inverses, i, 0)
            return x, x

        ratio, x = carry
        block = self._turn(jax.lax.dynamic_slice_in_dim(rows, start, len(order), self.axis))
        pivot = (ratio, jnp.ones_like(ratio))
        inverses, _ = recur(invert, jnp.zeros_like(block), 0, order, pivot)
        block, x = recur(step, block, 0, order[::-1], x)
        return put(rows, after(self._turn(block)), start, self.axis), x

    def _pivot(self, j: Any, before: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """s_j and 1/p_j from those of the row before, multiplied here to save a pass over a row."""
        s = self._at(self.share, j) * self._at(self.excess, j)
        s = s - self._at(self.lower, j) * (before[0] * before[1])
        p = s - self._at(self.upper, j)
        return s, jnp.where(p == 0, 0, 1 / p) if self.is_pinned else 1 / p

    def _at(self, coefficient: jax.Array, j: Any) -> jax.Array:
        return self._turn(row(coefficient, j, self.axis))

    def _turn(self, rows: jax.Array) -> jax.Array:
        """Exchange the axis of the recurrence with the first, along which rows are contiguous."""
        return jnp.swapaxes(rows, 0, self.axis)
