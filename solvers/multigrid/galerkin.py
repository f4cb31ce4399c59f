"""Interpolation that follows the operator, and coarse operators PᵀAP."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.compiler import HIGHEST, prefers_long_programs, short_loop
from solvers.multigrid.axis import Axis
from solvers.multigrid.blocks import Blocks, Parity, Values
from solvers.multigrid.level import Level
from solvers.multigrid.stacked import (
    Layout,
    Offset,
    add_window,
    by_parts,
    cropped,
    fill_rim,
    fold_rim,
    inside,
    interleave,
    laid_out,
    part,
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
        layout, below: of the stacked blocks of the finer level and of the coarser one.
        is_stacked: whether the finer level's functions are stacks, not blocks.
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
    below: Layout = eqx.field(static=True)
    is_stacked: bool = eqx.field(static=True)
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

    def prolong(self, coarse: jax.Array) -> Values:
        """P e, on all of the finer level."""
        e = by_parts(self._prolong, self.layout, self._from_coarse(coarse), self.shares)
        e = e if self.filled is None else self.filled * e
        return e if self.is_stacked else unstack(e, self.layout)

    def _from_coarse(self, coarse: jax.Array) -> jax.Array:
        """A stack of the coarser level as one of the finer one, 0 at dropped nodes."""
        axes, kept, block = self.coarsening.axes, self.coarsening.kept, self.layout.block
        u = coarse.reshape(*(2,) * len(kept), *self.below.block)
        u = cropped(interleave(u, axes), block)
        beside = [(k, 1 - k, 0) if d in axes else (0, 0, 0) for d, k in enumerate(kept)]
        u = jax.lax.pad(u, jnp.zeros((), u.dtype), [*beside, *[(0, 0, 0)] * len(block)])
        return u.reshape(-1, *block)

    def _to_coarse(self, r: jax.Array) -> jax.Array:
        """The kept nodes of a stack of the finer level as a stack of the coarser one."""
        axes, kept, block = self.coarsening.axes, self.coarsening.kept, self.below.block
        r = r.reshape(*(2,) * len(kept), *self.layout.block)
        r = r[tuple(slice(k, k + 1) if d in axes else slice(2) for d, k in enumerate(kept))]
        # What Pᵀ has put beyond the last nodes, next to Dirichlet sides, is cut off.
        pairs = list(zip(block, self.below.shape, strict=True))
        r = cropped(r, [n if d in axes else m for d, (m, n) in enumerate(pairs)])
        r = cropped(r, [2 * m if d in axes else m for d, (m, _) in enumerate(pairs)])
        return laid_out(part(r, axes).reshape(-1, *block), self.below)

    def _prolong(self, layout: Layout, e: jax.Array, shares: jax.Array) -> jax.Array:
        targets, sources = self._tables()

        def term(k: jax.Array, e: jax.Array) -> jax.Array:
            values = shares[k] * window(e, sources[k], layout)
            return fill_rim(add_window(e, targets[k], values), layout)

        start, opens = with_rim(e, layout), layout.opens_loops
        return inside(short_loop(term, len(self.pairs), start, opens=opens))

    def restrict(self, r: Values) -> jax.Array:
        """Pᵀ r."""
        stacked = stack(r, self.layout) if isinstance(r, dict) else r
        stacked = stacked if self.filled is None else self.filled * stacked
        return self._to_coarse(by_parts(self._restrict, self.layout, stacked, self.shares))

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
        own = couplings[:, index]
        found = jnp.tensordot(jnp.asarray(sums, own.dtype), own, 1, precision=HIGHEST)
        if isinstance(level, StencilLevel):
            found = _without_cancellation(found)
        total = jnp.sum(found, 0) + excess[index]
        inverse = jnp.where(total > 0, 1 / jnp.where(total > 0, total, 1), 0)
        shares.append(found * inverse[None])
        pairs += [(parity, offset) for offset in wanted]
    return OperatorTransfer(
        coarsening=coarsening,
        layout=layout,
        below=layout_on(tuple(x.coarser() if d in coarsened else x for d, x in enumerate(axes))),
        is_stacked=isinstance(level, StencilLevel),
        pairs=tuple(pairs),
        shares=jnp.concatenate(shares),
    )


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
    """Offsets, couplings (offsets, 2ᵈ, …) and row sums (2ᵈ, …)."""
    if isinstance(level, StencilLevel):
        return offsets(level.ndim), level.couplings, level.excess
    every = list(level.couplings)
    couplings = jnp.stack([stack(level.couplings[offset], layout) for offset in every])
    if level.excess is None:
        return every, couplings, jnp.zeros_like(couplings[0])
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
    tables = [_stacked_along(colour, axis, layout, -1) for axis, colour in enumerate(colours)]

    def probe(which: jax.Array) -> jax.Array:
        e = jnp.ones((), dtype)
        for table, colour in zip(tables, which, strict=True):
            e = e * jnp.where(colour < 0, table >= 0, table == colour).astype(dtype)
        e = e.reshape(-1, *layout.block)
        return transfer.restrict(level.apply(transfer.prolong(e)))

    # The last vector, of ones everywhere, gives the row sums.
    vectors = [*itertools.product(*map(range, counts)), (-1,) * ndim]
    batch = max(1, min(PROBED // math.prod(transfer.layout.shape), len(vectors)))
    probes = jax.lax.map(
        probe,
        jnp.asarray(np.array(vectors, np.int32)),
        batch_size=batch if prefers_long_programs() else None,
    )
    couplings = -_entries(probes[:-1], axes, layout, colours, counts)
    excess = jnp.zeros_like(probes[-1]) if is_singular else probes[-1]
    return stencil_level(axes, couplings, excess)


def _entries(
    probes: jax.Array,
    axes: tuple[Axis, ...],
    layout: Layout,
    colours: list[np.ndarray],
    counts: list[int],
) -> jax.Array:
    """Entries (j, j + o) of the matrix, shape (offsets, 2ᵈ, …), 0 where j + o is no other node."""
    ndim = len(axes)
    tables, shares = [], []
    for axis, (line, colour) in enumerate(zip(axes, colours, strict=True)):
        j = np.arange(line.size) + np.array([[-1], [0], [1]])
        share = np.ones(j.shape) if line.is_periodic else ((j >= 0) & (j < line.size)) * 1.0
        # Of two nodes in a ring each is the other's neighbour twice, with half of the entry.
        share[[0, 2]] *= (
            0.0 if line.size == 1 else 0.5 if line.is_periodic and line.size == 2 else 1
        )
        tables.append(_stacked_along(colour[j % line.size], axis, layout, 0))
        shares.append(_stacked_along(share.astype(probes.dtype), axis, layout, 0))

    def entry(offset: jax.Array) -> jax.Array:
        index, share = jnp.zeros((), jnp.int32), jnp.ones((), probes.dtype)
        for axis in range(ndim):
            row = offset[axis] + 1
            index = index * counts[axis] + tables[axis][row]
            share = share * shares[axis][row]
        index, share = (x.reshape(-1, *layout.block) for x in (index, share))
        return share * jnp.take_along_axis(probes, index[None], axis=0)[0]

    return jax.lax.map(entry, jnp.asarray(np.array(offsets(ndim), np.int32)))


def _colours(line: Axis) -> np.ndarray:
    """Numbers such that no node has a neighbour, or a neighbour's neighbour, of its own."""
    colour = np.arange(line.size, dtype=np.int32) % 3
    if line.is_periodic and line.size > 3 and line.size % 3:
        rest = line.size % 3
        colour[-rest:] = 3 + np.arange(rest)
    return colour


def _stacked_along(values: np.ndarray, axis: int, layout: Layout, missing: int) -> jax.Array:
    """Values along one axis, of `values`' last one, by parities and places in a block.

    Shape (…, 2 or 1 per axis, m or 1 per axis), so that all axes' broadcast to a stack.
    """
    ndim, m = len(layout.shape), layout.block[axis]
    lead = values.shape[:-1]
    ends = [(0, 0)] * len(lead) + [(0, 2 * m - values.shape[-1])]
    pairs = np.pad(values, ends, constant_values=missing).reshape(*lead, m, 2)
    shape = [n if d == axis else 1 for n in (2, m) for d in range(ndim)]
    return jnp.asarray(np.swapaxes(pairs, -1, -2).reshape(*lead, *shape))
