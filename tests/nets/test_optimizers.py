"""Energy natural gradient, and optimisers in turn."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

from nets import MLP, GaussLegendre, RitzTraining, energy_natural_gradient, in_turn, ritz_energy
from nets.energies import RitzLoss
from nets.optimizers import has_stalled, judges_steps
from solvers import Boundary, Grid, Poisson, gallery, solve

D, N, P = Boundary.DIRICHLET, Boundary.NEUMANN, Boundary.PERIODIC


def polynomial(params: jax.Array, inputs: jax.Array) -> jax.Array:
    """Linear in its parameters, so that the energy is a quadratic in them."""
    x = inputs[:, 0]
    return sum((c * x**k for k, c in enumerate(params)), jnp.zeros_like(x))


def problem_of(quadrature: str) -> tuple[Poisson, Any]:
    """With all kinds of data, on points or on nodes."""
    if quadrature == "nodes":
        x = jnp.linspace(0, 1, 17)
        return Poisson(Grid(16, boundary=(D, N)), jnp.exp(x), reaction=x, flux=(0.0, 0.3)), None
    given = {"diffusion": lambda x: 1 + x, "reaction": 2.0, "boundary_values": 0.4}
    return Poisson(Grid(16), jnp.exp, **given), GaussLegendre(6)


def loss_of(quadrature: str) -> RitzLoss:
    problem, rule = problem_of(quadrature)
    return RitzLoss(ritz_energy(problem, quadrature=rule, dtype=jnp.float64), polynomial)


@pytest.mark.parametrize("quadrature", ["points", "nodes"])
def test_the_pieces_make_up_the_energy(quadrature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of quadratics JᵀHJ is the Hessian, Jᵀ(Hq − ℓ) the gradient, and differences are exact."""
    monkeypatch.setattr("nets.energies.BLOCK", 7)  # of 25 points
    loss, params = loss_of(quadrature), jnp.asarray([0.3, -0.2, 0.5])

    @jax.jit
    def pieces(params: jax.Array) -> Any:
        q, J = loss.features(params), loss.jacobian(params)
        HJ = jax.vmap(loss.energy.curvature, -1, -1)(J)
        slope = loss.energy.curvature(q) - loss.energy.loads
        other = loss.features(2 * params)
        return (
            loss.gauss_newton(params),
            loss.dual(params) - jnp.einsum("fnp,gmp->fngm", HJ, J).reshape(q.size, q.size),
            jnp.tensordot(J, slope, ((0, 1), (0, 1))),
            loss.energy.difference(other, q),
        )

    matrix, nothing, gradient, difference = pieces(params)
    np.testing.assert_allclose(nothing, 0, atol=1e-13)
    np.testing.assert_allclose(matrix, jax.hessian(loss)(params), rtol=1e-12)
    np.testing.assert_allclose(gradient, jax.grad(loss)(params), rtol=1e-11)
    np.testing.assert_allclose(difference, loss(2 * params) - loss(params), rtol=1e-11)


@pytest.mark.parametrize("count", [4, 60])
@pytest.mark.parametrize("quadrature", ["points", "nodes"])
def test_a_step_solves_the_damped_system(quadrature: str, count: int) -> None:
    """Of 60 parameters, more than numbers in q, by the system of the latter's size."""
    loss, damping = loss_of(quadrature), 1e-3
    optimizer = energy_natural_gradient(damping)
    assert (np.prod(loss.energy.loads.shape) < count) == (count == 60)
    params = jnp.asarray(np.random.default_rng(0).normal(size=count) / (1 + np.arange(count)))

    @jax.jit
    def step(params: jax.Array) -> Any:
        change, state = optimizer.update(params, optimizer.init(params), params, value_fn=loss)
        return change, state, jax.hessian(loss)(params), jax.grad(loss)(params)

    change, state, matrix, gradient = step(params)
    damped = matrix + damping * np.trace(matrix) / count * np.eye(count)
    np.testing.assert_allclose(change, -np.linalg.solve(damped, gradient), rtol=1e-7, atol=1e-9)
    # The energy is a quadratic in these parameters, so that the prediction is near the truth.
    np.testing.assert_allclose(state.damping, damping / 3, rtol=1e-2)


def test_a_step_follows_a_bending_path_to_second_order() -> None:
    """With θ + θ³ for the parameters of a quadratic energy, half the way is an eighth the error."""
    straight, optimizer = loss_of("points"), energy_natural_gradient(1e-9)
    bent = RitzLoss(straight.energy, lambda params, x: polynomial(params + params**3, x))

    @jax.jit
    def error(distance: jax.Array) -> jax.Array:
        zero = jnp.zeros(3)
        best = -jnp.linalg.solve(jax.hessian(straight)(zero), jax.grad(straight)(zero))
        least = best
        for _ in range(10):  # Newton's method for θ + θ³ = best
            least -= (least + least**3 - best) / (1 + 3 * least**2)
        params = least + distance
        change, _ = optimizer.update(params, optimizer.init(params), params, value_fn=bent)
        return jnp.linalg.norm(params + change - least)

    far, near = error(jnp.asarray(0.04)), error(jnp.asarray(0.02))
    assert 7 < far / near < 9


def test_a_quadratic_energy_is_least_after_a_few_steps() -> None:
    loss, optimizer = loss_of("points"), energy_natural_gradient()

    @jax.jit
    def step(params: jax.Array, state: Any) -> Any:
        change, state = optimizer.update(params, state, params, value_fn=loss)
        return optax.apply_updates(params, change), state

    params = jnp.zeros(6)
    state, first = optimizer.init(params), jnp.linalg.norm(jax.grad(loss)(params))
    for _ in range(20):
        params, state = step(params, state)
    assert jnp.linalg.norm(jax.grad(loss)(params)) < 1e-10 * first


def network(width: int, seed: int, dtype: str = "float64") -> MLP:
    return MLP(1, (width,), frequency=15.0, dtype=dtype, rngs=nnx.Rngs(seed))


def error(training: RitzTraining, case: gallery.Case) -> tuple[int, float]:
    """Steps taken, and the maximum error relative to max|u| at the end; never fooled."""
    *_, snapshot = training
    assert snapshot.state.refinements == 0
    field, u = snapshot.evaluate(case.problem.grid), case.exact(*case.problem.grid.coordinates())
    return snapshot.step, float(jnp.max(jnp.abs(field - u)) / jnp.max(jnp.abs(u)))


def test_it_finds_the_published_solution() -> None:
    case = gallery.published(500)
    training = RitzTraining(
        case.problem,
        network(64, 0),
        optimizer=energy_natural_gradient(),
        quadrature=GaussLegendre(128),
        every=25,
        max_steps=100,
    )
    assert error(training, case)[1] < 1e-4
    # Each step lowers the energy, or is none.
    assert np.max(np.diff(training.energies)) < 1e-12


def test_in_single_precision_it_ends_when_rounding_is_met() -> None:
    case = gallery.published(500)
    training = RitzTraining(
        case.problem,
        network(32, 0, "float32"),
        optimizer=energy_natural_gradient(),
        quadrature=GaussLegendre(128),
        every=50,
        max_steps=5000,
    )
    steps, found = error(training, case)
    assert steps < 5000
    assert found < 1e-2


def test_a_stall_is_found_within_chains() -> None:
    state = energy_natural_gradient().init(jnp.zeros(2))
    assert not has_stalled(state)
    over = state._replace(has_stalled=jnp.ones((), bool))
    assert has_stalled((optax.EmptyState(), over))
    assert not has_stalled(optax.adam(1e-3).init(jnp.zeros(2)))


def trained(optimizer: Any, **options: Any) -> RitzTraining:
    return RitzTraining(
        problem_of("nodes")[0], network(4, 0), optimizer=optimizer, every=1, **options
    )


def test_a_stall_of_the_first_in_turn_begins_the_second() -> None:
    """It ended the training."""
    model = MLP(1, (8,), dtype="float64", rngs=nnx.Rngs(0))

    def last_of(optimizer: Any) -> Any:
        *_, last = RitzTraining(
            Poisson(Grid(32), 1.0), model, optimizer=optimizer, every=10, max_steps=200
        )
        return last

    assert last_of(energy_natural_gradient()).step < 200
    last = last_of(in_turn(energy_natural_gradient(), optax.sgd(1e-3), steps=200))
    assert last.step == 200
    assert not last.state.optimizer.was_first


def test_a_drop_is_known_of_the_latest_step_only() -> None:
    two = in_turn(energy_natural_gradient(), energy_natural_gradient(1e-2), steps=3)
    training = trained(two, max_steps=6)
    drops = [snapshot.energy_drop for snapshot in training]
    energies = np.array(training.energies)
    np.testing.assert_allclose(drops[1:-1], energies[:-1] - energies[1:], rtol=1e-6)
    # What others make of its steps is another one.
    halved = optax.chain(energy_natural_gradient(), optax.scale(0.5))
    assert [snapshot.energy_drop for snapshot in trained(halved, max_steps=2)] == [None] * 3
    plain = trained(energy_natural_gradient())
    assert plain.cool_down(next(iter(plain)), 3).energy_drop is None


TURNS = in_turn(optax.adam(1e-2), energy_natural_gradient(), steps=30)


@pytest.mark.parametrize(
    ("optimizer", "judges", "least", "every"),
    [
        (optax.adam(1e-3), False, 250, 50),
        (optax.chain(optax.clip(1.0), energy_natural_gradient()), True, 3, 1),
        (TURNS, True, 33, 1),
        (in_turn(energy_natural_gradient(), optax.adam(1e-3), steps=30), False, 250, 50),
        (in_turn(optax.sgd(1e-2), TURNS, steps=10), True, 43, 1),
    ],
    ids=["adam", "natural gradient", "last", "first", "last of three"],
)
def test_a_scheduler_is_told_what_to_expect(
    optimizer: Any, judges: bool, least: int, every: int
) -> None:
    assert judges_steps(optimizer.init(jnp.zeros(2))) == judges
    training = RitzTraining(problem_of("nodes")[0], network(4, 0), optimizer=optimizer)
    found = training.least_steps, training.has_noise, training.every
    assert found == (least, not judges, every)


def test_a_snapshot_says_what_its_last_step_took_from_the_energy() -> None:
    optimizer = in_turn(optax.adam(1e-2), energy_natural_gradient(), steps=2)
    training = RitzTraining(problem_of("nodes")[0], network(4, 0), optimizer=optimizer, max_steps=6)
    drops = [snapshot.energy_drop for snapshot in training]
    energies = np.array(training.energies)
    assert drops[:3] == [None] * 3
    np.testing.assert_allclose(drops[3:-1], (energies[:-1] - energies[1:])[2:], rtol=1e-6)


def test_optimisers_take_turns() -> None:
    """Each has a state of its own, and starts when it is its turn."""
    optimizer = in_turn(optax.sgd(0.5), optax.sgd(0.1, momentum=0.9), steps=2)
    params = jnp.ones(2)
    state = optimizer.init(params)
    taken = []
    for _ in range(4):
        change, state = optimizer.update(jnp.ones(2), state, params)
        taken.append(float(change[0]))
    np.testing.assert_allclose(taken, [-0.5, -0.5, -0.1, -0.19], rtol=1e-12)


def test_natural_gradient_after_adam_in_a_training() -> None:
    problem = Poisson(Grid((16, 16), boundary=((D, D), (P, P))), 1.0)
    model = MLP(3, (8,), dtype="float64", rngs=nnx.Rngs(1))
    optimizer = in_turn(optax.adam(1e-2), energy_natural_gradient(), steps=10)
    training = RitzTraining(problem, model, optimizer=optimizer, every=10, max_steps=20)
    *_, snapshot = training
    exact = solve(problem).field
    by_adam, by_both = training.energies[10], training.energies[-1]
    assert by_both < by_adam
    assert float(jnp.max(jnp.abs(snapshot.evaluate(problem.grid) - exact))) < 1e-3
    assert ravel_pytree(snapshot.state.params)[0].dtype == jnp.float64


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="damping: expected above 0, at most 1e"):
        energy_natural_gradient(0.0)
    with pytest.raises(ValueError, match="trials: expected a positive integer"):
        energy_natural_gradient(trials=0)
    with pytest.raises(ValueError, match="steps: expected a positive integer"):
        in_turn(optax.sgd(1.0), optax.sgd(1.0), steps=0)
    optimizer = energy_natural_gradient()
    with pytest.raises(ValueError, match=r"params: .* needs float32 or float64, got bfloat16"):
        optimizer.init(jnp.ones(2, jnp.bfloat16))
    with pytest.raises(ValueError, match="value_fn: the natural gradient needs a RitzLoss"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)), jnp.ones(2), value_fn=jnp.sum)
