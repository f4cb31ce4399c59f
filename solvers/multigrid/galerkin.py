"""Coarse operators as PᵀAP, found by probing."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from solvers.multigrid.axis import Axis
from solvers.multigrid.blocks import join, split
from solvers.multigrid.level import Level, Offset, stencil_level
from solvers.multigrid.transfer import OperatorTransfer


def galerkin_level(
    level: Level, transfer: OperatorTransfer, axes: tuple[Axis, ...], *, is_singular: bool
) -> Level:
    """The coarser level PᵀAP, of which a row reaches to next neighbours only.

    PᵀAP is applied to vectors of ones at every third node along each axis, three to the power of d
    of them (a few more where a periodic length is no multiple of three); each entry of the matrix is
    then one entry of a result.

    Args:
        level: A.
        transfer: P.
        axes: of the coarser level.
        is_singular: whether constants are the null space, so that row sums are exactly 0.

    Cost: 3ᵈ + 1 applications of P, A and Pᵀ.
    """
    shape, ndim = tuple(line.size for line in axes), len(axes)
    colours = [_colours(line) for line in axes]
    counts = [int(colour.max()) + 1 for colour in colours]
    dtype = next(iter(next(iter(level.couplings.values())).values())).dtype

    def product(e: jax.Array) -> jax.Array:
        return join(transfer.restrict(level.apply(transfer.prolong(split(e)))))

    def probe(which: jax.Array) -> jax.Array:
        e = jnp.ones(shape, dtype)
        for axis, colour in enumerate(colours):
            e = e * _along((jnp.asarray(colour) == which[axis]).astype(dtype), axis, ndim)
        return product(e)

    indices = np.array(list(itertools.product(*map(range, counts))), np.int32)
    probes = jax.lax.map(probe, jnp.asarray(indices))
    couplings = {
        offset: split(-_entry(probes, offset, axes, colours, counts))
        for offset in itertools.product((-1, 0, 1), repeat=ndim)
        if any(offset) and all(o == 0 or n > 1 for o, n in zip(offset, shape, strict=True))
    }
    excess = None if is_singular else split(product(jnp.ones(shape, dtype)))
    return stencil_level(axes, couplings, excess)


def _entry(
    probes: jax.Array,
    offset: Offset,
    axes: tuple[Axis, ...],
    colours: list[np.ndarray],
    counts: list[int],
) -> jax.Array:
    """Entries (j, j + o) of the matrix at every node j, 0 where there is no node j + o."""
    ndim = len(axes)
    index, inside = jnp.zeros((1,) * ndim, jnp.int32), jnp.ones((1,) * ndim, bool)
    for axis, line in enumerate(axes):
        j = np.arange(line.size) + offset[axis]
        ok = np.ones_like(j, bool) if line.is_periodic else (j >= 0) & (j < line.size)
        index = index * counts[axis] + _along(colours[axis][j % line.size], axis, ndim)
        inside = inside & _along(ok, axis, ndim)
    index = jnp.broadcast_to(index, probes.shape[1:])[None]
    return jnp.where(inside, jnp.take_along_axis(probes, index, axis=0)[0], 0)


def _colours(line: Axis) -> np.ndarray:
    """Numbers such that no node has a neighbour, or a neighbour's neighbour, of its own."""
    colour = np.arange(line.size, dtype=np.int32) % 3
    if line.is_periodic and line.size > 3 and line.size % 3:
        rest = line.size % 3
        colour[-rest:] = 3 + np.arange(rest)
    return colour


def _along(values: np.ndarray | jax.Array, axis: int, ndim: int) -> jax.Array:
    shape = [1] * ndim
    shape[axis] = -1
    return jnp.asarray(values).reshape(shape)
