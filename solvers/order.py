"""The order of accuracy that a problem really has, from three grids."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from solvers.arguments import as_count
from solvers.problems import Poisson
from solvers.solution import solve


def observed_order(make: Callable[[int], Poisson], intervals: int, method: Any = None) -> float:
    """Find p in |u_h − u| ~ hᵖ without knowing u.

        p = log₂( max|u_h − u_{h/2}| / max|u_{h/2} − u_{h/4}| )

    on the nodes of the coarsest grid, of those that are in the medium where there is one.

    The scheme is of second order: a p well below 2 tells of data that this grid does not resolve,
    such as jumps between its nodes, or of a corner.

    Args:
        make: gives the problem on a grid of that many intervals along each axis, or of any that
            double with it.
        intervals: of the coarsest of the three grids.
        method: solves each, as in `solve`; its error has to be far below that of the grid.

    Returns:
        p, infinite where the two finer grids agree to rounding.

    Raises:
        ValueError: if `make` gives grids that do not double.

    Cost: three solves, on n, 2n and 4n intervals.

    Reference: Roache 1994, "Perspective: a method for uniform reporting of grid refinement
    studies", J. Fluids Eng. 116(3), doi:10.1115/1.2910291.

    Example:
        >>> from solvers import Grid
        >>> print(f"{observed_order(lambda n: Poisson(Grid(n), jnp.exp), 16):.2f}")
        2.00
    """
    intervals = as_count("intervals", intervals)
    fields, media = [], []
    for factor in (1, 2, 4):
        problem = make(factor * intervals)
        field = solve(problem, method).field
        shared = (slice(None, None, factor),) * field.ndim
        fields.append(field[shared])
        media.append(True if problem.share is None else problem.share[shared] > 0)
    shapes = {field.shape for field in fields}
    if len(shapes) > 1:
        raise ValueError(f"make: expected grids that double along every axis, got {shapes}")
    coarse, middle, fine = fields
    is_there = functools.reduce(operator.and_, media)
    pairs = (coarse, middle), (middle, fine)
    first, second = (jnp.max(jnp.abs(a - b), where=is_there, initial=0) for a, b in pairs)
    rounding = 100 * jnp.finfo(fine.dtype).eps * jnp.max(jnp.abs(fine))
    return float(jnp.log2(first / second)) if second > rounding else float("inf")
