"""Frequencies: what is found, what is wrong, and how fast a relaxation removes it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers import (
    ConjugateGradient,
    EllipticOperator,
    GaussSeidel,
    Grid,
    Jacobi,
    Poisson,
    gallery,
    optimal_over_relaxation,
    solve,
    spectrum,
)
from tests.solvers.cases import sides

GRIDS = [
    Grid(8),
    Grid(7, boundary=sides("PP")),
    Grid((6, 5), boundary=sides("ND-PP")),
    Grid((4, 5), upper=(1.0, 3.0), boundary=sides("NN-DN")),
    Grid((4, 3, 4), boundary=sides("DD-NN-PP")),
]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_modes_and_back(grid: Grid) -> None:
    u = jnp.asarray(np.random.default_rng(0).standard_normal(grid.shape))
    there = spectrum.modes(u, grid)
    np.testing.assert_allclose(spectrum.from_modes(there, grid), u, atol=1e-13)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_modes_are_eigenvectors_of_jacobi_with_the_eigenvalues_said(grid: Grid) -> None:
    operator = EllipticOperator(grid, diffusion=2.0, reaction=0.7)
    unit = jnp.eye(grid.size).reshape(grid.size, *grid.shape)
    modes = jax.vmap(lambda c: spectrum.from_modes(c, grid))(unit)
    diagonal = jnp.broadcast_to(operator.diagonal(), grid.shape)[None]
    swept = modes - jax.vmap(operator.mv)(modes) / diagonal
    mu = spectrum.jacobi_eigenvalues(operator).reshape(-1, *[1] * grid.ndim)
    np.testing.assert_allclose(swept, mu * modes, atol=1e-12)


@pytest.mark.parametrize("damping", [1.0, 0.6])
def test_each_mode_decays_under_jacobi_as_the_formula_says(damping: float) -> None:
    n, sweeps = 16, 3
    problem = gallery.lifted(n).problem
    plain = Poisson(problem.grid, problem.source)  # no reaction: cos(kπ/n)
    goal = solve(plain).value
    start = goal + spectrum.from_modes(jnp.ones(n - 1), plain.grid)
    method = Jacobi(damping, rtol=0, max_steps=sweeps)
    u = solve(plain, method, initial=start, throw=False).value
    left = spectrum.error_by_mode(u, goal, plain.grid)
    k = np.arange(1, n)
    factor = 1 - damping * (1 - np.cos(k * np.pi / n))
    # The error is of size 1, and rounding is relative to |u|.
    np.testing.assert_allclose(left, np.abs(factor) ** sweeps, atol=1e-12)
    told = spectrum.damping_factors(method, plain.operator)
    np.testing.assert_allclose(told, factor, atol=1e-13)


@pytest.mark.parametrize("shape", [(9,), (6, 5)])
@pytest.mark.parametrize("omega", [1.0, 1.2, None, 1.9])
def test_gauss_seidel_s_factors_hold_its_spectral_radius(
    shape: tuple[int, ...], omega: float | None
) -> None:
    operator = EllipticOperator(Grid(shape), reaction=0.3)
    omega = optimal_over_relaxation(operator) if omega is None else omega
    method = GaussSeidel(omega)
    setup = method.prepare(operator)
    zero = jnp.zeros(operator.grid.shape)

    def sweep(u: jax.Array) -> jax.Array:
        return method.current(setup, method.step(setup, zero, method.start(setup, zero, u)))

    size = operator.grid.size
    columns = jax.vmap(sweep)(jnp.eye(size).reshape(size, *operator.grid.shape))
    radius = np.abs(np.linalg.eigvals(np.asarray(columns).reshape(size, size))).max()
    # At the best ω two eigenvalues meet, where an eigenvalue is only known to √ε.
    assert spectrum.damping_factors(method, operator).max() == pytest.approx(radius, rel=1e-6)


def test_the_publication_s_measure() -> None:
    grid = Grid(100, -1.0, 1.0)
    x = grid.coordinates()[0]
    u = jnp.sin(np.pi * x) + jnp.sin(3 * np.pi * x)
    assert spectrum.relative_error(0.8 * u, u, [1, 3]) == pytest.approx([0.2, 0.2])
    # The complex difference: a shift in phase is an error, too.
    assert spectrum.relative_error(-u, u, [1]) == pytest.approx([2.0])
    waves = jnp.cos(2 * np.pi * 4 * jnp.arange(32.0) / 32)
    assert abs(spectrum.dft(waves)[4]) == pytest.approx(0.5)  # the factor is 1/n


def test_frequencies_beyond_one_dimension_are_shells() -> None:
    grid = Grid((10, 10), upper=(1.0, 2.0))
    coefficients = jnp.zeros(grid.shape).at[2, 3].set(2.0).at[3, 2].set(1.0)  # (3, 4), (4, 3)
    found = spectrum.by_frequency(coefficients, grid, 8)
    expected = np.zeros(9)
    expected[5] = np.sqrt(5)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: spectrum.modes(jnp.ones(3), Grid(8)), "u"),
        (lambda: spectrum.error_by_mode(jnp.ones(7), jnp.ones(3), Grid(8)), "reference"),
        (lambda: spectrum.relative_error(jnp.ones((3, 3)), jnp.ones((3, 3)), [1]), "u"),
        (lambda: spectrum.relative_error(jnp.ones(3), jnp.ones(4), [1]), "u"),
        (
            lambda: spectrum.damping_factors(ConjugateGradient(), EllipticOperator(Grid(8))),
            "method",
        ),
        (
            lambda: spectrum.damping_factors(Jacobi(), EllipticOperator(Grid(8), lambda x: 1 + x)),
            "operator",
        ),
    ],
)
def test_bad_input_is_named(call: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        call()


@pytest.mark.parametrize("indices", [[51], [-1], [1.0], []])
def test_indices_that_a_transform_lacks_are_refused(indices: list[Any]) -> None:
    u = jnp.linspace(1, 2, 101)
    with pytest.raises(ValueError, match="indices: expected whole numbers from 0 to 50"):
        spectrum.relative_error(u, u, indices)
