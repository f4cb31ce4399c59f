"""The front door: picking, checking, failing in words, and what a solution can do."""

import pickle
import traceback
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from solvers import (
    ConjugateGradient,
    EllipticOperator,
    FastDiagonalization,
    Grid,
    Jacobi,
    Multigrid,
    Poisson,
    Reason,
    SolveError,
    iterates,
    solve,
)
from solvers.solution import _pick
from tests.solvers.cases import D, Manufactured, N, P, sides

PROBLEM = Poisson(Grid(8), 1.0, boundary_values=lambda x: x)


def test_it_picks_a_method_and_names_it() -> None:
    assert solve(PROBLEM).method == "FastDiagonalization"
    plane = Poisson(Grid((8, 8)), 1.0, diffusion=lambda x, y: 1 + x)
    assert solve(plane).method == "ConjugateGradient"
    assert solve(PROBLEM, Jacobi()).method == "Jacobi"
    large = EllipticOperator(Grid((300, 300)), lambda x, y: 1 + x)
    assert isinstance(_pick(large).preconditioner, Multigrid)
    for thin in (
        Grid((3, 4000)),
        Grid((48, 48), upper=(1, 1e-3), boundary=(P, N)),
        Grid((24, 24), upper=(100, 1), boundary=((N, D), P)),
    ):
        operator = EllipticOperator(thin, lambda x, y: 1 + x * x, reaction=1.0)
        assert isinstance(_pick(operator).preconditioner, Multigrid)


def test_a_long_line_is_solved_in_a_step() -> None:
    """Diagonally preconditioned conjugate gradients take as many steps as there are nodes."""
    line = solve(Poisson(Grid(20_000), 1.0, diffusion=lambda x: 1 + 9 * x))
    assert line.method == "LineRelaxation"
    assert int(line.num_steps) == 1


def test_an_earlier_solution_is_an_initial_guess() -> None:
    problem = Poisson(Grid(8), 1.0, diffusion=lambda x: 1 + x)
    again = solve(problem, Jacobi(), initial=solve(problem, Jacobi()))
    assert int(again.num_steps) == 0
    np.testing.assert_allclose(next(iterates(problem, Jacobi(), initial=again)), again.field)
    with pytest.raises(ValueError, match="initial: expected shape"):
        solve(Poisson(Grid(9), 1.0), Jacobi(), initial=again)


@pytest.mark.parametrize(
    "method", [lx.CG(1e-10, 1e-10), lx.Cholesky(), lx.LU(), lx.Tridiagonal()], ids=repr
)
def test_lineaxs_own_solvers_have_a_history_too(method: lx.AbstractLinearSolver) -> None:
    solution = solve(PROBLEM, method)
    np.testing.assert_allclose(solution.value, solve(PROBLEM).value, rtol=1e-9)
    steps, norms = solution.history()
    assert steps[0] == 0
    assert steps[1] == solution.num_steps
    assert norms[0] == pytest.approx(float(PROBLEM.grid.norm(PROBLEM.rhs)))
    assert norms[1] < 1e-9 * norms[0]
    assert type(method).__name__ in str(solution)


def test_a_nan_is_no_success_of_lineaxs_solvers_either() -> None:
    @jax.jit
    def run(f: jax.Array) -> Any:
        return solve(Poisson(Grid(8), f), lx.CG(1e-8, 1e-8), throw=False).reason

    assert run(jnp.ones(9)) == Reason.converged
    assert run(jnp.ones(9).at[3].set(jnp.nan)) == Reason.nonfinite_input


def test_an_early_end_is_no_success_of_lineaxs_solvers_either() -> None:
    """`lx.CG(rtol, 0.0)` counts 0 ≤ 0 as converged, component by component."""
    point = np.zeros((17, 17))
    point[8, 8] = 1
    for method in (lx.CG(1e-8, 0.0), lx.Normal(lx.CG(1e-8, 0.0))):
        solution = solve(Poisson(Grid((16, 16)), point), method, throw=False)
        assert solution.reason == Reason.unmet
        assert solution.residual_norms[1] > 0.1 * solution.residual_norms[0]
    assert "atol" in str(solution)


# Failing


@pytest.mark.parametrize("method", [ConjugateGradient(), Jacobi(), FastDiagonalization()])
def test_a_nan_gives_no_field_of_zeros(method: Any) -> None:
    """Where errors cannot be raised, as under jit."""

    @jax.jit
    def run(f: jax.Array) -> jax.Array:
        return solve(Poisson(Grid(8), f), method, throw=False).field

    assert jnp.isnan(run(jnp.ones(9).at[3].set(jnp.nan))[1:-1]).all()


def test_a_failure_passes_from_one_process_to_another() -> None:
    with pytest.raises(SolveError) as caught:
        solve(PROBLEM, Jacobi(max_steps=3))
    there = pickle.loads(pickle.dumps(caught.value))
    assert str(there) == str(caught.value)
    np.testing.assert_array_equal(there.solution.field, caught.value.solution.field)


def test_a_failure_is_short_says_how_far_it_came_and_keeps_the_solution() -> None:
    with pytest.raises(SolveError) as caught:
        solve(PROBLEM, Jacobi(rtol=1e-6, max_steps=100))
    text = str(caught.value)
    assert text.startswith("Jacobi failed after 100 steps at a relative residual of ")
    assert "Raise max_steps" in text
    assert caught.value.solution.reason == Reason.max_steps
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert len(traceback.format_exception(caught.value)) < 8
    # What it promises is about what it takes.
    more = float(text.split("about ")[1].split(" more")[0])
    total = int(solve(PROBLEM, Jacobi(rtol=1e-6, check_every=1)).num_steps)
    assert 100 + more == pytest.approx(total, rel=0.1)


def test_without_throw_the_solution_says_it() -> None:
    solution = solve(PROBLEM, Jacobi(max_steps=3), throw=False)
    assert solution.result == lx.RESULTS.max_steps_reached
    assert solution.reason == Reason.max_steps
    assert str(solution).startswith("Jacobi: 3 steps, residual ")
    nothing = solve(Poisson(Grid(8), 0.0), Jacobi())
    assert str(nothing).startswith("Jacobi: 0 steps, residual 0.00e+00 → 0.00e+00. The residual")


@pytest.mark.parametrize("method", [Jacobi(1.9), Jacobi(rtol=0.0), ConjugateGradient(max_steps=0)])
def test_every_failure_has_its_words(method: Any) -> None:
    """Also where numbers for a forecast are missing, infinite or not a number."""
    with pytest.raises(SolveError, match=type(method).__name__):
        solve(PROBLEM, method)


def test_a_failure_inside_jit_has_the_same_advice() -> None:
    method = Jacobi(max_steps=3)

    @eqx.filter_jit
    def run(f: jax.Array) -> jax.Array:
        return solve(Poisson(Grid(8), f), method).value

    with pytest.raises(eqx.EquinoxRuntimeError, match="Raise max_steps"):
        run(jnp.ones(9))


def test_a_closed_over_problem_may_be_solved_under_jit() -> None:
    """Nothing is traced there but the solve itself."""
    ring = Poisson(Grid(8, boundary=P), lambda x: jnp.sin(2 * jnp.pi * x))
    for problem in (PROBLEM, ring):
        value = jax.jit(lambda: solve(problem, FastDiagonalization()).value)()  # noqa: B023
        np.testing.assert_allclose(value, solve(problem).value, atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"problem": PROBLEM.operator}, "problem: expected a Poisson, got EllipticOperator"),
        ({"method": "jacobi"}, "method: expected a solver"),
        ({"method": Jacobi}, "method: expected a solver"),
        ({"initial": jnp.ones(4)}, "initial: expected shape"),
        ({"initial": jnp.full(9, jnp.nan)}, "initial: expected finite values"),
        ({"method": FastDiagonalization(), "initial": "zero"}, "initial: expected numbers"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve(**{"problem": PROBLEM} | arguments)


# The initial guess


@pytest.mark.parametrize(
    ("method", "words"),
    [(Jacobi(max_steps=50), "Raise max_steps"), (Multigrid(rtol=1e-16), "Ask for a larger rtol")],
)
def test_a_gradient_that_fails_says_so_and_why(method: Any, words: str) -> None:
    def loss(t: jax.Array) -> jax.Array:
        return jnp.sum(solve(Poisson(Grid((20, 18)), t), method, throw=False).value ** 2)

    with pytest.raises(jax.errors.JaxRuntimeError, match=f"For a gradient the .*{words}"):
        jax.grad(loss)(1.0)


def test_no_gradient_goes_through_the_initial_guess() -> None:
    method = Jacobi(rtol=1e-10)

    def loss(f: jax.Array) -> jax.Array:
        return jnp.sum(solve(Poisson(Grid(8), f), method, initial=f).value)

    found = jax.grad(loss)(jnp.ones(9))
    # u = A⁻¹f, so that the gradient is A⁻¹1 = x(1 − x)/2, and 0 at the ends.
    x = PROBLEM.grid.coordinates()[0]
    np.testing.assert_allclose(found, x * (1 - x) / 2, atol=1e-9)


# Singular problems


def test_an_unbalanced_source_is_refused_and_its_mean_named() -> None:
    for n in (2, 3, 8, 64):
        with pytest.raises(ValueError, match="the mean of source and flux is 2,"):
            solve(Poisson(Grid(n, boundary=P), 2.0))
    with pytest.raises(ValueError, match=r"the mean of source and flux is 1\.5,"):
        solve(Poisson(Grid(8, upper=2, boundary=N), 1.0, flux=(0.0, 1.0)))
    # A flux that takes out what the source brings in.
    solve(Poisson(Grid(8, upper=2, boundary=N), 1.0, flux=(0.0, -2.0)))


def test_a_small_excess_is_taken_away_and_reported() -> None:
    """u = x⁴/4 has f = −3x² and the flux 1 on the right: exact data, balanced only to O(h²)."""
    removed = []
    for n in (16, 32):
        grid = Grid(n, boundary=N)
        solution = solve(Poisson(grid, lambda x: -3 * x**2, flux=(0.0, 1.0)))
        removed.append(float(solution.removed_mean))
        assert grid.integral(solution.field) == pytest.approx(0, abs=1e-14)
        (x,) = grid.coordinates()
        # Trapezoidal rule: ∫3x² is too large by h²/2.
        assert removed[-1] == pytest.approx(-0.5 / n**2, rel=1e-9)
        np.testing.assert_allclose(solution.field, x**4 / 4 - 1 / 20, atol=0.5 / n**2)


def test_traced_data_that_do_not_balance_are_a_status() -> None:
    @jax.jit
    def run(f: jax.Array) -> Any:
        return solve(Poisson(Grid(8, boundary=P), f), throw=False).reason

    assert run(jnp.ones(8)) == Reason.incompatible
    assert run(jnp.ones(8).at[::2].set(-1.0)) == Reason.direct


# What a solution can do


def test_gradients_fluxes_and_values_are_of_second_order() -> None:
    case, errors = Manufactured("DN-PP", "varying"), []
    points = np.random.default_rng(5).uniform(case.lower[:2], case.upper[:2], (200, 2)).T
    for n in (16, 32):
        grid = case.grid(n, n)
        middles = (grid.nodes(0)[1:] + grid.nodes(0)[:-1]) / 2
        faces = np.meshgrid(middles, grid.nodes(1), indexing="ij")

        @jax.jit
        def run(n: int = n, grid: Grid = grid, faces: Any = faces) -> Any:
            solution = solve(case.problem(n, n), ConjugateGradient(), throw=False)
            x, at = grid.coordinates(), tuple(map(jnp.asarray, faces))
            return (
                *(solution.gradient()[d] - case.slope(d, *x) for d in (0, 1)),
                solution.flux()[0] + case.a(0, *at) * case.slope(0, *at),
                solution.evaluate(*points) - case.u(*map(jnp.asarray, points)),
            )

        errors.append([float(abs(error).max()) for error in run()])
    orders = np.log2(np.divide(*errors))
    # Points at random sit anywhere in their cells, and one-sided differences see the next order.
    assert (orders > 1.6).all(), orders


@pytest.mark.parametrize("names", ["DN-PP", "NN-DD", "PP-ND"])
def test_fluxes_are_those_that_the_scheme_balances(names: str) -> None:
    """−a (u₊ − u₋)/h with the harmonic mean of a, along one axis and at the unknowns across."""
    grid = Grid((3, 4), boundary=sides(names))
    a = np.random.default_rng(6).uniform(0.5, 2, grid.full_shape)
    guess = np.random.default_rng(7).normal(size=grid.full_shape)
    problem = Poisson(grid, 1.0, diffusion=a, reaction=1.0)
    method = Jacobi(max_steps=0)
    for scale, values in ((1.0, a), (0.3, np.full_like(a, 0.3))):
        if scale != 1:
            problem = Poisson(grid, 1.0, diffusion=scale, reaction=1.0)
        solution = solve(problem, method, initial=guess, throw=False)
        for axis, flux in enumerate(solution.flux()):
            other = 1 - axis
            across = tuple(slice(None) if d == axis else grid.unknowns[d] for d in (0, 1))
            u, k = np.asarray(solution.field)[across], values[across]
            if grid.is_periodic(axis):
                u, k = (np.concatenate([x, np.take(x, [0], axis)], axis) for x in (u, k))
            low, high = (np.take(k, range(s, k.shape[axis] - 1 + s), axis) for s in (0, 1))
            face = 2 / (1 / low + 1 / high)
            expected = -face * np.diff(u, axis=axis) / grid.spacing[axis]
            assert flux.shape[axis] == grid.intervals[axis]
            assert flux.shape[other] == grid.shape[other]
            np.testing.assert_allclose(flux, expected, rtol=1e-12)


def test_evaluating_at_nodes_outside_and_round_the_period() -> None:
    grid = Grid((4, 5), boundary=sides("DD-PP"))
    solution = solve(Poisson(grid, lambda x, y: x + jnp.cos(2 * jnp.pi * y)))
    x, y = grid.coordinates()
    np.testing.assert_allclose(solution.evaluate(x, y), solution.field, atol=1e-14)
    np.testing.assert_allclose(solution.evaluate(x, y - 3), solution.field, atol=1e-13)
    outside = solution.evaluate(jnp.asarray([-0.1, 1.1, 0.5]), jnp.asarray([0.5, 0.5, 7.5]))
    np.testing.assert_array_equal(jnp.isnan(outside), [True, True, False])
    with pytest.raises(ValueError, match="points: expected 2 arrays, got 1"):
        solution.evaluate(x)
    with pytest.raises(ValueError, match="points: expected equal shapes"):
        solution.evaluate(x, y[0])


@pytest.mark.parametrize(("boundary", "n"), [(N, 1), (N, 2), (P, 2)])
def test_the_smallest_grids_have_gradients_and_fluxes(boundary: Any, n: int) -> None:
    solution = solve(Poisson(Grid(n, boundary=boundary), 1.0, reaction=1.0))
    np.testing.assert_allclose(solution.field, 1.0)
    np.testing.assert_allclose(solution.gradient()[0], 0, atol=1e-13)
    np.testing.assert_allclose(solution.flux()[0], np.zeros(n), atol=1e-13)
    assert solution.gradient()[0].shape == solution.grid.full_shape


def test_single_precision_goes_all_the_way_through() -> None:
    problem = Poisson(Grid((6, 5), dtype="float32"), 1.0)
    solution = solve(problem, Jacobi(rtol=1e-5))
    arrays = [solution.field, solution.value, solution.residual_norms, *solution.gradient()]
    arrays += [*solution.flux(), solution.evaluate(0.5, 0.5), solution.removed_mean]
    assert {array.dtype for array in arrays} == {np.dtype("float32")}


@pytest.mark.parametrize(
    "view",
    [
        lambda s: s.gradient(),
        lambda s: s.flux(),
        lambda s: s.evaluate(0.5),
        lambda s: s.history(),
        str,
    ],
)
def test_a_batch_of_solutions_is_not_taken_for_one(view: Any) -> None:
    """Its gradient was along the batch, of the right shape."""
    batch = jax.vmap(lambda t: solve(Poisson(Grid(4), t)))(jnp.arange(1.0, 6.0))
    with pytest.raises(ValueError, match="solution: a batch"):
        view(batch)
    slopes = jax.vmap(lambda s: s.gradient()[0])(batch)
    np.testing.assert_allclose(slopes[1], solve(Poisson(Grid(4), 2.0)).gradient()[0])


@pytest.mark.parametrize("method", [None, lx.Cholesky()])
def test_a_direct_solve_claims_no_tolerance(method: Any) -> None:
    solution = solve(Poisson(Grid(16), 1.0), method)
    assert solution.reason == Reason.direct
    assert "no tolerance was asked for" in str(solution)


def test_what_was_taken_from_a_source_is_told() -> None:
    grid = Grid((12, 12), boundary=N)
    uneven, even = (
        solve(Poisson(grid, lambda x, y, t=t: jnp.cos(jnp.pi * x) + t)) for t in (0.08, 0.0)
    )
    assert str(uneven).endswith(" A mean of 0.08 was taken from the source.")
    assert "mean" not in str(even)


def test_integers_at_the_unknowns_keep_the_boundary_values() -> None:
    problem = Poisson(Grid(4), 1.0, boundary_values=0.75)
    np.testing.assert_array_equal(problem.field(jnp.ones(3, int)), [0.75, 1, 1, 1, 0.75])


@pytest.mark.parametrize("at", [0.0, 0.3, 1.0])
def test_values_between_nodes_have_the_slope_of_their_cell_at_the_ends_too(at: float) -> None:
    problem = Poisson(Grid(8), 0.0, boundary_values=lambda x: 3 * x)
    assert float(jax.grad(solve(problem).evaluate)(at)) == pytest.approx(3.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_direct_solver_does_not_overflow_inside(dtype: str) -> None:
    size = float(np.finfo(dtype).max) / 1e3
    problem = Poisson(Grid((256, 256), dtype=dtype), lambda x, y: size * jnp.exp(x * y))
    unit = Poisson(problem.grid, lambda x, y: jnp.exp(x * y))
    found, expected = (solve(p, FastDiagonalization()).value for p in (problem, unit))
    np.testing.assert_allclose(found / size, expected, rtol=1e-4)


def test_an_odd_ring_that_a_medium_cuts_has_two_colours() -> None:
    """Undamped Jacobi has the eigenvalue −1 there, and never ended."""
    grid = Grid((7, 6), boundary=(P, N))
    f = np.random.default_rng(0).normal(size=grid.full_shape)
    problem = Poisson(grid, f, medium=lambda x, y: 0.3 - abs(x - 0.5))
    balanced = Poisson(grid, f - solve(problem, throw=False).removed_mean, medium=problem.medium)
    assert int(solve(balanced, Jacobi()).num_steps) < 1000


def test_looks_are_counted_in_32_bits() -> None:
    with pytest.raises(ValueError, match="check_every: expected a positive integer"):
        Jacobi(check_every=2**31)
