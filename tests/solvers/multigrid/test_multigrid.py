"""Multigrid as a solver and as a preconditioner, on grids of several levels."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from solvers import (
    ConjugateGradient,
    Cycle,
    EllipticOperator,
    FastDiagonalization,
    Grid,
    LineRelaxation,
    Multigrid,
    Poisson,
    Reason,
    Solution,
    as_preconditioner,
    solve,
)
from solvers.multigrid.hierarchy import build
from tests.solvers.cases import Manufactured, sides

pytestmark = pytest.mark.usefixtures("deep")


def relative_residual(problem: Poisson, solution: Solution) -> float:
    left, first = (np.linalg.norm(x) for x in (problem.residual(solution.value), problem.rhs))
    return float(left / first)


# Convergence


@pytest.mark.parametrize("cycle", Cycle)
def test_mixed_precision_loses_no_digit(cycle: Cycle) -> None:
    """Cycles in float32 reduce as much as in float64: 0.05 a cycle to 1e-12 makes 10 cycles."""
    problem = Poisson(Grid((64, 64)), lambda x, y: jnp.exp(x) * y, boundary_values=lambda x, y: x)
    single, double = (
        solve(problem, Multigrid(cycle, precision=precision, rtol=1e-12))
        for precision in (None, np.float64)
    )
    assert len(build(problem.operator, None).levels) > 0
    assert relative_residual(problem, single) <= 1.1e-12
    assert int(double.num_steps) <= int(single.num_steps) <= min(int(double.num_steps) + 1, 10)
    exact = solve(problem, FastDiagonalization()).value
    np.testing.assert_allclose(single.value, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("varies", "full"), [(True, False), (False, True)])
@pytest.mark.parametrize(
    ("dtype", "upper", "a", "rtol"),
    [
        (np.float32, 1e-6, 400.0, 1e-3),  # a chip of copper, in metres: a/h² is 1e19
        (np.float32, 1e15, 1.0, 1e-3),
        (np.float64, 1.0, 1e30, 1e-8),
        (np.float64, 1e-15, 1.0, 1e-8),
    ],
)
def test_units_do_not_matter(
    dtype: Any, upper: float, a: float, rtol: float, varies: bool, full: bool
) -> None:
    """Squares of b/a underflowed, and a residual of 0 was called converged after one cycle."""

    def diffusion(x: jax.Array, y: jax.Array) -> jax.Array:
        return a * (1 + 9 * (x / upper) * (y / upper))

    grid = Grid((35, 26) if varies else (67, 48), upper=upper, dtype=dtype)
    problem = Poisson(grid, 1.0, diffusion=diffusion if varies else a)
    solution = solve(problem, Multigrid(full=full, rtol=rtol))
    assert relative_residual(problem, solution) <= 1.1 * rtol
    assert float(solution.history()[1][-1]) > 0
    if full:
        solution = solve(problem, Multigrid(full=True, rtol=0, error_fraction=0.1))
        unit = float(jnp.max(jnp.abs(solution.value)))
        assert 0 <= float(solution.stats["algebraic_error"]) < 0.02 * unit
        assert 1e-5 * unit < float(solution.stats["discretization_error"]) < 0.02 * unit


def test_what_rounding_forbids_is_called_stagnation() -> None:
    problem = Poisson(Grid((64, 60)), 1.0)
    solution = solve(problem, Multigrid(rtol=1e-16), throw=False)
    assert solution.reason == Reason.stagnated
    assert "predicted" not in str(solution)  # of a cycle at the rounding error
    # ε times the condition number of 4e3 relative to ‖b‖, not more.
    assert relative_residual(problem, solution) < 1e-12
    assert int(solution.num_steps) < 30


def test_an_operator_in_single_precision() -> None:
    grid = Grid((60, 64), dtype="float32")
    problem = Poisson(grid, lambda x, y: jnp.exp(x) * y)
    solution = solve(problem, Multigrid(rtol=1e-4))
    assert solution.value.dtype == jnp.float32
    assert relative_residual(problem, solution) <= 1.1e-4
    assert int(solution.num_steps) <= 5


# Full multigrid


def error_of(solution: Any, exact: Any) -> float:
    return float(np.max(np.abs(np.asarray(solution) - np.asarray(exact))))


@pytest.mark.parametrize(
    ("names", "coefficients", "intervals", "pre"),
    [
        ("DN-PP", "anisotropic", (61, 66), 1),
        ("DN-DD", "varying", (48, 36), 1),
        ("DD-NN-DD", "one", (24, 20, 22), 2),
    ],
)
def test_one_pass_of_full_multigrid_is_as_good_as_the_grid(
    names: str, coefficients: str, intervals: tuple[int, ...], pre: int
) -> None:
    """Values on the sides are not 0 here, and fluxes neither."""
    case = Manufactured(names, coefficients)
    problem = case.problem(*intervals)
    once = solve(problem, Multigrid(pre=pre, full=True, rtol=0.0, max_steps=1), throw=False)
    best = solve(problem, Multigrid(pre=pre, full=True, rtol=1e-10, max_steps=15))
    u = case.u(*problem.grid.coordinates())
    assert int(once.num_steps) == 1
    assert float(once.stats["work_units"]) <= 10
    assert error_of(once.field, u) <= 1.3 * error_of(best.field, u)


def test_full_multigrid_stops_at_the_discretization_error() -> None:
    case = Manufactured("DD-DN", "anisotropic")
    problem = case.problem(70, 76)
    method = Multigrid(full=True, error_fraction=0.05, rtol=1e-13)
    solution = solve(problem, method)
    never = eqx.tree_at(
        lambda m: (m.error_fraction, m.rtol), method, (jnp.asarray(1e-12), method.rtol * 1e3)
    )
    best = solve(problem, never).field
    algebraic = error_of(solution.field, best)
    discretization = error_of(best, case.u(*problem.grid.coordinates()))
    assert solution.reason == Reason.discretization
    assert int(solution.num_steps) <= 2
    assert algebraic <= 0.05 * discretization
    # Estimates are within a factor of 3: that of h² by Richardson's rule, of the rest by the last
    # cycle, which took care of more than it left.
    assert 1 / 3 < float(solution.stats["discretization_error"]) / discretization < 3
    assert algebraic / 3 < float(solution.stats["algebraic_error"])


# As a preconditioner


def jumps(x: Any, y: Any) -> Any:
    """Between 1 and 1e6 in a chequerboard that no coarse grid resolves."""
    return jnp.where((jnp.floor(7 * x) + jnp.floor(5 * y)) % 2 == 0, 1e6, 1.0)


@pytest.mark.parametrize(
    ("names", "intervals", "a"),
    [("DD-DN", (12, 13), 1.0), ("NN-PP", (10, 11), 1.0), ("DN-PP", (8, 7), jumps)],
)
def test_the_preconditioner_is_symmetric_and_positive(
    names: str, intervals: tuple[int, ...], a: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On all but the constants, to the rounding error times a contrast of 1e6."""
    monkeypatch.setattr("solvers.multigrid.coarsest.TENSOR_WORK", 2**9)
    monkeypatch.setattr("solvers.multigrid.hierarchy.DENSE_SIZE", 2**4)
    operator = EllipticOperator(Grid(intervals, boundary=sides(names)), a)
    size = operator.grid.size
    apply = jax.vmap(as_preconditioner(Multigrid(precision=np.float64), operator).mv)
    basis = jnp.eye(size).reshape(size, *operator.grid.shape)
    M = np.asarray(jax.jit(apply)(basis)).reshape(size, size)
    np.testing.assert_allclose(M, M.T, rtol=0, atol=1e-10 * abs(M).max())
    spectrum = np.linalg.eigvalsh((M + M.T) / 2)
    smallest = spectrum[1 if operator.is_singular else 0]
    # The smallest is about 1/D, D the diagonal.
    assert smallest > 0.5 / float(jnp.max(operator.diagonal()))
    assert not operator.is_singular or abs(spectrum[0]) < 1e-12 * spectrum[-1]


@pytest.mark.parametrize("size", [1e-60, 1e60])
def test_the_preconditioner_takes_residuals_beyond_the_range_of_its_cycles(size: float) -> None:
    """CG's own residual falls on where b − A u cannot: it met float32's zero, and then NaN."""
    operator = EllipticOperator(Grid((20, 21)), jumps)
    preconditioner = as_preconditioner(Multigrid(precision=np.float32), operator)
    apply = jax.jit(lambda r: preconditioner.mv(r))
    r = jnp.asarray(np.random.default_rng(3).standard_normal(operator.grid.shape))
    np.testing.assert_allclose(apply(size * r), size * apply(r), rtol=1e-4)
    assert not apply(0 * r).any()


def rough(x: Any, y: Any) -> Any:
    """Independent from node to node, between 1e-2 and 1e2."""
    del y
    return jnp.asarray(10.0 ** np.random.default_rng(1).uniform(-2, 2, x.shape))


@pytest.mark.parametrize(("a", "most"), [(jumps, 20), (rough, 30)])
def test_media_that_jump_and_media_that_are_rough(a: Any, most: int) -> None:
    """Galerkin couplings of either sign: without care for their sum cycles diverged in the second.

    A contrast of 1e6 leaves a residual of 1e-7 to rounding, ε‖A‖‖u‖/‖b‖.
    """
    grid = Grid((47, 48), boundary=sides("NN-NN"))
    problem = Poisson(grid, lambda x, y: jnp.cos(jnp.pi * x), diffusion=a)
    ours = solve(problem, ConjugateGradient(preconditioner=Multigrid(), rtol=1e-6))
    assert relative_residual(problem, ours) <= 1.1e-6
    assert int(ours.num_steps) <= most


def test_lineax_takes_it_as_a_preconditioner() -> None:
    problem = Poisson(Grid((70, 72)), 1.0)
    operator, b = problem.operator, problem.rhs
    options = {"preconditioner": as_preconditioner(Multigrid(), operator)}
    scale = 1e-8 * float(abs(b).max())
    for method in (lx.CG(1e-8, scale), lx.GMRES(1e-8, scale)):
        solved = lx.linear_solve(operator, b, method, options=options)
        # 0.25 a cycle, so 0.08 a step of conjugate gradients.
        assert int(solved.stats["num_steps"]) <= 12
        left = jnp.linalg.norm(problem.residual(solved.value))
        assert left <= 1e-6 * jnp.linalg.norm(b)


# Derivatives and batches

SIZES = (24, 20)


def family(theta: jax.Array, names: str = "DN-DD") -> Poisson:
    """A problem on a grid of several levels, with numbers in f, a, c and the boundary values."""
    grid = Grid(SIZES, boundary=sides(names))
    x, y = grid.coordinates()
    return Poisson(
        grid,
        jnp.exp(x) + theta[0] * jnp.cos(y),
        diffusion=1 + x * y + theta[1] * y**2,
        reaction=0.5 + theta[2] * x,
        boundary_values=0.3 + theta[3] * x,
    )


@eqx.filter_jit
def value_and_slopes(theta: jax.Array, method: Any) -> Any:
    def loss(theta: jax.Array) -> jax.Array:
        value = solve(family(theta), method).value
        return jnp.sum(value * jnp.cos(jnp.arange(value.size, dtype=float).reshape(value.shape)))

    return jax.value_and_grad(loss)(theta)


def test_gradients_on_several_levels() -> None:
    """Against central differences of solves by another method, good to 1e-7."""
    theta, step = jnp.asarray([0.2, 0.1, 0.3, -0.4]), 1e-4
    value, slopes = value_and_slopes(theta, Multigrid(rtol=1e-12))

    @jax.jit
    def loss(theta: jax.Array) -> jax.Array:
        u = jnp.linalg.solve(family(theta).operator.as_matrix(), family(theta).rhs.reshape(-1))
        return jnp.sum(u * jnp.cos(jnp.arange(u.size, dtype=float)))

    expected = [(loss(theta + e) - loss(theta - e)) / (2 * step) for e in step * jnp.eye(4)]
    np.testing.assert_allclose(value, loss(theta), rtol=1e-9)
    np.testing.assert_allclose(slopes, expected, rtol=1e-6, atol=1e-6)
    assert np.min(np.abs(slopes)) > 1e-4


def test_a_batch_of_media_has_a_status_each() -> None:
    thetas = jnp.asarray(np.random.default_rng(5).uniform(0, 1, (16, 4)))
    thetas = thetas.at[3, 1].set(jnp.nan)

    def lane(theta: jax.Array) -> Any:
        solution = solve(family(theta), Multigrid(rtol=1e-10), throw=False)
        return solution.value, solution.reason, family(theta).residual(solution.value)

    _, reasons, residuals = jax.jit(jax.vmap(lane))(thetas)
    is_good = np.arange(16) != 3
    np.testing.assert_array_equal(reasons == Reason.converged, is_good)
    np.testing.assert_array_equal(reasons == Reason.nonfinite_input, ~is_good)
    norms = jnp.linalg.norm(residuals.reshape(16, -1), axis=1)
    right = jnp.linalg.norm(jax.vmap(lambda t: family(t).rhs)(thetas).reshape(16, -1), axis=1)
    assert np.all(norms[is_good] <= 1.1e-10 * right[is_good])


def test_a_singular_problem_and_its_gradient() -> None:
    grid = Grid((61, 64), boundary=sides("NN-PP"))
    x, y = grid.coordinates()

    def loss(t: jax.Array) -> jax.Array:
        f = jnp.cos(jnp.pi * x) * (1 + t * jnp.cos(2 * jnp.pi * y))
        solution = solve(Poisson(grid, f), Multigrid(rtol=1e-11))
        return jnp.sum(solution.value[:20] ** 2), solution.value

    slope, value = jax.jit(jax.grad(loss, has_aux=True))(jnp.asarray(0.5))
    f = jnp.cos(jnp.pi * x) * (1 + 0.5 * jnp.cos(2 * jnp.pi * y))
    change = jnp.cos(jnp.pi * x) * jnp.cos(2 * jnp.pi * y)
    u, du = (solve(Poisson(grid, g), FastDiagonalization()).value for g in (f, change))
    np.testing.assert_allclose(value, u, rtol=0, atol=1e-9 * float(abs(u).max()))
    np.testing.assert_allclose(slope, jnp.sum(2 * u[:20] * du[:20]), rtol=1e-8)


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cycle": "V"}, "cycle: expected a member of Cycle"),
        ({"pre": 0}, "pre: expected a positive integer"),
        ({"post": 1.5}, "post: expected a positive integer"),
        ({"error_fraction": 0.1}, "error_fraction: needs full=True"),
        ({"full": True, "error_fraction": -0.1}, "error_fraction: expected a positive number"),
        ({"precision": np.int32}, "precision: expected float32 or float64"),
        ({"precision": "half"}, "precision: expected float32 or float64"),
        ({"rtol": -1.0}, "rtol: expected a finite number"),
        ({"check_every": 0}, "check_every: expected a positive integer"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Multigrid(**arguments)


def test_what_it_cannot_do_is_refused() -> None:
    operator = EllipticOperator(Grid((6, 5), dtype="float32"))
    with pytest.raises(ValueError, match="operator: Multigrid needs an EllipticOperator"):
        Multigrid().init(lx.MatrixLinearOperator(jnp.eye(3)), {})
    with pytest.raises(ValueError, match="precision: expected at most the operator's float32"):
        Multigrid(precision=np.float64).init(operator, {})
    with pytest.raises(ValueError, match="smoother: expected Jacobi"):
        Multigrid(smoother=ConjugateGradient()).init(EllipticOperator(Grid((70, 70))), {})
    with pytest.raises(ValueError, match="cycle: an F-cycle is not symmetric"):
        as_preconditioner(Multigrid(Cycle.F), operator).mv(jnp.ones((5, 4), jnp.float32))


def test_nodal_coefficients_for_each_axis_are_coarsened_by_their_means() -> None:
    diffusion = (lambda x, y: 1 + x, lambda x, y: 1e-3 * (1 + x * y))
    problem = Poisson(Grid((48, 40)), 1.0, diffusion=diffusion)
    assert int(solve(problem, Multigrid()).num_steps) <= 10


@pytest.mark.parametrize(
    ("names", "intervals"),
    [
        ("DD-NN", (16, 1)),
        ("DN", (1,)),
        ("DN-NN", (300, 1)),
        ("NN-DD-NN", (1, 8, 1)),
        ("PP-NN", (6, 1)),
    ],
)
@pytest.mark.parametrize("full", [False, True])
def test_an_axis_of_one_interval_is_an_axis(
    names: str, intervals: tuple[int, ...], full: bool
) -> None:
    """All of its rows weigh ½: the residual was half the true one, and the answer half wrong."""
    grid = Grid(intervals, boundary=sides(names))
    problem = Poisson(grid, lambda *x: 1 + sum(x) ** 2, reaction=0.5)
    solution = solve(problem, Multigrid(full=full, rtol=1e-10))
    assert relative_residual(problem, solution) <= 1.1e-10


@pytest.mark.parametrize("varies", [True, False])
@pytest.mark.parametrize("data", [{"reaction": 1e-3}, {"reaction": 1e-6}, {"reaction": 1e-9},
                                  {"robin": 1e-7}])  # fmt: skip
def test_little_pull_beside_neumann_sides_costs_nothing(
    varies: bool, data: dict[str, float]
) -> None:
    """Constants, nearly a null space, took 1470 steps or ended in NaN, in single precision."""
    grid = Grid((48, 40), boundary=sides("NN-NN"))
    a = (lambda x, y: 1 + x * y) if varies else 1.0
    problem = Poisson(grid, lambda x, y: jnp.cos(jnp.pi * x), diffusion=a, **data)
    for method, most in (
        (ConjugateGradient(preconditioner=Multigrid()), 9),
        (Multigrid(), 8),
        (Multigrid(full=True), 8),
    ):
        assert int(solve(problem, method).num_steps) <= most


def test_full_is_a_condition() -> None:
    with pytest.raises(ValueError, match="full: expected True or False"):
        Multigrid(full="no")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "intervals", "varies"),
    [
        ("NN", (256,), False),
        ("PP", (256,), False),
        ("NN", (500,), True),
        ("PP", (500,), True),
        ("NN-NN", (1024, 2), False),
    ],
)
def test_a_line_that_is_all_of_a_singular_level_is_held(
    names: str, intervals: tuple[int, ...], varies: bool
) -> None:
    a = (lambda *x: 1 + x[0] * (1 - x[0])) if varies else 1.0
    problem = Poisson(
        Grid(intervals, boundary=sides(names)), lambda *x: jnp.cos(2 * jnp.pi * x[0]), diffusion=a
    )
    assert int(solve(problem, Multigrid(smoother=LineRelaxation())).num_steps) <= 12


def test_smoothers_of_other_axes_are_named() -> None:
    with pytest.raises(ValueError, match="smoother: expected axes below 2"):
        solve(Poisson(Grid((200, 200)), 1.0), Multigrid(smoother=LineRelaxation(2)))
