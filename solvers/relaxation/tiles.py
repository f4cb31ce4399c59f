"""Grid functions cut into tiles that overlap, stored so that a kernel for the TPU can read them."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from solvers.grid import Grid
from solvers.operators import EllipticOperator

# Fast memory comes in registers of so many numbers along the last two axes.
SUBLANES, LANES = 8, 128
# Bytes of fast memory for a kernel's tiles; v5e and all later chips have at least 64 MiB.
BUDGET = 40 * 2**20
# Numbers of a chunk, the part of a tile that is computed at once.
CHUNK = 2**15


class Axis(NamedTuple):
    """How an axis is stored: a rim, `count` tiles, a rim.

    The first unknown follows the first rim. Block i, a tile with its rims, starts at i·tile.
    """

    unknowns: int
    rim: int
    tile: int
    count: int

    @property
    def block(self) -> int:
        return self.tile + 2 * self.rim

    @property
    def stored(self) -> int:
        return self.count * self.tile + 2 * self.rim


class Layout(NamedTuple):
    """How grid functions are cut and stored; static.

    Attributes:
        grid: whose unknowns.
        axes: one each; the last is one tile without a rim.
        chunk: rows, in 3-D planes, that are computed at once.
        beside: rows or planes beyond a chunk that are loaded with it.
        sweeps: at most, in a kernel.
    """

    grid: Grid
    axes: tuple[Axis, ...]
    chunk: int
    beside: int
    sweeps: int

    @property
    def stored(self) -> tuple[int, ...]:
        """Along the first axis there is more: what is loaded beside the last chunk."""
        first, *others = (axis.stored for axis in self.axes)
        return (first + self.beside, *others)

    @property
    def block(self) -> tuple[int, ...]:
        return tuple(axis.block for axis in self.axes)

    def longer(self, by: int) -> tuple[int, ...]:
        """A block with `by` more rows or planes."""
        return (self.block[0] + by, *self.block[1:])


def lay_out(operator: EllipticOperator, sweeps: int) -> Layout:
    """Cut a grid into tiles, as large as fast memory allows.

    Raises:
        ValueError: if it has no room for the smallest.
    """
    grid = operator.grid
    *leading, columns = grid.shape
    has_faces = operator.conductances[-1].ndim > 0  # one more than unknowns
    last = Axis(columns, 0, _rounded(columns + has_faces, LANES), 1)
    # Of u, b and the coefficients the next block is read while one is worked on, of the result the
    # last one is written; two more hold the sweeps.
    varying = [x for x in (*operator.conductances, operator.reaction) if x is not None and x.ndim]
    blocks = 2 * (3 + len(varying) + bool(varying)) + 2
    area = BUDGET // (blocks * grid.dtype.itemsize * last.tile)
    rim = _rounded(sweeps, SUBLANES)
    if grid.ndim == 2:
        chunk = _rounded(min(max(CHUNK // last.tile, SUBLANES), 64), SUBLANES)
        rows = _cut(leading[0], rim, area, chunk)
        layout = Layout(grid, (rows, last), chunk, SUBLANES, sweeps)
    else:
        # Sides in proportion to their rims read the least twice.
        side = min(math.isqrt(area * rim // sweeps), CHUNK // last.tile)
        rows = _cut(leading[1], rim, side, SUBLANES)
        planes = _cut(leading[0], sweeps, area // rows.block, 1)
        layout = Layout(grid, (planes, rows, last), 1, 1, sweeps)
    if math.prod(layout.block[:-1]) > area:
        raise ValueError(
            f"fused: fast memory has no room for tiles of a rim of {sweeps} nodes and {columns} "
            "unknowns along the last axis; take fewer sweeps, or leave it out"
        )
    return layout


def _cut(unknowns: int, rim: int, block: int, step: int) -> Axis:
    """Tiles as equal as can be; blocks are multiples of `step`, at least one more than the rims."""
    least = _rounded(2 * rim + 1, step)
    count = -(-unknowns // (max(block // step * step, least) - 2 * rim))
    block = _rounded(-(-unknowns // count) + 2 * rim, step)
    return Axis(unknowns, rim, block - 2 * rim, count)


def _rounded(n: int, step: int) -> int:
    return -(-n // step) * step


def store(u: jax.Array, layout: Layout) -> jax.Array:
    """Give a grid function its rims, zero or wrapped."""
    widths = [
        (axis.rim, stored - axis.rim - n)
        for axis, stored, n in zip(layout.axes, layout.stored, u.shape, strict=True)
    ]
    return wrap(jnp.pad(u, widths), layout)


def wrap(stored: jax.Array, layout: Layout) -> jax.Array:
    """Bring the rims of periodic axes up to date, as far as sweeps see them: in place."""
    width = layout.sweeps
    for d, axis in enumerate(layout.axes[:-1]):
        if layout.grid.is_periodic(d):
            begin, end = axis.rim, axis.rim + axis.unknowns
            for source, target in ((end - width, begin - width), (begin, end)):
                part = jax.lax.slice_in_dim(stored, source, source + width, axis=d)
                stored = jax.lax.dynamic_update_slice_in_dim(stored, part, target, d)
    return stored


def unstore(stored: jax.Array, layout: Layout) -> jax.Array:
    """The unknowns alone."""
    return stored[tuple(slice(axis.rim, axis.rim + axis.unknowns) for axis in layout.axes)]
