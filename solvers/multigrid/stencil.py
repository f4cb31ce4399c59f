"""A level of a general stencil of 3ᵈ points: what Galerkin coarsening makes of an operator."""

import itertools
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.compiler import prefers_long_programs, short_loop
from solvers.multigrid.axis import Axis
from solvers.multigrid.blocks import Blocks, Parity, Values
from solvers.multigrid.seam import crossings, solve_crossing
from solvers.multigrid.stacked import (
    Layout,
    Offset,
    by_parts,
    fill_rim,
    inside,
    layout_of,
    set_window,
    stack,
    unstack,
    window,
    with_rim,
)


def offsets(ndim: int) -> list[Offset]:
    """All neighbours, without the node itself."""
    return [o for o in itertools.product((-1, 0, 1), repeat=ndim) if any(o)]


class StencilLevel(eqx.Module):
    """(Au)_j = Σ_o s_o (u_j − u_{j+o}) + e_j u_j, symmetric, o over all 3ᵈ − 1 neighbours.

    Its functions are stacks of blocks, 0 where a block has no node.

    Attributes:
        layout: of the stacked blocks.
        kept: parity of the nodes that the next coarser level keeps.
        couplings: s_o, shape (3ᵈ − 1, 2ᵈ, …), offsets first.
        excess: e, shape (2ᵈ, …).
        inverse: 1/(Σ_o s_o + e), likewise; 0 where a block has no node.
    """

    layout: Layout = eqx.field(static=True)
    kept: Parity = eqx.field(static=True)
    couplings: jax.Array
    excess: jax.Array
    inverse: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.layout.shape

    @property
    def ndim(self) -> int:
        return len(self.layout.shape)

    @property
    def wraps(self) -> tuple[bool, ...]:
        return self.layout.wraps

    @property
    def dtype(self) -> Any:
        """Precision of the coefficients."""
        return self.inverse.dtype

    def split(self, u: jax.Array) -> Values:
        """Store an array of all nodes as the level's functions are."""
        return self.layout.split(u)

    def join(self, u: Values) -> jax.Array:
        """The inverse of `split`."""
        return self.layout.join(u)

    def to_blocks(self, u: Values) -> Blocks:
        """The blocks of a function."""
        return unstack(u, self.layout)

    def of_blocks(self, blocks: Blocks) -> Values:
        """The inverse of `to_blocks`."""
        return stack(blocks, self.layout)

    def block_shape(self, parity: Parity) -> tuple[int, ...]:
        """Number of nodes per axis of one block."""
        return tuple((n + 1 - p) // 2 for n, p in zip(self.shape, parity, strict=True))

    def couplings_at(self, offset: Offset) -> Blocks | None:
        """s_o per block."""
        return unstack(self.couplings[offsets(self.ndim).index(offset)], self.layout)

    def _windows(self) -> jax.Array:
        """Block and start of every neighbour, shape (2ᵈ, 3ᵈ − 1, 1 + d)."""
        order, all_offsets = self.layout.order, offsets(self.ndim)
        pairs = list(itertools.product(order, all_offsets))
        table = self.layout.windows(pairs)
        return jnp.asarray(table.reshape(len(order), len(all_offsets), 1 + self.ndim))

    def _start(self, block: jax.Array) -> jax.Array:
        return jnp.concatenate([block[None], jnp.ones(self.ndim, jnp.int32)])

    def residual(self, f: Values, u: Values) -> Values:
        """f − A u."""
        return f - self.apply(u)

    def apply(self, u: Values) -> Values:
        """A u."""
        return by_parts(self._apply, self.layout, u, self.couplings, self.excess)

    def _apply(
        self, layout: Layout, u: jax.Array, couplings: jax.Array, excess: jax.Array
    ) -> jax.Array:
        windows, u = self._windows(), with_rim(u, layout)

        def block(index: jax.Array) -> jax.Array:
            own = window(u, self._start(index), layout)

            def term(k: jax.Array, total: jax.Array) -> jax.Array:
                other = window(u, windows[index, k], layout)
                return total + couplings[k, index] * (own - other)

            return short_loop(term, len(offsets(self.ndim)), excess[index] * own)

        if prefers_long_programs() and layout.opens_loops:
            return jnp.stack([block(jnp.int32(i)) for i in range(len(layout.order))])
        return jax.lax.map(block, jnp.arange(len(layout.order), dtype=jnp.int32))

    def scale(self, r: Values) -> Values:
        """D⁻¹ r."""
        return self.inverse * r

    def relax(
        self, omega: jax.Array, f: jax.Array, u: jax.Array | None, *, reverse: bool
    ) -> jax.Array:
        """Gauss–Seidel with over-relaxation, block after block, those of kept nodes first."""
        u = jnp.zeros_like(f) if u is None else u
        relax = partial(self._relax, reverse=reverse)
        omega = jnp.asarray(omega).astype(f.dtype)
        return by_parts(relax, self.layout, u, f, omega, self.couplings, self.inverse)

    def _relax(
        self,
        layout: Layout,
        guess: jax.Array,
        load: jax.Array,
        omega: jax.Array,
        couplings: jax.Array,
        inverse: jax.Array,
        *,
        reverse: bool,
    ) -> jax.Array:
        windows = self._windows()
        order = sorted(range(len(layout.order)), key=lambda i: self._distance(layout.order[i]))
        colours = jnp.asarray(order[::-1] if reverse else order, jnp.int32)

        def visit(step: jax.Array, v: jax.Array) -> jax.Array:
            index = colours[step]

            def term(k: jax.Array, total: jax.Array) -> jax.Array:
                return total + couplings[k, index] * window(v, windows[index, k], layout)

            total = short_loop(term, len(offsets(self.ndim)), load[index])
            old = window(v, self._start(index), layout)
            target = self._with_seams(index, old, inverse[index] * total)
            new = (1 - omega) * old + omega * target
            return fill_rim(set_window(v, self._start(index), new), layout)

        start, opens = with_rim(guess, layout), layout.opens_loops
        return inside(short_loop(visit, len(order), start, opens=opens))

    def _distance(self, parity: Parity) -> int:
        return sum(p != k for p, k in zip(parity, self.kept, strict=True))

    def _with_seams(self, index: jax.Array, old: jax.Array, target: jax.Array) -> jax.Array:
        """What to relax to, with the nodes next to seams solved for together."""

        def share(offset: Offset) -> jax.Array:
            return self.couplings[offsets(self.ndim).index(offset), index] * self.inverse[index]

        relaxed = target
        for seams in crossings([axis for axis in range(self.ndim) if self.layout.has_seam(axis)]):
            is_even = [all(parity[axis] == 0 for axis in seams) for parity in self.layout.order]
            for start, values in solve_crossing(share, seams, old, target):
                changed = jax.lax.dynamic_update_slice(relaxed, values, start)
                relaxed = jnp.where(jnp.asarray(np.array(is_even))[index], changed, relaxed)
        return relaxed


def stencil_level(axes: tuple[Axis, ...], couplings: jax.Array, excess: jax.Array) -> StencilLevel:
    """A level from its couplings and row sums, stacked."""
    diagonal = jnp.sum(couplings, 0) + excess
    return StencilLevel(
        layout=layout_on(axes),
        kept=tuple(line.kept for line in axes),
        couplings=couplings,
        excess=excess,
        inverse=jnp.where(diagonal > 0, 1 / jnp.where(diagonal > 0, diagonal, 1), 0),
    )


def layout_on(axes: tuple[Axis, ...]) -> Layout:
    return layout_of(tuple(line.size for line in axes), tuple(line.is_periodic for line in axes))
