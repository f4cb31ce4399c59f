"""Ways to hand over: none makes it worse."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import (
    ConjugateGradient,
    Deflation,
    Galerkin,
    Grid,
    Guess,
    Jacobi,
    Poisson,
    ScaledGuess,
    solve,
)
from solvers.hybrid.handover import smoothed
from solvers.snapshots import Snapshot
from tests.solvers.cases import sides


def problem_of(names: str, seed: int) -> Poisson:
    """With coefficients that jump by up to 100 from node to node."""
    grid = Grid((9, 7)[: len(names.split("-"))], boundary=sides(names))
    numbers = np.random.default_rng(seed)
    a = 10.0 ** numbers.uniform(-1, 1, grid.full_shape)
    source = numbers.normal(size=grid.full_shape)
    if "D" in names:
        return Poisson(grid, source, diffusion=a, boundary_values=0.3)
    source = jnp.asarray(source)
    mean = grid.integral(source) / grid.integral(jnp.ones_like(source))
    return Poisson(grid, source - mean, diffusion=a)


PROBLEMS = [problem_of(names, 4) for names in ("DN", "DD-PP", "NN-PP")]


def snapshot_of(problem: Poisson, count: int, size: float, seed: int) -> Snapshot:
    """A random field and random features, some of them nearly equal."""
    numbers = np.random.default_rng(seed)
    shape = problem.grid.full_shape
    features = numbers.normal(size=(count, *shape))
    features[1:] = features[:-1] * (1 - 1e-9) + 1e-9 * features[1:] if seed % 2 else features[1:]
    field = size * numbers.normal(size=shape)
    return Snapshot(
        0, 0.0, lambda grid: jnp.asarray(field), None, lambda grid: jnp.asarray(features)
    )


def energy_error(problem: Poisson, u: Any) -> float:
    e = jnp.asarray(u) - solve(problem).value
    return float(jnp.sqrt(jnp.maximum(jnp.sum(e * problem.operator.mv(e)), 0)))


@settings(max_examples=20)
@given(st.integers(0, 2), st.integers(1, 12), st.floats(-1e3, 1e3), st.integers(0, 999))
def test_galerkin_never_raises_the_error_in_the_energy_norm(
    which: int, count: int, size: float, seed: int
) -> None:
    problem = PROBLEMS[which]
    snapshot = snapshot_of(problem, count, size, seed)
    found = energy_error(problem, Galerkin().start(problem, snapshot))
    zero = energy_error(problem, jnp.zeros(problem.grid.shape))
    given = problem.grid.restrict("u", snapshot.evaluate(problem.grid))
    assert found <= (1 + 1e-9) * min(zero, energy_error(problem, given)) + 1e-9 * zero


@settings(max_examples=20)
@given(st.integers(0, 2), st.floats(-1e6, 1e6), st.integers(0, 999))
def test_the_scaled_guess_never_starts_above_zero(which: int, size: float, seed: int) -> None:
    problem = PROBLEMS[which]
    guess = ScaledGuess().start(problem, snapshot_of(problem, 1, size, seed))
    start, zero = (jnp.linalg.norm(problem.residual(u)) for u in (guess, 0 * guess))
    assert start <= (1 + 1e-12) * zero


def test_galerkin_finds_a_solution_in_the_span() -> None:
    problem = Poisson(Grid(32), lambda x: jnp.sin(3 * x), boundary_values=lambda x: x)
    exact = solve(problem).field
    (x,) = problem.grid.coordinates()
    parts = jnp.stack([x * (1 - x), x**2 * (1 - x), exact - x - x * (1 - x)])
    snapshot = Snapshot(0, 0.0, lambda grid: x, None, lambda grid: parts)
    found = Galerkin().start(problem, snapshot)
    np.testing.assert_allclose(found, exact[problem.grid.unknowns], atol=1e-11)


def test_a_snapshot_without_features_is_refused_in_words() -> None:
    problem = Poisson(Grid(8), 1.0)
    with pytest.raises(ValueError, match="Galerkin needs snapshots with features"):
        Galerkin().start(problem, Snapshot(0, 0.0, lambda grid: jnp.zeros(9)))


def test_features_of_another_shape_are_refused_in_words() -> None:
    snapshot = Snapshot(0, 0.0, lambda grid: jnp.zeros(9), None, lambda grid: jnp.zeros((9, 4)))
    with pytest.raises(ValueError, match=r"features: expected shape \('k', 9\) .* got \(9, 4\)"):
        Galerkin().start(Poisson(Grid(8), 1.0), snapshot)


def test_deflation_keeps_the_settings_of_conjugate_gradients() -> None:
    problem, snapshot = PROBLEMS[0], snapshot_of(PROBLEMS[0], 2, 1.0, 0)
    method = ConjugateGradient(
        preconditioner=Jacobi(0.7), preconditioner_steps=4, check_every=5, atol=1e-3, max_steps=7
    )
    found: Any = Deflation().solver(problem, snapshot, method, lambda method: 1.0)
    names = ("preconditioner_steps", "check_every", "rtol", "atol", "max_steps")
    assert [getattr(found, k) for k in names] == [getattr(method, k) for k in names]


@pytest.mark.parametrize("domain", ["inside", "medium"])
@pytest.mark.parametrize("handover", [Guess(), ScaledGuess(), Galerkin()], ids=repr)
def test_what_a_network_is_where_there_is_no_equation_does_not_matter(
    domain: str, handover: Any
) -> None:
    grid = Grid((9, 7))
    level = lambda x, y: x + y - 0.6  # noqa: E731
    problem = Poisson(grid, 1.0, boundary_values=lambda x, y: x, **{domain: level})
    snapshot = snapshot_of(problem, 3, 1.0, 0)
    is_within = grid.on_all_nodes(~problem.is_outside, True)
    field, features = (
        jnp.where(is_within, f(grid), 0) for f in (snapshot.evaluate, snapshot.features)
    )
    clean = Snapshot(0, 0.0, lambda grid: field, None, lambda grid: features)
    started = handover.start(problem, snapshot)
    np.testing.assert_array_equal(started, handover.start(problem, clean))
    assert not started[problem.is_outside].any()


def test_without_noise_smoothing_leaves_the_solution_alone() -> None:
    problem = PROBLEMS[0]
    u = solve(problem).field
    np.testing.assert_allclose(smoothed(problem, u), u[problem.grid.unknowns], atol=1e-8)
