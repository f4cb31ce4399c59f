"""A network's output and features go to a solver."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nets import MLP, RitzTraining
from solvers import (
    FixedHandoff,
    Galerkin,
    Grid,
    Guess,
    Hybrid,
    Jacobi,
    Poisson,
    ScaledGuess,
    solve,
)
from solvers.hybrid.handover import Handover


@pytest.mark.parametrize(
    "handover", [Guess(), ScaledGuess(), Galerkin()], ids=lambda h: type(h).__name__
)
def test_a_training_is_handed_over_in_each_way(handover: Handover) -> None:
    problem = Poisson(Grid(48), lambda x: jnp.exp(x))
    model = MLP(1, (12,), rngs=nnx.Rngs(0))
    training = RitzTraining(problem, model, every=20, max_steps=40)
    hybrid = Hybrid(Jacobi(rtol=1e-6), FixedHandoff(20), handover=handover)
    found = hybrid.solve(problem, training)
    *_, last = training
    np.testing.assert_allclose(found.solution.field, solve(problem).field, atol=1e-4)
    assert last.features is not None
    fields = last.features(problem.grid)
    assert fields.shape == (12, 49)
    np.testing.assert_array_equal(fields[:, [0, -1]], 0)
    # u = G + d·N, and N is linear in the features: the field is d·(a + Σ c φ).
    basis = jnp.concatenate([fields, (4 * jnp.linspace(0, 1, 49) * jnp.linspace(1, 0, 49))[None]])
    u = last.evaluate(problem.grid)
    fit = basis.T @ jnp.linalg.lstsq(basis.T, u)[0]
    np.testing.assert_allclose(fit, u, atol=1e-6)
