"""Parity blocks: splitting, neighbours, and the operator on them."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers import EllipticOperator, Grid
from solvers.multigrid.blocks import join, shift, split
from solvers.multigrid.hierarchy import finest_level
from tests.solvers.cases import PAIRS, sides

SHAPES = [(1,), (2,), (7,), (8,), (1, 4), (5, 6), (6, 5), (3, 4, 5), (4, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_join_is_the_inverse_of_split(shape: tuple[int, ...]) -> None:
    u = jnp.arange(float(np.prod(shape))).reshape(shape)
    blocks = split(u)
    assert len(blocks) == 2 ** len(shape)
    for parity, block in blocks.items():
        np.testing.assert_array_equal(block, u[tuple(slice(p, None, 2) for p in parity)])
    np.testing.assert_array_equal(join(blocks), u)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("wraps", [False, True])
def test_shift_finds_the_neighbours(size: int, wraps: bool) -> None:
    """Beyond the ends there is 0, also at the seam of a periodic axis of odd length."""
    u = 1 + jnp.arange(float(size))
    for parity, offset in itertools.product((0, 1), (-1, 1)):
        found = shift(u[1 - parity :: 2], 0, parity, offset, wraps, size)
        places = np.arange(parity, size, 2) + offset
        around = wraps and size % 2 == 0
        expected = [u[j % size] if around or 0 <= j < size else 0.0 for j in places]
        np.testing.assert_array_equal(found, np.array(expected))


@pytest.mark.parametrize(
    ("names", "intervals"),
    [
        *((f"{one}-{two}", (4, 5)) for one, two in itertools.pairwise([*PAIRS, "DD"])),
        *((name, (n,)) for name, n in zip(PAIRS, (7, 6, 2, 3, 7), strict=True)),
        ("DN-PP-NN", (3, 5, 4)),
    ],
)
def test_the_finest_level_is_the_operator(names: str, intervals: tuple[int, ...]) -> None:
    grid = Grid(intervals, upper=(1.0, 1.5, 0.7)[: len(intervals)], boundary=sides(names))
    numbers = (1.3, 0.6, 2.0)[: grid.ndim]
    rng = np.random.default_rng(2)
    a, c = (jnp.asarray(rng.uniform(1, 2, grid.full_shape)) for _ in range(2))
    u = jnp.asarray(rng.normal(size=grid.shape))

    @jax.jit
    def compare(operator: EllipticOperator) -> Any:
        level = finest_level(operator)
        applied = join(level.weigh(level.apply(split(u))))
        ones = split(jnp.ones(grid.shape))
        left = join(level.weigh(level.residual(level.weigh(ones, -1), split(u))))
        diagonal = 1 / join(level.scale(level.weigh(ones, -1)))
        return applied - operator.mv(u), left - 1 + applied, diagonal / operator.diagonal() - 1

    cases: list[tuple[Any, Any]] = [(numbers, 0.0), (numbers, 0.7), (a, c)]
    for diffusion, reaction in cases:
        for difference in compare(EllipticOperator(grid, diffusion, reaction)):
            np.testing.assert_allclose(difference, 0, atol=1e-11)  # of up to 1e3
