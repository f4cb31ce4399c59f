"""The gallery's solutions solve their equations, and the published one is the published one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers import ConjugateGradient, FastDiagonalization, gallery, solve


@pytest.mark.parametrize("name", gallery.CASES)
def test_the_exact_solution_satisfies_the_equation(name: str) -> None:
    problem, exact, _ = gallery.CASES[name](16)
    grid = problem.grid
    rng = np.random.default_rng(1)
    points = rng.uniform(grid.lower, grid.upper, (20, grid.ndim))

    def value(given: object, point: jax.Array) -> jax.Array:
        return given(*point) if callable(given) else jnp.asarray(given)

    def left(point: jax.Array) -> jax.Array:
        def flow(q: jax.Array) -> jax.Array:
            return value(problem.diffusion, q) * jax.grad(lambda r: exact(*r))(q)

        divergence = jnp.trace(jax.jacfwd(flow)(point))
        return -divergence + value(problem.reaction, point) * exact(*point)

    # Sources are up to 1e3, so that rounding is 1e-13 or so.
    source = jax.vmap(lambda point: value(problem.source, point))(points)
    np.testing.assert_allclose(jax.jit(jax.vmap(left))(points), source, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", gallery.CASES)
def test_the_discrete_solution_approaches_it_in_second_order(name: str) -> None:
    errors = []
    # As fine as the highest mode needs, and no larger than three dimensions bear.
    coarse = {"broad": 600, "rough": 2000, "cube": 16, "well": 24}.get(name, 48)
    for n in (coarse, 2 * coarse):
        case = gallery.CASES[name](n)
        is_constant = case.problem.operator.is_constant
        method = FastDiagonalization() if is_constant else ConjugateGradient(rtol=1e-10)
        u = solve(case.problem, method).value
        errors.append(float(jnp.max(jnp.abs(u - case.exact_values()))))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.15)


def test_the_published_solution_has_the_published_size() -> None:
    case = gallery.published(1000)
    (x,) = case.problem.grid.coordinates()
    u = case.exact(x)
    assert float(jnp.max(u)) == pytest.approx(0.5912, abs=5e-5)
    assert float(x[jnp.argmax(u)]) == pytest.approx(0.576, abs=1e-3)
    assert float(u[0]) == pytest.approx(0.0, abs=1e-15)
