"""Red-black sweeps on halves: each colour stored by itself, so that no work is masked away.

Along the last axis the nodes of a line alternate in colour. With s the parity of a line's other
indices, the red ones are the columns 2j + s and the black ones 2j + 1 − s, j = 0 … ⌈N/2⌉ − 1. The
neighbours of a red node j across lines are the black nodes j; along its line the black j − 1 and j
where s = 0, and j and j + 1 where s = 1; for black nodes s and 1 − s change places. Where N is odd
half of the lines have a last column that is not there: it is kept at 0.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.grid import Grid
from solvers.operators import EllipticOperator

Halves = tuple[jax.Array, jax.Array]


class RedBlackSetup(eqx.Module):
    """What one sweep needs of the operator, by colour.

    Attributes:
        grid: of two colours.
        keep: 1 − ω.
        weights: ω/D.
        faces: per axis and per direction (low, high), W a/(wᵢhᵢ²).
    """

    grid: Grid
    keep: jax.Array
    weights: Halves
    faces: list[tuple[Halves, Halves]]


def prepare_red_black(operator: EllipticOperator, omega: jax.Array) -> RedBlackSetup:
    """Split diagonal and coefficients by colour; scalars stay scalars."""
    grid = operator.grid
    diagonal = operator.diagonal()
    omega = omega.astype(diagonal.dtype)

    def by_colour(values: jax.Array) -> Halves:
        if values.ndim == 0:
            return values, values
        return split(jnp.broadcast_to(values, grid.shape), grid)

    faces = [
        (by_colour(operator.weigh(low)), by_colour(operator.weigh(high)))
        for low, high in map(operator.face_pair, range(grid.ndim))
    ]
    # A scalar weight would let the column that is not there drift; it is masked where there is one.
    weights = omega / diagonal
    ghost = grid.shape[-1] % 2 == 1
    weights = jnp.broadcast_to(weights, grid.shape) if ghost else weights
    return RedBlackSetup(grid, 1 - omega, by_colour(weights), faces)


def split(u: jax.Array, grid: Grid) -> Halves:
    """Red and black nodes of `u`, each of shape (…, ⌈N/2⌉)."""
    odd = u.shape[-1] % 2
    u = jnp.pad(u, [(0, 0)] * (grid.ndim - 1) + [(0, odd)])
    pairs = u.reshape(*u.shape[:-1], -1, 2)
    return _by_line(grid, pairs[..., 0], pairs[..., 1])


def join(halves: Halves, grid: Grid) -> jax.Array:
    """Put red and black nodes back in place, the inverse of `split`."""
    pairs = jnp.stack(_by_line(grid, *halves), axis=-1)
    return pairs.reshape(*pairs.shape[:-2], -1)[..., : grid.shape[-1]]


def sweep(setup: RedBlackSetup, b: Halves, u: Halves, *, reverse: bool) -> Halves:
    """u_c ← (1 − ω)u_c + (ω/D)(b_c + Σ a u_neighbour/h²), red first (`reverse`: last)."""
    halves = list(u)
    for colour in (1, 0) if reverse else (0, 1):
        other = halves[1 - colour]
        total = b[colour]
        for axis, (low, high) in enumerate(setup.faces):
            before, after = _neighbours(setup.grid, other, axis, colour)
            total = total + low[colour] * before + high[colour] * after
        halves[colour] = setup.keep * halves[colour] + setup.weights[colour] * total
    return halves[0], halves[1]


def _neighbours(grid: Grid, other: jax.Array, axis: int, colour: int) -> Halves:
    """Low and high neighbours along `axis` of the nodes of one colour, from the other colour's."""
    mode = "wrap" if grid.is_periodic(axis) else "constant"
    p = jnp.pad(other, [(1, 1) if d == axis else (0, 0) for d in range(grid.ndim)], mode=mode)
    size = other.shape[axis]
    before = jax.lax.slice_in_dim(p, 0, size, axis=axis)
    after = jax.lax.slice_in_dim(p, 2, size + 2, axis=axis)
    if axis < grid.ndim - 1:
        return before, after
    at_low_column, at_high_column = (before, other), (other, after)
    if grid.ndim == 1:
        return (at_low_column, at_high_column)[colour]
    is_low = _line_parity(grid) == colour
    low = jnp.where(is_low, at_low_column[0], at_high_column[0])
    return low, jnp.where(is_low, at_low_column[1], at_high_column[1])


def _by_line(grid: Grid, first: Any, second: Any) -> Halves:
    """Swap the two on lines of odd parity."""
    if grid.ndim == 1:
        return first, second
    even = _line_parity(grid) == 0
    return jnp.where(even, first, second), jnp.where(even, second, first)


def _line_parity(grid: Grid) -> np.ndarray:
    """Parity of the sum of all indices but the last, shape (…, 1)."""
    lines = np.indices(grid.shape[:-1]).sum(axis=0) % 2
    return lines[..., None]
