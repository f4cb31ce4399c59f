"""Transfers: restriction is the transpose of prolongation, and coarse operators are PᵀAP."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers import EllipticOperator, Grid
from solvers.multigrid.galerkin import galerkin_level, operator_transfer
from solvers.multigrid.hierarchy import Stage, finest_level, stages
from solvers.multigrid.level import constant_level
from solvers.multigrid.transfer import linear_transfer
from tests.solvers.cases import sides

ROUGH = np.random.default_rng(3)


class Pair(NamedTuple):
    """A level and the next coarser one, and a transfer between them as dense matrices."""

    stage: Stage
    coarse: tuple[Any, ...]
    prolongation: np.ndarray
    restriction: np.ndarray


def weights_of(axes: Any) -> np.ndarray:
    """Volumes of the nodes, raveled."""
    volumes = np.ones(())
    for line in axes:
        volumes = np.multiply.outer(volumes, line.weights())
    return volumes.reshape(-1)


def dense(apply: Any, source: Any, target: Any) -> jax.Array:
    """The matrix of a linear map from the functions of one level, or layout, to another's."""
    size = int(np.prod(source.shape))

    def column(e: jax.Array) -> jax.Array:
        return target.join(apply(source.split(e.reshape(source.shape)))).reshape(-1)

    return jax.vmap(column, out_axes=1)(jnp.eye(size))


def pair(names: str, sizes: tuple[int, ...], a: Any, *, follows: bool) -> Pair:
    """The first coarsening of a rough operator, its transfer linear or following the operator."""
    operator = EllipticOperator(Grid(sizes, upper=sizes, boundary=sides(names)), a)
    all_axes = not isinstance(a, tuple)
    first = stages(operator, all_axes=all_axes)[0][0]
    coarse = tuple(
        line.coarser() if axis in first.coarsened else line for axis, line in enumerate(first.axes)
    )

    @jax.jit
    def matrices(operator: EllipticOperator) -> tuple[jax.Array, jax.Array]:
        fine = finest_level(operator)
        if follows:
            transfer: Any = operator_transfer(fine, *first)
            below: Any = transfer.below
        else:
            transfer = linear_transfer(*first)
            below = constant_level(coarse, operator.conductances, None)
        return dense(transfer.prolong, below, fine), dense(transfer.restrict, fine, below)

    return Pair(first, coarse, *map(np.asarray, matrices(operator)))


CASES = [
    ("DD", (9,), 1.0),
    ("PP", (7,), 1.0),
    ("DN-PP", (6, 9), 1.0),
    ("NN-DD", (5, 8), (1.0, 0.1)),
    ("ND-PP-NN", (4, 5, 4), 1.0),
]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the smallest grids have a coarser level."""
    monkeypatch.setattr("solvers.multigrid.coarsest.TENSOR_WORK", 2)
    monkeypatch.setattr("solvers.multigrid.hierarchy.DENSE_SIZE", 2)


@pytest.mark.parametrize(("names", "sizes", "a"), CASES)
def test_linear_restriction_is_the_transpose_in_the_weights(
    names: str, sizes: tuple[int, ...], a: Any
) -> None:
    found = pair(names, sizes, a, follows=False)
    fine, coarse = weights_of(found.stage.axes), weights_of(found.coarse)
    left, right = coarse[:, None] * found.restriction, (fine[:, None] * found.prolongation).T
    np.testing.assert_allclose(left, right, rtol=1e-14, atol=1e-14)
    assert np.all(found.prolongation >= 0)
    assert np.all(found.prolongation.sum(1) <= 1 + 1e-14)


@pytest.mark.parametrize(("names", "sizes", "a"), CASES)
def test_transfers_that_follow_the_operator_are_transposes(
    names: str, sizes: tuple[int, ...], a: Any
) -> None:
    grid = Grid(sizes, boundary=sides(names))
    rough = jnp.asarray(ROUGH.uniform(1, 100, grid.full_shape))
    found = pair(names, sizes, rough, follows=True)
    np.testing.assert_allclose(found.restriction, found.prolongation.T, rtol=0, atol=1e-14)
    # Constants stay constant, but next to Dirichlet sides.
    sums = found.prolongation.sum(1)
    assert np.all((sums > 0) & (sums <= 1 + 1e-14))
    if "D" not in names:
        np.testing.assert_allclose(sums, 1, rtol=1e-14)


def test_it_follows_the_operator_across_a_jump() -> None:
    """In one dimension a dropped node's own equation: (a₋u₋ + a₊u₊)/(a₋ + a₊)."""
    a = jnp.where(jnp.arange(9) < 5, 1.0, 1e6)
    faces = np.asarray(2 / (1 / a[1:] + 1 / a[:-1]))
    found = pair("DD", (8,), a, follows=True).prolongation
    for j in (2, 4):  # the third and the fifth unknown, the nodes 3 and 5
        expected = faces[j : j + 2] / faces[j : j + 2].sum()
        np.testing.assert_allclose(found[j, j // 2 - 1 : j // 2 + 1], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("names", "sizes", "reaction"),
    [
        ("PP", (13,), 0.3),  # 7 coarse nodes
        ("PP", (22,), 0.0),  # and 11
        ("PP-DN", (14, 7), 0.0),
        ("NN-PP", (6, 16), 0.0),
        ("PP-DD-NN", (8, 5, 4), 0.3),  # down to two nodes in a ring
    ],
)
def test_coarse_operators_are_products(names: str, sizes: tuple[int, ...], reaction: float) -> None:
    """Two levels down: from the stencil of 2d + 1 points, and from that of 3ᵈ."""
    grid = Grid(sizes, boundary=sides(names))
    # Not rougher: shares of couplings that cancel would not add up to 1 exactly.
    operator = EllipticOperator(grid, jnp.asarray(ROUGH.uniform(1, 10, grid.full_shape)), reaction)
    plan, coarsest = stages(operator, all_axes=True)
    axes = [*(stage.axes for stage in plan), coarsest]

    @jax.jit
    def build(operator: EllipticOperator) -> list[tuple[jax.Array, jax.Array]]:
        """Prolongation and coarse operator of two levels."""
        level: Any = finest_level(operator)
        found = []
        for stage, below in zip(plan[:2], axes[1:], strict=False):
            transfer, finer = operator_transfer(level, *stage), level
            level = galerkin_level(level, transfer, below, is_singular=operator.is_singular)
            found.append((dense(transfer.prolong, level, finer), dense(level.apply, level, level)))
        return found

    matrix = np.asarray(operator.as_matrix())
    for prolongation, found in build(operator):
        matrix = np.asarray(prolongation.T @ matrix @ prolongation)
        np.testing.assert_allclose(found, matrix, rtol=0, atol=1e-13 * abs(matrix).max())
