"""Systems with dominant diagonals, in blocks of any width, against plain elimination."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers import tridiagonal
from solvers.dominant import DominantSystems

SHAPES = [((1,), 0), ((8,), 0), ((5, 3), 0), ((5, 3), 1), ((2, 7, 3), 1), ((2, 3, 7), 2)]


def random(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(shape).uniform(0.1, 1.0, shape))


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("width", [1, 3, 8])
def test_it_agrees_with_elimination(shape: tuple[int, ...], axis: int, width: int) -> None:
    lower, excess, upper, rhs = -random(*shape), random(*shape), -2 * random(*shape), random(*shape)
    share = 1 + random(*[n if d == axis else 1 for d, n in enumerate(shape)])
    systems = DominantSystems(lower, excess, share, upper, axis)
    found = jax.jit(lambda r: systems.solve(r, width=min(width, shape[axis])))(rhs)
    diagonal = share * excess - lower - upper
    plain = tridiagonal.factor(lower, diagonal, upper, axis).solve(rhs)
    np.testing.assert_allclose(found, plain, rtol=1e-12)


def test_what_is_done_before_and_after_is_done_once_to_every_row() -> None:
    lower, excess = -random(7, 1), random(1, 4)
    systems = DominantSystems(lower, excess, random(7, 1), lower, axis=0)
    r = random(7, 4)
    found = systems.solve(r, width=3, before=lambda b: 3 * b[:, ::-1], after=lambda x: x[:, ::-1])
    np.testing.assert_allclose(found, systems.solve(3 * r[:, ::-1], width=7)[:, ::-1], rtol=1e-13)


def test_an_excess_far_below_rounding_is_not_lost() -> None:
    """Between Neumann sides x is Σr/Σe to first order; beside 1, e = 1e-18 would be nothing."""
    lower, upper = (jnp.asarray(-1.0 * (np.arange(50) != end)) for end in (0, 49))
    systems = DominantSystems(lower, jnp.full(50, 1e-18), jnp.ones(1), upper, axis=0)
    r = random(50)
    np.testing.assert_allclose(systems.solve(r, width=20), r.mean() / 1e-18, rtol=1e-13)


def test_a_pinned_constant_mode_is_zero_in_its_last_row() -> None:
    lower, upper = (jnp.asarray(-1.0 * (np.arange(4) != end)) for end in (0, 3))
    systems = DominantSystems(lower, jnp.zeros(1), jnp.ones(1), upper, 0, is_pinned=True)
    x = systems.solve(jnp.asarray([1.0, 0.0, 0.0, -1.0]), width=4)
    np.testing.assert_allclose(x, [3.0, 2.0, 1.0, 0.0], rtol=1e-14)
