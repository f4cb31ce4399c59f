"""The price of a guess against what relaxing from it really takes."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers import (
    ConjugateGradient,
    FastDiagonalization,
    GaussSeidel,
    Grid,
    Jacobi,
    LineRelaxation,
    Multigrid,
    Poisson,
    gallery,
    solve,
)
from solvers.hybrid import advise
from solvers.hybrid.handover import smoothed
from solvers.hybrid.price import price_of
from solvers.hybrid.smooth_modes import smooth_modes
from solvers.hybrid.timing import measure_step, run_steps
from solvers.spectrum import jacobi_eigenvalues
from tests.solvers.cases import sides

CASES = {
    "published": (gallery.published, 200),
    "lifted": (gallery.lifted, 120),
    "varying": (gallery.varying, 100),
    "scales": (gallery.scales, 24),
    "peak": (gallery.peak, 24),
}
METHODS = {
    "jacobi": Jacobi(rtol=1e-6, max_steps=10**6, check_every=10),
    "damped": Jacobi(0.7, rtol=1e-6, max_steps=10**6, check_every=10),
    "gauss_seidel": GaussSeidel(rtol=1e-6, max_steps=10**6, check_every=10),
}


def discrete(problem: Poisson):
    return solve(problem, ConjugateGradient(rtol=1e-11)).value


@pytest.mark.parametrize(
    ("case", "method"),
    [*[(case, "jacobi") for case in CASES], ("lifted", "damped"), ("varying", "gauss_seidel")],
)
def test_predicted_steps_to_the_solvers_own_tolerance(case: str, method: str) -> None:
    make, n = CASES[case]
    problem = make(n).problem
    # Zero has all its error in the smooth modes that the price looks at, which is where it is exact
    # for constant coefficients; Rayleigh–Ritz and the smallest looks cost some per cent.
    predicted = price_of(problem, METHODS[method]).remaining(jnp.zeros_like(problem.rhs)).steps
    taken = int(solve(problem, METHODS[method]).num_steps)
    assert predicted == pytest.approx(taken, rel=0.15, abs=20)


@pytest.mark.parametrize("case", ["published", "varying", "scales"])
def test_predicted_steps_to_an_error_from_a_guess_with_smooth_and_rough_error(case: str) -> None:
    make, n = CASES[case]
    problem = make(n).problem
    goal, target = discrete(problem), 1e-4
    rng = np.random.default_rng(0)
    x = problem.grid.coordinates()[0][problem.grid.unknowns]
    wrong = goal * (1 + 0.3 * jnp.sin(2 * x)) + 0.1 * rng.standard_normal(goal.shape)
    guess = smoothed(problem, wrong)
    method = METHODS["jacobi"]
    predicted = price_of(problem, method, target=target).remaining(guess).steps
    scale = float(jnp.max(jnp.abs(goal)))
    u, taken = guess, 0
    while float(jnp.max(jnp.abs(u - goal))) > target * scale:
        u, _ = run_steps(problem, method, 10, u)
        taken += 10
    # The rest beyond the smooth modes is bounded, not followed: the price may be dear, never cheap.
    assert 0.85 * taken - 20 <= predicted <= 1.3 * taken + 20


@pytest.mark.parametrize("width", [1, 4, 16])
def test_predicted_steps_from_a_guess_without_the_kinks_of_the_solution(width: int) -> None:
    """The diffusion jumps, and a guess that is smooth there is wrong in all true modes."""
    problem, target = gallery.layers(500).problem, 1e-4
    operator, goal = problem.operator, np.asarray(solve(problem, LineRelaxation()).value)
    j = np.arange(len(goal))
    blur = np.exp(-(((j[:, None] - j[None]) / width) ** 2) / 2)
    guess = (blur / blur.sum(1)[:, None]) @ goal
    # Exactly, in the eigenvectors of D⁻¹A.
    root = np.sqrt(np.asarray(operator.diagonal()))
    nu, vectors = np.linalg.eigh(np.asarray(operator.as_matrix()) / root[:, None] / root[None])
    amplitudes = vectors.T @ (root * (guess - goal))
    counts = np.geomspace(10, 3e6, 200).astype(int)
    left = [abs(vectors @ (amplitudes * abs(1 - nu) ** m) / root).max() for m in counts]
    taken = counts[np.argmax(np.array(left) <= target * abs(goal).max())]
    predicted = price_of(problem, Jacobi(), target=target).remaining(jnp.asarray(guess)).steps
    assert 0.8 * taken <= predicted <= 2 * taken  # with sines of x it was 100 times as much


def test_a_solved_problem_costs_nothing() -> None:
    problem = gallery.published(64).problem
    price = price_of(problem, Jacobi(rtol=1e-6))
    assert price.remaining(discrete(problem)).steps == 0


def test_the_smooth_modes_are_eigenvectors_where_coefficients_are_constant() -> None:
    problem = Poisson(Grid((9, 7), upper=(1.0, 2.0)), 1.0, reaction=3.0)
    modes = smooth_modes(problem, Jacobi())
    exact = np.sort(np.asarray(jacobi_eigenvalues(problem.operator))[:7, :7].reshape(-1))[::-1]
    np.testing.assert_allclose(modes.mu, exact[: len(modes.mu)], atol=1e-12)


@pytest.mark.parametrize("names", ["DD", "ND", "NN", "PP", "DN-DD", "NN-PP", "PP-ND", "ND-PP-DD"])
@pytest.mark.parametrize("varies", [True, False])
def test_smooth_modes_are_those_of_the_matrix_in_their_span(names: str, varies: bool) -> None:
    rng = np.random.default_rng(0)
    boundary = sides(names)
    grid = Grid((9, 6, 7)[: len(boundary)], boundary=boundary)
    a, c = (rng.uniform(1, 3, grid.full_shape) for _ in range(2))
    problem = Poisson(grid, 1.0, diffusion=a if varies else 2.0, reaction=c)
    operator, modes = problem.operator, smooth_modes(problem, Jacobi())
    # In the grid's order the products of the modes of each axis, as columns.
    columns = np.stack([modes.synthesize(y).reshape(-1) for y in jnp.eye(len(modes.mu))], axis=1)
    matrix = np.asarray(operator.as_matrix())
    energies = np.diag(modes.energies)
    vectors = columns @ np.asarray(modes.vectors)
    np.testing.assert_allclose(vectors.T @ matrix @ vectors, energies, atol=1e-9 * energies.max())
    diagonal = np.broadcast_to(operator.diagonal(), grid.shape).reshape(-1, 1)
    mass = np.diag(energies.diagonal() / (1 - np.asarray(modes.mu)))
    np.testing.assert_allclose(vectors.T @ (diagonal * vectors), mass, atol=1e-9 * mass.max())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("names", ["DN", "NN", "PP"])
def test_on_layers_the_lowest_modes_are_right(names: str, dtype: str) -> None:
    """Sines of ∫dx/a alone give a first mode that is right to 1e-3, of which the rest is noise."""
    grid = Grid(300, boundary=sides(names), dtype=dtype)
    layered = Poisson(grid, 1.0, diffusion=lambda x: 1 / (1 + 0.9 * jnp.sin(12 * jnp.pi * x)))
    operator = layered.operator
    D = np.broadcast_to(operator.diagonal(), grid.shape).astype(np.float64)
    A = np.asarray(jax.vmap(operator.mv, 1, 1)(jnp.eye(grid.size, dtype=dtype)), np.float64)
    exact = np.sort(np.linalg.eigvals(A / D[:, None]).real)[: 1 + 8]
    found = 1 - np.asarray(smooth_modes(layered, Jacobi()).mu, np.float64)[: 1 + 8]
    rounding = 1e-7 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(found, exact, rtol=5e-4, atol=rounding)
    if dtype == "float64":
        np.testing.assert_allclose(found[1:4], exact[1:4], rtol=1e-5)


@pytest.mark.parametrize(("n", "dtype"), [(64, "float64"), (32, "float32"), (5, "float64")])
def test_on_small_grids_the_modes_may_be_all_there_are(n: int, dtype: str) -> None:
    """As many as unknowns were the same to rounding after a step of inverse iteration, and NaN."""
    problem = Poisson(Grid(n, dtype=dtype), 1.0, diffusion=lambda x: 1 + x)
    method = Jacobi(rtol=1e-3)
    price = price_of(problem, method)
    assert np.isfinite(price.zero.amplitudes).all()
    assert price.zero.steps == pytest.approx(int(solve(problem, method).num_steps), abs=100)


def test_cycles_at_the_rounding_tell_nothing_of_those_before() -> None:
    problem = Poisson(Grid((64, 64), dtype="float32"), lambda x, y: x * y)
    method = Multigrid(rtol=1e-4)
    assert price_of(problem, method).zero.steps <= 2 + int(solve(problem, method).num_steps)


def test_direct_and_conjugate_gradients_are_priced_by_a_timed_solve() -> None:
    problem = gallery.published(64).problem
    for method in (FastDiagonalization(), ConjugateGradient()):
        price = price_of(problem, method)
        zero, good = (price.remaining(u) for u in (jnp.zeros_like(problem.rhs), discrete(problem)))
        assert zero.seconds == good.seconds > 0


def test_a_timed_solve_that_fails_never_ends() -> None:
    problem = gallery.published(64).problem
    price = price_of(problem, ConjugateGradient(max_steps=2)).remaining(problem.rhs)
    assert price.seconds == price.steps == np.inf


@pytest.mark.parametrize("target", [0.0, 1.0, -1e-3, float("nan"), "1e-3", True])
def test_impossible_targets_are_refused(target: Any) -> None:
    with pytest.raises(ValueError, match="target"):
        price_of(gallery.published(16).problem, Jacobi(), target=target)


def test_advice_ranks_by_seconds_and_names_the_basis() -> None:
    advice = advise(gallery.published(2000).problem, rtol=1e-6)
    seconds = [row.seconds for row in advice.rows]
    assert seconds == sorted(seconds)
    # A sweep would have to be a thousand times cheaper than it is for this to come out otherwise.
    assert advice.rows[-1].name in ("Jacobi()", "GaussSeidel()")
    assert "timed solve" in str(advice)
    assert "FastDiagonalization()" in str(advice)


def test_advice_knows_what_would_end_short_of_its_tolerance() -> None:
    long = {row.name: row for row in advise(Poisson(Grid(1000), 1.0)).rows}
    assert long["Jacobi()"].seconds == long["Jacobi()"].steps == np.inf
    assert "max_steps" in long["Jacobi()"].basis
    assert np.isfinite(long["Multigrid()"].seconds)
    rough = np.random.default_rng(0).normal(size=65)
    single = advise(Poisson(Grid(64, dtype="float32"), rough)).rows
    assert [row.name for row in single if row.seconds < np.inf] == ["FastDiagonalization()"]


def test_advice_for_varying_coefficients_leaves_the_direct_solver_out() -> None:
    names = [row.name for row in advise(gallery.varying(64).problem).rows]
    assert {"Multigrid()", "ConjugateGradient(preconditioner=Multigrid())"} <= set(names)
    assert "FastDiagonalization()" not in names


def test_a_machine_that_stands_still_does_not_make_a_measurement_endless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call without steps that takes an hour, where 10 ms and 10 µs a step is right."""
    now, asked = 0.0, []
    held_up = iter((0.0, 3600.0))

    def run_steps(
        problem: Poisson, method: Jacobi, steps: int, u: jax.Array
    ) -> tuple[jax.Array, int]:
        nonlocal now
        now += 0.01 + 1e-5 * steps + (next(held_up, 0.0) if steps == 0 else 0.0)
        asked.append(steps)
        return u, steps

    monkeypatch.setattr("solvers.hybrid.timing.run_steps", run_steps)
    measured = measure_step(gallery.published(32).problem, Jacobi(), lambda: now)
    assert max(asked) < 10**6
    assert measured.seconds == pytest.approx(1e-5, rel=0.1)


def test_a_method_that_is_exact_at_once_is_timed_by_the_steps_it_takes() -> None:
    """One cycle solves a grid of one level: more were asked for, and counted."""
    measured = measure_step(Poisson(Grid(64), 1.0), Multigrid(), time.perf_counter)
    assert measured.seconds > 1e-7


def test_another_target_compiles_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Or it would be charged: only a first price of a kind counts as compilation."""
    problem = gallery.varying(68).problem
    zero = jnp.zeros(problem.grid.shape)
    price_of(problem, Jacobi(), target=1e-3).remaining(zero)
    with jax.log_compiles():
        price_of(problem, Jacobi(), target=1e-4).remaining(zero)
    assert "Compiling" not in caplog.text


def test_a_second_price_compiles_nothing_and_runs_nothing_twice() -> None:
    problem = gallery.varying(72).problem
    first, second = (price_of(problem, Jacobi(rtol=1e-6)) for _ in range(2))
    assert first.compile_seconds > 0
    assert second.compile_seconds == 0
    assert second.zero.steps == first.zero.steps


def test_set_up_that_takes_as_long_as_many_steps_is_no_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """50 ms of set-up, by 10 % more or less each time, and 10 µs a step."""
    now, noise = 0.0, np.random.default_rng(0)

    def run_steps(
        problem: Poisson, method: Jacobi, steps: int, u: jax.Array
    ) -> tuple[jax.Array, int]:
        nonlocal now
        now += 0.05 * noise.uniform(0.95, 1.05) + 1e-5 * steps
        return u, steps

    monkeypatch.setattr("solvers.hybrid.timing.run_steps", run_steps)
    method = Jacobi(check_every=1)
    for _ in range(10):
        measured = measure_step(gallery.published(32).problem, method, lambda: now)
        assert measured.seconds == pytest.approx(1e-5, rel=0.2)
