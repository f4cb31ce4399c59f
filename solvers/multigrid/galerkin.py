"""Interpolation that follows the operator, and coarse operators PᵀAP."""

import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.compiler import HIGHEST, prefers_long_programs, short_loop
from solvers.multigrid.axis import Axis
from solvers.multigrid.blocks import Blocks, Parity, join, split
from solvers.multigrid.level import Level
from solvers.multigrid.stacked import (
    Layout,
    Offset,
    add_window,
    by_parts,
    fill_rim,
    fold_rim,
    inside,
    stack,
    unstack,
    window,
    with_rim,
)
from solvers.multigrid.stencil import StencilLevel, layout_on, offsets, stencil_level
from solvers.multigrid.transfer import Coarsening, coarsening_of

# Numbers of a finer level's grid functions that are at once multiplied with its operator.
PROBED = 2**26


class OperatorTransfer(eqx.Module):
    """Interpolation that follows the operator, right across jumps, and its transpose.

    A dropped node is interpolated by its own equation, with the couplings summed along the axes on
    which it is in line with kept nodes: u_j = Σ_o s̄_o u_{j+o} / (Σ_o s̄_o + e), offsets o along the
    other coarsened axes only, so that a coarse cell's edges come first and its middle last.

    Attributes:
        coarsening: which nodes are kept.
        layout: of the stacked blocks.
        pairs: of dropped blocks and offsets, in the order of the sums.
        shares: s̄_o/(Σ s̄_o + e), one array of a block's shape for each pair.
        filled: stacked, 0 at nodes that have no part in it, else 1; None for 1.

    Reference: Alcouffe, Brandt, Dendy, Painter 1981, "The multi-grid method for the diffusion
    equation with strongly discontinuous coefficients", SIAM J. Sci. Stat. Comput. 2, 430–454,
    doi:10.1137/0902035; Dendy 1982, "Black box multigrid", J. Comput. Phys. 48, 366–386,
    doi:10.1016/0021-9991(82)90057-2.
    """

    coarsening: Coarsening
    layout: Layout = eqx.field(static=True)
    pairs: tuple[tuple[Parity, Offset], ...] = eqx.field(static=True)
    shares: jax.Array
    filled: jax.Array | None = None

    def on(self, filled: Blocks) -> "OperatorTransfer":
        """The same for nodes that are filled, with 0 at all others."""
        stacked = stack(filled, self.layout).astype(self.shares.dtype)
        return eqx.tree_at(lambda own: own.filled, self, stacked, is_leaf=lambda x: x is None)

    def _tables(self) -> tuple[jax.Array, jax.Array]:
        """Windows of the targets and of the sources of every pair, shape (pairs, 1 + d)."""
        own = [(parity, (0,) * len(parity)) for parity, _ in self.pairs]
        tables = self.layout.windows(own), self.layout.windows(list(self.pairs))
        return jnp.asarray(tables[0]), jnp.asarray(tables[1])

    def prolong(self, coarse: Blocks) -> Blocks:
        """P e, on all blocks of the finer level."""
        layout = self.layout
        kept = self.coarsening.from_coarse(coarse)
        like = next(iter(kept.values()))
        sizes = {
            p: [(n + 1 - i) // 2 for i, n in zip(p, layout.shape, strict=True)]
            for p in layout.order
        }
        e = stack({p: kept.get(p, jnp.zeros(sizes[p], like.dtype)) for p in layout.order}, layout)
        e = by_parts(self._prolong, layout, e, self.shares)
        return unstack(e if self.filled is None else self.filled * e, layout)

    def _prolong(self, layout: Layout, e: jax.Array, shares: jax.Array) -> jax.Array:
        targets, sources = self._tables()

        def term(k: jax.Array, e: jax.Array) -> jax.Array:
            values = shares[k] * window(e, sources[k], layout)
            return fill_rim(add_window(e, targets[k], values), layout)

        start, opens = with_rim(e, layout), layout.opens_loops
        return inside(short_loop(term, len(self.pairs), start, opens=opens))

    def restrict(self, r: Blocks) -> Blocks:
        """Pᵀ r."""
        stacked = stack(r, self.layout)
        stacked = stacked if self.filled is None else self.filled * stacked
        stacked = by_parts(self._restrict, self.layout, stacked, self.shares)
        blocks = unstack(stacked, self.layout)
        return self.coarsening.to_coarse({p: blocks[p] for p in self.coarsening.kept_blocks()})

    def _restrict(self, layout: Layout, r: jax.Array, shares: jax.Array) -> jax.Array:
        targets, sources = self._tables()
        widths = [(0, 0, 0)] + [(1, 1, 0)] * len(layout.shape)

        def term(step: jax.Array, r: jax.Array) -> jax.Array:
            k = len(self.pairs) - 1 - step
            values = shares[k] * window(r, targets[k], layout)
            return fold_rim(add_window(r, sources[k], values), layout)

        padded = jax.lax.pad(r, jnp.zeros((), r.dtype), widths)
        return inside(short_loop(term, len(self.pairs), padded, opens=layout.opens_loops))


def operator_transfer(
    level: Level | StencilLevel, axes: tuple[Axis, ...], coarsened: tuple[int, ...]
) -> OperatorTransfer:
    """The transfer that a level's couplings ask for."""
    coarsening, layout = coarsening_of(axes, coarsened), layout_on(axes)
    every, couplings, excess = _stacked_couplings(level, layout)
    pairs, shares = [], []
    for parity in sorted(layout.order, key=coarsening.rank):
        across = [axis for axis in coarsened if parity[axis] != coarsening.kept[axis]]
        short = [tuple(o if d in across else 0 for d, o in enumerate(offset)) for offset in every]
        wanted = sorted({o for o in short if any(o)})
        if not wanted:
            continue
        index = layout.order.index(parity)
        # Sums of couplings as a product with a matrix of zeros and ones.
        sums = np.array([[float(o == w) for o in short] for w in wanted])
        own = couplings[index]
        found = jnp.tensordot(jnp.asarray(sums, own.dtype), own, 1, precision=HIGHEST)
        if isinstance(level, StencilLevel):
            found = _without_cancellation(found)
        total = jnp.sum(found, 0) + excess[index]
        inverse = jnp.where(total > 0, 1 / jnp.where(total > 0, total, 1), 0)
        shares.append(found * inverse[None])
        pairs += [(parity, offset) for offset in wanted]
    return OperatorTransfer(coarsening, layout, tuple(pairs), jnp.concatenate(shares))


def _without_cancellation(couplings: jax.Array) -> jax.Array:
    """Couplings to interpolate with, their sizes where the signs cancel half of their sum.

    Where a medium is rough from node to node, a Galerkin operator has couplings of either sign, and
    shares of a sum near 0 would be large, or nothing at all: cycles diverged at a contrast of 1e4.
    """
    sizes = jnp.abs(couplings)
    cancel = jnp.sum(couplings, 0) < jnp.sum(sizes, 0) / 2
    return jnp.where(cancel, sizes, couplings)


def _stacked_couplings(
    level: Level | StencilLevel, layout: Layout
) -> tuple[list[Offset], jax.Array, jax.Array]:
    """Offsets, couplings (2ᵈ, offsets, …) and row sums (2ᵈ, …)."""
    if isinstance(level, StencilLevel):
        return offsets(level.ndim), level.couplings, level.excess
    every = list(level.couplings)
    couplings = jnp.stack([stack(level.couplings[offset], layout) for offset in every], 1)
    if level.excess is None:
        return every, couplings, jnp.zeros_like(couplings[:, 0])
    return every, couplings, stack(level.excess, layout)


def galerkin_level(
    level: Level | StencilLevel,
    transfer: OperatorTransfer,
    axes: tuple[Axis, ...],
    *,
    is_singular: bool,
) -> StencilLevel:
    """The coarser level PᵀAP, of which a row reaches to next neighbours only.

    PᵀAP is applied to vectors of ones at every third node along each axis, three to the power of d
    of them (a few more where a periodic length is no multiple of three); each entry of the matrix
    is then one entry of a result.

    Args:
        level: A.
        transfer: P.
        axes: of the coarser level.
        is_singular: whether constants are the null space, so that row sums are exactly 0.

    Cost: 3ᵈ + 1 applications of P, A and Pᵀ.
    """
    layout, ndim = layout_on(axes), len(axes)
    colours = [_colours(line) for line in axes]
    counts = [int(colour.max()) + 1 for colour in colours]
    dtype = transfer.shares.dtype

    def product(e: jax.Array) -> jax.Array:
        return join(transfer.restrict(level.apply(transfer.prolong(split(e)))))

    def probe(which: jax.Array) -> jax.Array:
        e = jnp.ones(layout.shape, dtype)
        for axis, colour in enumerate(colours):
            chosen = jnp.asarray(colour) == which[axis]
            e = e * _along(jnp.where(jnp.any(which < 0), True, chosen).astype(dtype), axis, ndim)
        return product(e)

    # The last vector, of ones everywhere, gives the row sums.
    vectors = [*itertools.product(*map(range, counts)), (-1,) * ndim]
    batch = max(1, min(PROBED // math.prod(transfer.layout.shape), len(vectors)))
    probes = jax.lax.map(
        probe,
        jnp.asarray(np.array(vectors, np.int32)),
        batch_size=batch if prefers_long_programs() else None,
    )
    couplings = -_entries(probes[:-1], axes, colours, counts)
    excess = jnp.zeros_like(probes[-1]) if is_singular else probes[-1]
    return stencil_level(
        axes, _stack_natural(couplings, layout, 1), _stack_natural(excess, layout, 0)
    )


def _entries(
    probes: jax.Array, axes: tuple[Axis, ...], colours: list[np.ndarray], counts: list[int]
) -> jax.Array:
    """Entries (j, j + o) of the matrix, shape (offsets, …), 0 where j + o is no other node."""
    ndim = len(axes)
    tables, shares = [], []
    for line, colour in zip(axes, colours, strict=True):
        j = np.arange(line.size) + np.array([[-1], [0], [1]])
        share = np.ones(j.shape) if line.is_periodic else ((j >= 0) & (j < line.size)) * 1.0
        # Of two nodes in a ring each is the other's neighbour twice, with half of the entry.
        share[[0, 2]] *= (
            0.0 if line.size == 1 else 0.5 if line.is_periodic and line.size == 2 else 1
        )
        tables.append(jnp.asarray(colour[j % line.size]))
        shares.append(jnp.asarray(share, probes.dtype))

    def entry(offset: jax.Array) -> jax.Array:
        index, share = jnp.zeros((1,) * ndim, jnp.int32), jnp.ones((1,) * ndim, probes.dtype)
        for axis in range(ndim):
            row = offset[axis] + 1
            index = index * counts[axis] + _along(tables[axis][row], axis, ndim)
            share = share * _along(shares[axis][row], axis, ndim)
        index = jnp.broadcast_to(index, probes.shape[1:])[None]
        return share * jnp.take_along_axis(probes, index, axis=0)[0]

    return jax.lax.map(entry, jnp.asarray(np.array(offsets(ndim), np.int32)))


def _stack_natural(values: jax.Array, layout: Layout, lead: int) -> jax.Array:
    """Arrays over all nodes, after `lead` other axes, as stacked blocks: shape (2ᵈ, lead, …)."""
    ndim = len(layout.shape)
    ends = [(0, 2 * m - n) for m, n in zip(layout.block, layout.shape, strict=True)]
    values = jnp.pad(values, [(0, 0)] * lead + ends)
    halves = [size for m in layout.block for size in (m, 2)]
    values = values.reshape(*values.shape[:lead], *halves)
    inner = [lead + 2 * axis for axis in range(ndim)]
    outer = [lead + 2 * axis + 1 for axis in range(ndim)]
    values = jnp.transpose(values, (*outer, *range(lead), *inner))
    return values.reshape(2**ndim, *values.shape[ndim:])


def _colours(line: Axis) -> np.ndarray:
    """Numbers such that no node has a neighbour, or a neighbour's neighbour, of its own."""
    colour = np.arange(line.size, dtype=np.int32) % 3
    if line.is_periodic and line.size > 3 and line.size % 3:
        rest = line.size % 3
        colour[-rest:] = 3 + np.arange(rest)
    return colour


def _along(values: Any, axis: int, ndim: int) -> jax.Array:
    shape = [1] * ndim
    shape[axis] = -1
    return jnp.asarray(values).reshape(shape)
