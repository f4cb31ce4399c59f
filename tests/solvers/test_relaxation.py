"""Jacobi and Gauss–Seidel against loops written out, and against the theory of both.

All relaxations as preconditioners, and with bad arguments.
"""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from solvers import (
    Chebyshev,
    EllipticOperator,
    GaussSeidel,
    Grid,
    Jacobi,
    LineRelaxation,
    Ordering,
    Poisson,
    as_preconditioner,
    optimal_over_relaxation,
    solve,
)
from tests.solvers.cases import Dense, N, P, sides

LEXICOGRAPHIC = Ordering.LEXICOGRAPHIC


def sweeps(method: Any, operator: EllipticOperator, count: int) -> Any:
    """A compiled function of b and u that does `count` sweeps."""
    _, setup = method.init(operator, {})

    @jax.jit
    def run(b: jax.Array, u: jax.Array) -> jax.Array:
        carry = method.start(setup, b, u)
        for _ in range(count):
            carry = method.step(setup, b, carry)
        return method.current(setup, carry)

    return run


# Jacobi


@pytest.mark.parametrize("damping", [None, 0.6])
@pytest.mark.parametrize("n", [7, 12])
def test_every_mode_decays_by_its_cosine(n: int, damping: float | None) -> None:
    """One sweep multiplies sin(jkπ/n) by 1 − ω + ω cos(kπ/n), undamped by the cosine alone."""
    operator = EllipticOperator(Grid(n))
    run = sweeps(Jacobi(damping), operator, 3)
    omega = 1.0 if damping is None else damping
    for k in range(1, n):
        mode = np.sin(np.arange(1, n) * k * np.pi / n)
        factor = 1 - omega + omega * np.cos(k * np.pi / n)
        left = run(jnp.zeros(n - 1), jnp.asarray(mode))
        np.testing.assert_allclose(left, factor**3 * mode, atol=1e-14)


@pytest.mark.parametrize("names", ["DN", "NN-PP", "DN-NN-PP"])
def test_a_sweep_is_the_textbooks(names: str) -> None:
    grid = Grid((4, 3, 3)[: len(sides(names))], boundary=sides(names))
    numbers = np.random.default_rng(1)
    a, c = numbers.uniform(0.5, 2, (2, *grid.full_shape))
    A = Dense.assemble(grid, (a,) * grid.ndim, c).A
    b, u = numbers.normal(size=(2, grid.size))
    expected = u + 0.7 * (b - A @ u) / np.diag(A)
    run = sweeps(Jacobi(0.7), EllipticOperator(grid, a, c), 1)
    found = run(jnp.asarray(b.reshape(grid.shape)), jnp.asarray(u.reshape(grid.shape)))
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("intervals", "boundary", "reaction", "is_refused"),
    [
        ((4,), N, 0.0, True),
        ((4,), P, 0.0, True),
        ((5,), P, 0.0, False),  # three colours: no eigenvalue −1
        ((4, 4), (N, P), 0.0, True),
        ((4,), N, 1.0, False),
    ],
)
def test_undamped_is_refused_where_it_has_the_eigenvalue_minus_one(
    intervals: tuple[int, ...], boundary: Any, reaction: float, is_refused: bool
) -> None:
    operator = EllipticOperator(Grid(intervals, boundary=boundary), reaction=reaction)
    A = np.asarray(operator.as_matrix())
    smallest = np.linalg.eigvals(np.eye(len(A)) - A / np.diag(A)[:, None]).real.min()
    assert bool(smallest < -1 + 1e-9) is is_refused, "the case says what it is for"
    if is_refused:
        with pytest.raises(ValueError, match="damping: 1 does not converge here"):
            Jacobi(1.0).init(operator, {})
    _, setup = Jacobi().init(operator, {})
    assert float(setup.damping) == (0.8 if is_refused else 1.0)
    assert float(Jacobi(0.9).init(operator, {})[1].damping) == 0.9
    if not is_refused:
        assert float(Jacobi(1).init(operator, {})[1].damping) == 1.0


def test_the_refusal_reaches_through_linear_solve() -> None:
    problem = Poisson(Grid(4, boundary=N), lambda x: jnp.cos(jnp.pi * x))
    with pytest.raises(ValueError, match="damping: 1 does not converge"):
        solve(problem, Jacobi(1.0))


MATRIX = np.array([[4.0, 1, 0], [-2, 5, 1], [0, 1, 3]])


def test_jacobi_on_a_nonsymmetric_matrix_and_its_transpose() -> None:
    b = jnp.asarray([1.0, 2, 3])
    weights = jnp.asarray([1.0, -1, 2])

    def loss(A: jax.Array, b: jax.Array) -> jax.Array:
        solved = lx.linear_solve(lx.MatrixLinearOperator(A), b, Jacobi(rtol=1e-13))
        return jnp.sum(weights * solved.value)

    value, (of_A, of_b) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(jnp.asarray(MATRIX), b)
    x, y = np.linalg.solve(MATRIX, b), np.linalg.solve(MATRIX.T, weights)
    np.testing.assert_allclose(value, weights @ x, rtol=1e-11)
    np.testing.assert_allclose(of_b, y, rtol=1e-10)
    np.testing.assert_allclose(of_A, -np.outer(y, x), rtol=1e-10)


def test_jacobi_on_a_tree() -> None:
    structure = {"p": jax.ShapeDtypeStruct((2,), float), "q": jax.ShapeDtypeStruct((), float)}

    def mv(v: dict[str, jax.Array]) -> dict[str, jax.Array]:
        p, q = v["p"], v["q"]
        return {"p": 3 * p + jnp.stack([q, q]), "q": p[0] + p[1] + 4 * q}

    operator = lx.FunctionLinearOperator(mv, structure)
    b = {"p": jnp.asarray([1.0, 2.0]), "q": jnp.asarray(3.0)}
    guess = {"p": jnp.asarray([0.1, 0.4]), "q": jnp.asarray(0.5)}
    solved = lx.linear_solve(operator, b, Jacobi(rtol=1e-12), options={"y0": guess})
    for left, right in zip(jax.tree.leaves(mv(solved.value)), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-11)


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (lx.MatrixLinearOperator(jnp.ones((2, 3))), "operator: expected a square one"),
        (lx.MatrixLinearOperator(jnp.eye(2) * (1 + 1j)), "operator: expected one real precision"),
    ],
)
def test_operators_that_cannot_be_relaxed(operator: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Jacobi().init(operator, {})


# Gauss–Seidel


def relax(A: np.ndarray, b: np.ndarray, u: np.ndarray, order: Any, omega: float) -> np.ndarray:
    """Gauss–Seidel in a loop, one unknown after the other."""
    u = u.copy()
    for i in order:
        u[i] += omega * (b[i] - A[i] @ u) / A[i, i]
    return u


def orders(grid: Grid, ordering: Ordering) -> list[int]:
    nodes = list(np.ndindex(*grid.shape))
    if ordering is Ordering.LEXICOGRAPHIC:
        return list(range(grid.size))
    return sorted(range(grid.size), key=lambda i: sum(nodes[i]) % 2)


# Even periodic axes, so that a colour has no neighbours within itself.
GRIDS = [
    ("DD", (7,)),
    ("NN", (4,)),
    ("PP", (6,)),
    ("PP", (2,)),
    ("DN-PP", (4, 4)),
    ("PP-ND", (4, 3)),
    ("PP-DN-NN", (2, 3, 2)),
]


@pytest.mark.parametrize("ordering", Ordering)
@pytest.mark.parametrize(("names", "intervals"), GRIDS)
def test_sweeps_are_those_of_the_loop(
    names: str, intervals: tuple[int, ...], ordering: Ordering
) -> None:
    """Forward by a sweep; there and back by the preconditioner."""
    grid = Grid(intervals, boundary=sides(names))
    numbers = np.random.default_rng(2)
    a, c = numbers.uniform(0.5, 2, (2, *grid.full_shape))
    A = Dense.assemble(grid, (a,) * grid.ndim, c).A
    b, u = numbers.normal(size=(2, grid.size))
    order = orders(grid, ordering)
    method, operator = GaussSeidel(1.3, ordering=ordering), EllipticOperator(grid, a, c)

    run = sweeps(method, operator, 1)
    found = run(jnp.asarray(b.reshape(grid.shape)), jnp.asarray(u.reshape(grid.shape)))
    np.testing.assert_allclose(found.ravel(), relax(A, b, u, order, 1.3), rtol=1e-10, atol=1e-12)

    # Backwards within a colour is the same as forwards, as its unknowns do not see each other.
    there = relax(A, b, np.zeros(grid.size), order, 1.3)
    back = relax(A, b, there, order[::-1], 1.3)
    apply = as_preconditioner(method, operator)
    found = jax.jit(lambda r: apply.mv(r))(jnp.asarray(b.reshape(grid.shape)))
    np.testing.assert_allclose(found.ravel(), back, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("ordering", Ordering)
@pytest.mark.parametrize(("n", "boundary"), [((24,), "DD"), ((8, 6), "DN-DD"), ((10,), "DN")])
def test_the_optimal_over_relaxation_has_spectral_radius_omega_minus_one(
    n: tuple[int, ...], boundary: str, ordering: Ordering
) -> None:
    """Young 1954: all eigenvalues of the sweep have modulus ω − 1 there, and more beside it."""
    operator = EllipticOperator(Grid(n, boundary=sides(boundary)), reaction=0.5)
    omega = optimal_over_relaxation(operator)
    grid = operator.grid

    def radius(omega: float) -> float:
        run = sweeps(GaussSeidel(omega, ordering=ordering), operator, 1)
        basis = jnp.eye(grid.size).reshape(grid.size, *grid.shape)
        columns = jax.vmap(lambda u: run(jnp.zeros(grid.shape), u))(basis)
        return abs(np.linalg.eigvals(np.asarray(columns).reshape(grid.size, -1))).max()

    # The largest eigenvalue is a double one there: rounding ε moves it by √ε.
    assert radius(omega) == pytest.approx(omega - 1, abs=1e-5)
    assert radius(omega - 0.05) > omega - 1 + 0.01
    assert radius(min(omega + 0.05, 1.99)) > omega - 1 + 0.01


def test_gauss_seidel_is_twice_as_fast_as_jacobi() -> None:
    """ρ(GS) = ρ(J)² (Young 1954): half the sweeps, up to the rounding to whole looks."""
    problem = Poisson(Grid(16), 1.0)
    steps = [
        int(solve(problem, method).num_steps)
        for method in (Jacobi(rtol=1e-7, check_every=1), GaussSeidel(rtol=1e-7, check_every=1))
    ]
    assert steps[1] / steps[0] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (EllipticOperator(Grid(4), lambda x: 1 + x), "operator: expected constant coefficients"),
        (EllipticOperator(Grid(4, boundary=P)), "operator: expected a regular one"),
    ],
)
def test_no_optimum_is_known_there(operator: EllipticOperator, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optimal_over_relaxation(operator)


def test_the_optimum_of_a_traced_coefficient_is_refused() -> None:
    def traced(a: jax.Array) -> float:
        return optimal_over_relaxation(EllipticOperator(Grid(4), a))

    with pytest.raises(ValueError, match="operator: expected constant coefficients with known"):
        jax.jit(traced)(1.0)


# Preconditioners


@pytest.mark.parametrize(
    "method",
    [
        Jacobi(0.8),
        Jacobi(),
        GaussSeidel(1.2),
        GaussSeidel(ordering=LEXICOGRAPHIC),
        Chebyshev(4, smallest=0.05),
        LineRelaxation(),
    ],
)
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("names", ["DN-PP", "NN-NN"])
def test_preconditioners_are_symmetric_and_positive(method: Any, steps: int, names: str) -> None:
    grid = Grid((4, 5), boundary=sides(names))
    operator = EllipticOperator(grid, (1.0, 2.0))
    apply = as_preconditioner(method, operator, steps=steps)
    assert lx.is_positive_semidefinite(apply)
    basis = jnp.eye(grid.size).reshape(grid.size, *grid.shape)
    M = np.asarray(jax.jit(jax.vmap(apply.mv))(basis)).reshape(grid.size, -1)
    np.testing.assert_allclose(M, M.T, atol=1e-14)
    smallest = np.linalg.eigvalsh(M)
    # Singular: the constants are left out on both sides.
    assert smallest[1 if operator.is_singular else 0] > 1e-6
    assert smallest[0] > -1e-14


@pytest.mark.parametrize("method", [Jacobi(), GaussSeidel()])
def test_cg_of_lineax_takes_them_as_preconditioners(method: Any) -> None:
    problem = Poisson(Grid((12, 12)), 1.0, diffusion=lambda x, y: 1 + 50 * x)
    cg = lx.CG(rtol=1e-10, atol=1e-10 * float(abs(problem.rhs).max()))

    @jax.jit
    def run(a: jax.Array) -> Any:
        operator = EllipticOperator(problem.grid, a)
        options = {"preconditioner": as_preconditioner(method, operator)}
        solved = lx.linear_solve(operator, problem.rhs, cg, options=options)
        return jnp.sum(solved.value), solved

    a = 1 + 50 * problem.grid.coordinates()[0]
    slope, solved = jax.grad(run, has_aux=True)(a)
    expected = solve(problem).value
    np.testing.assert_allclose(solved.value, expected, rtol=1e-7)
    # Gradients go through the solve and not through the preconditioner: ∂Σu/∂a = −yᵀ(∂A)u, A y = 1.
    y = solve(Poisson(problem.grid, 1.0, diffusion=a)).value
    bump = jnp.zeros_like(a).at[5, 5].set(1e-5)
    dA = EllipticOperator(problem.grid, a + bump).mv(expected) - problem.operator.mv(expected)
    assert slope[5, 5] == pytest.approx(float(-jnp.sum(y * dA) / 1e-5), rel=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Jacobi(0.0), "damping: expected a number between 0 and 2, got 0.0"),
        (lambda: Jacobi(2), "damping: "),
        (lambda: Jacobi(np.nan), "damping: "),
        (lambda: Jacobi("half"), "damping: expected numbers"),
        (lambda: Jacobi([0.5, 0.6]), "damping: expected shape"),
        (lambda: GaussSeidel(0), "over_relaxation: expected a number between 0 and 2"),
        (lambda: GaussSeidel(2.0), "over_relaxation: "),
        (lambda: GaussSeidel(ordering="red"), "ordering: expected a member of Ordering"),
        (
            lambda: GaussSeidel().init(lx.MatrixLinearOperator(jnp.eye(2)), {}),
            "operator: GaussSeidel needs an EllipticOperator",
        ),
        (lambda: Chebyshev(0), "degree: expected a positive integer, got 0"),
        (lambda: Chebyshev(2.5), "degree: "),
        (lambda: Chebyshev(smallest=0.0), "smallest: expected a number between 0 and 1, got 0.0"),
        (lambda: Chebyshev(smallest=1), "smallest: "),
        (lambda: LineRelaxation(()), "axes: expected None, an axis or several"),
        (lambda: LineRelaxation(-1), "axes: .* got -1"),
        (lambda: LineRelaxation((0, 1.0)), "axes: "),
        (
            lambda: LineRelaxation((0, 2)).init(EllipticOperator(Grid((4, 4))), {}),
            r"axes: expected some of \(0, 1\), got \(0, 2\)",
        ),
        (
            lambda: LineRelaxation().init(lx.MatrixLinearOperator(jnp.eye(2)), {}),
            "operator: LineRelaxation needs an EllipticOperator",
        ),
        (
            lambda: as_preconditioner(Jacobi(), EllipticOperator(Grid(4)), steps=0),
            "steps: expected a positive integer",
        ),
    ],
)
def test_bad_arguments_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
