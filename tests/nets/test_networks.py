"""Networks: shapes, the ways to draw their parameters, what they refuse."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from nets import MLP, FourierMLP, MultiscaleMLP, RitzTraining
from nets.networks import split_network
from solvers import Grid, Poisson


def parameters(network: nnx.Module) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(split_network(network)[1])]


@pytest.mark.parametrize("inputs", [1, 3])
def test_maps_points_to_one_number_each(inputs: int) -> None:
    network = MLP(inputs, (8, 4), rngs=nnx.Rngs(0))
    x = jax.random.uniform(jax.random.key(0), (7, inputs))
    first, second, last = ((p.kernel[...], p.bias[...]) for p in network.layers)
    h = np.tanh(x @ first[0] + first[1][None, :])
    h = np.tanh(h @ second[0] + second[1][None, :])
    expected = (h @ last[0] + last[1][None, :])[:, 0]
    # Both sum the same 8 numbers of order 1 in single precision.
    np.testing.assert_allclose(network(x), expected, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"frequency": 10.0}, {"deviation": 0.02}])
def test_parameters_are_single_precision_under_x64(options: dict) -> None:
    network = MLP(2, (8, 8), rngs=nnx.Rngs(0), **options)
    assert {p.dtype for p in parameters(network)} == {np.dtype("float32")}
    assert network(jnp.zeros((3, 2), jnp.float32)).dtype == np.float32


def test_frequency_scales_and_spreads_the_first_layer_only() -> None:
    network = MLP(1, (20_000, 4), frequency=10.0, rngs=nnx.Rngs(1))
    weights, biases = (
        np.asarray(p[...]) for p in (network.layers[0].kernel, network.layers[0].bias)
    )
    centres = -biases / weights[0]
    # 20 000 draws: the relative error of a deviation is 1/√(2·20000) = 0.5 %, six of them are 3 %.
    assert np.std(weights) == pytest.approx(10.0, rel=0.03)
    assert np.abs(centres).max() <= 1 + 1e-5
    assert np.var(centres) == pytest.approx(1 / 3, rel=0.03)
    plain = MLP(1, (20_000, 4), rngs=nnx.Rngs(1))
    np.testing.assert_array_equal(network.layers[1].kernel[...], plain.layers[1].kernel[...])


def test_deviation_draws_everything_alike() -> None:
    network = MLP(1, (200, 200), deviation=0.02, rngs=nnx.Rngs(2))
    assert np.std(network.layers[1].kernel[...]) == pytest.approx(0.02, rel=0.03)
    assert np.std(network.layers[1].bias[...]) == pytest.approx(0.02, rel=0.3)  # 200 draws: 6 × 5 %
    assert np.abs(np.asarray(network.layers[0].bias[...])).min() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": 0}, "inputs: expected a positive integer, got 0"),
        ({"widths": ()}, "widths: expected at least one"),
        ({"widths": 8}, "widths: expected a sequence"),
        ({"activation": "tanh"}, "activation: expected a function"),
        ({"widths": (8, 2.5)}, "widths: expected a positive integer, got 2.5"),
        ({"frequency": -1.0}, "frequency: expected a positive number, got -1.0"),
        ({"deviation": float("nan")}, "deviation: expected a positive number, got nan"),
        ({"frequency": 1.0, "deviation": 1.0}, "at most one"),
    ],
)
def test_refuses(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLP(**({"inputs": 1, "rngs": nnx.Rngs(0)} | arguments))


def test_refuses_points_of_another_dimension() -> None:
    with pytest.raises(ValueError, match=r"points: expected shape \(N, 2\), got \(5, 1\)"):
        MLP(2, rngs=nnx.Rngs(0))(jnp.zeros((5, 1)))


def test_refuses_parameters_of_two_kinds() -> None:
    network = MLP(1, (4,), rngs=nnx.Rngs(0))
    network.layers[0].bias.set_value(jnp.zeros(4, jnp.float64))
    with pytest.raises(ValueError, match="model: expected parameters of one floating-point type"):
        split_network(network)


def test_fourier_features_are_fixed_and_in_order() -> None:
    network = FourierMLP(2, [[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]], widths=(5,), rngs=nnx.Rngs(0))
    x = jax.random.uniform(jax.random.key(1), (4, 2))
    angles = x @ jnp.asarray([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]], x.dtype)
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], 1)
    np.testing.assert_allclose(network(x), network.perceptron(waves), atol=1e-6)
    # Six waves to five neurons to one number; B is none of the parameters.
    assert sum(p.size for p in parameters(network)) == 6 * 5 + 5 + 5 + 1


def test_random_features_have_the_deviation_asked_for() -> None:
    network = FourierMLP(1, 7.0, features=20_000, widths=(2,), rngs=nnx.Rngs(3))
    assert np.std(network.frequencies[...]) == pytest.approx(7.0, rel=0.03)


def test_the_parts_of_a_multiscale_network_see_the_box_stretched() -> None:
    network = MultiscaleMLP(1, (1, 4), widths=(6,), rngs=nnx.Rngs(0))
    x = jnp.linspace(-1, 1, 9, dtype=jnp.float32)[:, None]
    expected = network.parts[0](x) + network.parts[1](4 * x)
    np.testing.assert_allclose(network(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    "network",
    [
        MLP(2, (6, 4), rngs=nnx.Rngs(0)),
        FourierMLP(2, 3.0, features=5, widths=(6,), rngs=nnx.Rngs(0)),
        MultiscaleMLP(2, (1, 2), widths=(5,), rngs=nnx.Rngs(0)),
    ],
    ids=["MLP", "FourierMLP", "MultiscaleMLP"],
)
def test_the_output_is_linear_in_the_features_and_nonlinear_in_the_points(
    network: MLP | FourierMLP | MultiscaleMLP,
) -> None:
    x = jax.random.uniform(jax.random.key(2), (40, 2), minval=-1.0)
    features = jnp.concatenate([network.features(x), jnp.ones((40, 1), jnp.float32)], 1)
    values = np.asarray(network(x))
    fit = features @ jnp.linalg.lstsq(features, jnp.asarray(values))[0]
    np.testing.assert_allclose(fit, values, atol=1e-4 * abs(values).max())
    assert np.linalg.matrix_rank(np.asarray(features, float), tol=1e-5) > 4


@pytest.mark.parametrize("kind", ["fourier", "multiscale"])
def test_they_train(kind: str) -> None:
    if kind == "fourier":
        model: nnx.Module = FourierMLP(1, 6.0, features=8, widths=(16,), rngs=nnx.Rngs(0))
    else:
        model = MultiscaleMLP(1, (1, 4), widths=(16,), rngs=nnx.Rngs(0))
    problem = Poisson(Grid(64), 1.0)
    training = RitzTraining(problem, model, optimizer=optax.adam(1e-2), max_steps=200, every=100)
    *_, last = training
    assert training.energies[-1] < 0.8 * -1 / 24  # the least is −1/24, that of u = x(1 − x)/2
    assert last.evaluate(problem.grid).dtype == np.float64


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda r: FourierMLP(1, -1.0, rngs=r), "frequencies: expected a positive number"),
        (lambda r: FourierMLP(2, [[1.0]], rngs=r), r"frequencies: expected a number, or an array"),
        (lambda r: FourierMLP(1, [[1.0]], features=3, rngs=r), "without features="),
        (lambda r: MultiscaleMLP(1, (), rngs=r), "scales: expected at least one"),
        (lambda r: MultiscaleMLP(1, (1.0, 0.0), rngs=r), "scales: expected a positive number"),
    ],
)
def test_bad_sizes_and_scales_are_named(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(nnx.Rngs(0))


def test_outputs_have_an_axis_of_their_own_where_they_are_given() -> None:
    x = jnp.ones((3, 2), jnp.float32)
    network = MLP(2, (6,), outputs=4, rngs=nnx.Rngs(0))
    layer = network.layers[1]
    expected = network.features(x) @ layer.kernel[...] + layer.bias[...][None, :]
    np.testing.assert_allclose(network(x), expected, atol=1e-6)
    assert MLP(2, (6,), outputs=1, rngs=nnx.Rngs(0))(x).shape == (3, 1)
    with pytest.raises(ValueError, match="outputs: expected a positive integer, got 0"):
        MLP(2, (6,), outputs=0, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"model: expected to map \(3, 1\) to \(3,\)"):
        RitzTraining(Poisson(Grid(8), 1.0), MLP(1, (6,), outputs=4, rngs=nnx.Rngs(0)))
