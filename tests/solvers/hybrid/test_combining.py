"""Combinations of guesses: what of their errors cancels, and that relaxing ends sooner."""

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers import (
    Galerkin,
    Grid,
    Hybrid,
    Jacobi,
    Multigrid,
    Poisson,
    SpectralHandoff,
    gallery,
    solve,
)
from solvers.hybrid.combining import best_coefficients
from solvers.hybrid.handover import smoothed
from solvers.hybrid.price import MOST_GUESSES, price_of
from solvers.hybrid.session import Session
from solvers.snapshots import Snapshot

MODES = 12
FACTORS = jnp.asarray(np.cos(np.pi * np.arange(1, MODES + 1) / 50))
MOST = 5


def coefficients(errors: np.ndarray, used: int, wanted: float) -> np.ndarray:
    rows = np.zeros((MOST, MODES))
    rows[:used] = errors[:used]
    is_used = jnp.arange(MOST) < used
    found = jax.jit(best_coefficients)(
        jnp.asarray(rows), is_used, jnp.ones(MODES), FACTORS, jnp.asarray(wanted)
    )
    return np.asarray(found)


@given(seed=st.integers(0, 2**32 - 1), used=st.integers(1, MOST), size=st.floats(1e-8, 1e8))
def test_coefficients_add_up_to_one_and_leave_out_what_is_not_there(
    seed: int, used: int, size: float
) -> None:
    errors = size * np.random.default_rng(seed).normal(size=(MOST, MODES))
    alpha = coefficients(errors, used, 1e-4 * size)
    assert alpha.sum() == pytest.approx(1)
    np.testing.assert_array_equal(alpha[used:], 0)


@given(seed=st.integers(0, 2**32 - 1), used=st.integers(1, MOST))
def test_no_single_guess_is_the_first_to_die_away(seed: int, used: int) -> None:
    errors = np.random.default_rng(seed).normal(size=(MOST, MODES))
    wanted = 1e-4

    def steps(error: np.ndarray) -> float:
        m = np.logspace(0, 6, 2000)
        left = np.linalg.norm(error * np.asarray(FACTORS) ** m[:, None], axis=1)
        return float(m[np.argmax(left <= wanted)])

    together = steps(coefficients(errors, used, wanted) @ errors)
    assert together <= 1.1 * min(steps(error) for error in errors[:used])


def test_as_many_modes_cancel_as_there_are_guesses_but_one() -> None:
    errors = np.random.default_rng(0).normal(size=(MOST, MODES))
    errors[:, MOST - 1 :] = 0
    left = coefficients(errors, MOST, 1e-6) @ errors
    assert np.abs(left).max() < 1e-6


@pytest.mark.parametrize("target", [None, 1e-5])
@pytest.mark.parametrize("case", ["published", "varying", "scales"])
def test_the_price_of_a_combination_is_what_relaxing_from_it_takes(
    case: str, target: float | None
) -> None:
    problem = getattr(gallery, case)(32 if case == "scales" else 128).problem
    exact = solve(problem, Multigrid(rtol=1e-12)).value
    rng, grid = np.random.default_rng(1), problem.grid
    x = [np.asarray(c)[grid.unknowns] for c in np.broadcast_arrays(*grid.coordinates())]
    method = Jacobi(rtol=1e-5, max_steps=10**6, check_every=1)
    price = price_of(problem, method, target=target)
    seen: list[Any] = []
    for _ in range(4):
        error = sum(
            0.05 * rng.normal() / k * np.prod([np.sin(k * np.pi * c) for c in x], axis=0)
            for k in (1, 2, 3, 5)
        )
        alone = price.remaining(smoothed(problem, exact + jnp.asarray(error)))
        found, guess, latest = price.combined(smoothed(problem, exact + jnp.asarray(error)), seen)
        seen = [latest, *seen]
    assert found.steps < 0.7 * alone.steps
    if target is None:
        taken = int(solve(problem, method, initial=guess).num_steps)
        assert found.steps == pytest.approx(taken, rel=0.35, abs=3)


@pytest.mark.parametrize("case", ["published", "varying", "scales"])
def test_zero_is_combined_too(case: str) -> None:
    problem = getattr(gallery, case)(32 if case == "scales" else 128).problem
    exact = solve(problem, Multigrid(rtol=1e-12)).value
    price = price_of(problem, Jacobi(rtol=1e-5, check_every=1), target=1e-5)
    # Wrong by a factor: zero and it have the same error, but for its size.
    guess = smoothed(problem, 1.5 * exact)
    found, combined, _ = price.combined(guess, [])
    assert found.steps < 0.01 * price.remaining(guess).steps
    assert jnp.max(jnp.abs(combined - exact)) < 1e-4 * jnp.max(jnp.abs(exact))


def noisy(problem: Poisson, nan_at: int = -1) -> Iterator[Snapshot]:
    """The solution with noise in its three smoothest modes that does not go away."""
    exact, rng = solve(problem).field, np.random.default_rng(2)
    (x,) = problem.grid.coordinates()
    for i in range(10):
        noise = sum(0.01 * rng.normal() * jnp.sin(k * jnp.pi * x) for k in (1, 2, 3))
        field = exact + (jnp.nan if i == nan_at else noise)
        yield Snapshot(50 * i, 1e-4 * i, lambda grid, field=field: field)


@pytest.mark.parametrize("nan_at", [-1, 3])
def test_noise_in_the_smooth_modes_cancels(nan_at: int) -> None:
    problem = gallery.published(512).problem
    price = price_of(problem, Jacobi(), target=1e-6)
    steps = {}
    for combine in (True, False):
        session = Session(problem, price, noisy(problem, nan_at), time.perf_counter)
        looks = [session.look(snapshot, combine=combine)[0] for snapshot in session.snapshots()]
        steps[combine] = [look.remaining_steps for look in looks[5:]]
    assert max(steps[True]) < 0.1 * min(steps[False])


def test_it_is_told_how_many_were_combined() -> None:
    problem = gallery.published(512).problem
    scheduler = SpectralHandoff(target=1e-9, least_steps=0)
    plan = Hybrid(Jacobi(), scheduler).plan(problem, list(noisy(problem)))
    assert [look.combined for look in plan.trace[:3]] == [1, 2, 3][: len(plan.trace)]
    if plan.handoff.combined > 1:
        assert f"combined with {plan.handoff.combined - 1} before it" in plan.explain()


def test_starts_that_keep_a_promise_are_not_combined() -> None:
    problem = Poisson(Grid(64), source=1.0)
    plan = Hybrid(Jacobi(), SpectralHandoff(least_steps=0), handover=Galerkin(2, features=False))
    snapshots = list(noisy(problem))
    for snapshot, look in zip(snapshots[1:], plan.plan(problem, snapshots).trace, strict=False):
        start = Galerkin(2, features=False).start(problem, snapshot)
        expected = price_of(problem, Jacobi()).remaining(start).steps
        assert look.remaining_steps == expected


def test_more_guesses_than_are_kept_are_not_asked_for() -> None:
    problem = Poisson(Grid(32), source=1.0)
    price = price_of(problem, Jacobi())
    *_, seen = price.combined(problem.rhs, [])
    price.combined(problem.rhs, [seen] * (MOST_GUESSES - 1))
