"""Parity blocks of equal shape in one array, for stencils of 3ᵈ points.

Galerkin operators couple each node to its 3ᵈ − 1 neighbours, and spelled out block by block that
would be some hundred terms to compile on every level. So the blocks are stacked, each filled up
with zeros to ⌈n/2⌉ nodes per axis, with a rim of one node all round, and loops run over blocks and
offsets: the compiled code is one multiplication and addition of a window.

On a mesh of devices each has its part of every block, with a rim of its own: `by_parts` runs such
loops on the parts, and filling the rim is all that the devices have to say to each other.

In block p the neighbours at offset o are the window of block p ⊕ |o| that starts at Σ over the axes
of pᵢ − 1 for oᵢ = −1, pᵢ for oᵢ = 1, and 0 for oᵢ = 0.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from solvers.multigrid.blocks import Blocks, Parity, flipped, parities
from solvers.placement import devices_along, exchanged, split_apply, spread, whole

Offset = tuple[int, ...]


class Layout(NamedTuple):
    """Shape of a level in this storage; static.

    Attributes:
        shape: number of nodes per axis.
        wraps: whether each axis is periodic.
        devices: that hold a part of every block each, along each axis.
        is_part: whether it is such a part that is meant.
    """

    shape: tuple[int, ...]
    wraps: tuple[bool, ...]
    devices: tuple[int, ...]
    is_part: bool = False

    @property
    def block(self) -> tuple[int, ...]:
        """Shape of a block, or of a part."""
        parts = [-(-((n + 1) // 2) // p) for n, p in zip(self.shape, self.devices, strict=True)]
        times = (1,) * len(parts) if self.is_part else self.devices
        return tuple(n * p for n, p in zip(parts, times, strict=True))

    @property
    def order(self) -> list[Parity]:
        """Parities in the order of the stack."""
        return parities(len(self.shape))

    def has_seam(self, axis: int) -> bool:
        """Whether the last and the first node along `axis` are neighbours of equal parity."""
        return self.wraps[axis] and self.shape[axis] % 2 == 1 and self.shape[axis] > 1

    @property
    def opens_loops(self) -> bool:
        """Whether loops over blocks may be written out: in 3-D that is too much to compile."""
        return len(self.shape) < 3

    def split(self, u: jax.Array) -> jax.Array:
        """Stack the nodes of an array in their natural order."""
        ndim = u.ndim
        u = cropped(u, [2 * m for m in self.block])
        u = part(u.reshape(*(1,) * ndim, *u.shape), range(ndim))
        return u.reshape(-1, *self.block)

    def join(self, u: jax.Array) -> jax.Array:
        """The inverse of `split`."""
        ndim = len(self.shape)
        u = interleave(u.reshape(*(2,) * ndim, *self.block), range(ndim))
        return cropped(u.reshape(u.shape[ndim:]), self.shape)

    def windows(self, pairs: list[tuple[Parity, Offset]]) -> np.ndarray:
        """Where neighbours are in an array with a rim: block and start, shape (pairs, 1 + d)."""
        rows = []
        for parity, offset in pairs:
            source = flipped(parity, [axis for axis, o in enumerate(offset) if o])
            steps = (0 if o == 0 else p - (o < 0) for p, o in zip(parity, offset, strict=True))
            rows.append([self.order.index(source), *(1 + step for step in steps)])
        return np.array(rows, np.int32)


def interleave(u: jax.Array, axes: Sequence[int]) -> jax.Array:
    """Merge the parities along `axes`, the first d axes of `u`, with the nodes, its last d."""
    ndim = u.ndim // 2
    shape = [1 if d in axes else u.shape[d] for d in range(ndim)]
    shape += [u.shape[ndim + d] * (2 if d in axes else 1) for d in range(ndim)]
    return jnp.transpose(u, _by_nodes(ndim, axes)).reshape(shape)


def part(u: jax.Array, axes: Sequence[int]) -> jax.Array:
    """The inverse of `interleave`, for even numbers of nodes."""
    ndim = u.ndim // 2
    shape = [2 if d in axes else u.shape[d] for d in range(ndim)]
    shape += [u.shape[ndim + d] // (2 if d in axes else 1) for d in range(ndim)]
    order = _by_nodes(ndim, axes)
    return jnp.transpose(u.reshape([shape[i] for i in order]), np.argsort(order).tolist())


def _by_nodes(ndim: int, axes: Sequence[int]) -> list[int]:
    """The parities along other axes, then the nodes along each, with the parities if in `axes`."""
    order = [d for d in range(ndim) if d not in axes]
    for d in range(ndim):
        order += [ndim + d, d] if d in axes else [ndim + d]
    return order


def cropped(u: jax.Array, shape: Sequence[int]) -> jax.Array:
    """The same with so many entries along its last axes: cut off, or filled up with zeros."""
    ends = [(0, 0, 0)] * (u.ndim - len(shape))
    ends += [(0, n - m, 0) for n, m in zip(shape, u.shape[len(ends) :], strict=True)]
    return jax.lax.pad(u, jnp.zeros((), u.dtype), ends)


def stack(blocks: Blocks, layout: Layout) -> jax.Array:
    """Blocks of a level as one array (2ᵈ, …)."""
    padded = []
    for parity in layout.order:
        padded.append(cropped(blocks[parity], layout.block)[None])
    return jax.lax.concatenate(padded, 0)


def unstack(u: jax.Array, layout: Layout) -> Blocks:
    """The inverse of `stack`."""
    blocks = {}
    for index, parity in enumerate(layout.order):
        sizes = [(n + 1 - p) // 2 for p, n in zip(parity, layout.shape, strict=True)]
        blocks[parity] = u[(index, *(slice(size) for size in sizes))]
    return blocks


def layout_of(shape: tuple[int, ...], wraps: tuple[bool, ...]) -> Layout:
    """The layout for the mesh at hand; whole on every device where its devices do not share it."""
    one = (1,) * len(shape)
    devices = devices_along(tuple((n + 1) // 2 for n in shape))
    halves = zip(shape, wraps, devices, strict=True)
    # What wraps must not have missing nodes between its ends.
    is_shared = all(p == 1 or not is_ring or n % (2 * p) == 0 for n, is_ring, p in halves)
    return Layout(shape, wraps, devices if is_shared else one)


def laid_out(u: jax.Array, layout: Layout) -> jax.Array:
    """The same where the layout has it: whole on every device, or split."""
    return whole(u) if max(layout.devices) == 1 else spread(u)


def by_parts(function: Callable[..., jax.Array], layout: Layout, *stacked: jax.Array) -> jax.Array:
    """Apply a function of stacked blocks and of their layout, on a mesh to the parts."""
    if max(layout.devices) == 1:
        return whole(function(layout, *map(whole, stacked)))
    local = functools.partial(function, layout._replace(is_part=True))
    return split_apply(local, *map(spread, stacked))


def with_rim(u: jax.Array, layout: Layout) -> jax.Array:
    """Add the rim: zeros, or what lies beyond the end of a periodic axis."""
    widths = [(0, 0, 0)] + [(1, 1, 0)] * len(layout.shape)
    return fill_rim(jax.lax.pad(u, jnp.zeros((), u.dtype), widths), layout)


def fill_rim(u: jax.Array, layout: Layout) -> jax.Array:
    """Bring the rim up to date, of periodic axes and between parts."""
    for axis, (n, wraps) in enumerate(zip(layout.shape, layout.wraps, strict=True)):
        m = layout.block[axis]
        if layout.is_part and layout.devices[axis] > 1:
            low, high = u[_at(axis, 1)], u[_at(axis, m)]
            before, after = exchanged(low, high, axis, wraps=wraps)
            u = u.at[_at(axis, 0)].set(before).at[_at(axis, m + 1)].set(after)
            continue
        if not wraps:
            continue
        if n % 2 == 0:
            u = u.at[_at(axis, 0)].set(u[_at(axis, m)]).at[_at(axis, m + 1)].set(u[_at(axis, 1)])
        else:
            # Beyond the last node, of parity 0, comes the first one, where an odd one is expected.
            even = [i for i, p in enumerate(layout.order) if p[axis] == 0]
            odd = [i for i, p in enumerate(layout.order) if p[axis] == 1]
            first, last = u[_at(axis, 1, even)], u[_at(axis, m, even)]
            u = u.at[_at(axis, 0, odd)].set(last).at[_at(axis, m, odd)].set(first)
    return u


def fold_rim(u: jax.Array, layout: Layout) -> jax.Array:
    """Add the rim to the nodes that it stands for, the transpose of `fill_rim`."""
    for axis, (n, wraps) in reversed(list(enumerate(zip(layout.shape, layout.wraps, strict=True)))):
        m = layout.block[axis]
        if layout.is_part and layout.devices[axis] > 1:
            low, high = u[_at(axis, 0)], u[_at(axis, m + 1)]
            before, after = exchanged(low, high, axis, wraps=wraps)
            u = u.at[_at(axis, 1)].add(before).at[_at(axis, m)].add(after)
            u = u.at[_at(axis, 0)].set(0).at[_at(axis, m + 1)].set(0)
        elif wraps and n % 2 == 0:
            low, high = u[_at(axis, 0)], u[_at(axis, m + 1)]
            u = u.at[_at(axis, m)].add(low).at[_at(axis, 1)].add(high)
            u = u.at[_at(axis, 0)].set(0).at[_at(axis, m + 1)].set(0)
    return u


def _at(axis: int, index: int, blocks: Any = None) -> tuple[Any, ...]:
    chosen = slice(None) if blocks is None else np.array(blocks)
    return (chosen, *[slice(None)] * axis, index)


def window(u: jax.Array, start: jax.Array, layout: Layout) -> jax.Array:
    """One block's worth of `u`, which has a rim, from (block, start per axis)."""
    return jax.lax.dynamic_slice(u, list(start), (1, *layout.block))[0]


def add_window(u: jax.Array, start: jax.Array, values: jax.Array) -> jax.Array:
    """Add `values` to the window at `start`."""
    old = jax.lax.dynamic_slice(u, list(start), (1, *values.shape))
    return jax.lax.dynamic_update_slice(u, old + values[None], list(start))


def set_window(u: jax.Array, start: jax.Array, values: jax.Array) -> jax.Array:
    """Put `values` into the window at `start`."""
    return jax.lax.dynamic_update_slice(u, values[None], list(start))


def inside(u: jax.Array) -> jax.Array:
    """Take the rim off."""
    return u[(slice(None), *[slice(1, -1)] * (u.ndim - 1))]
