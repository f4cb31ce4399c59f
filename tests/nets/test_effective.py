"""Outputs of layers, taken from models that do not know about it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nets import MLP, layer_outputs, scaled_coordinates
from nets.effective import _outputs


class Inherits(nnx.Linear):
    """A layer with no __call__ of its own."""


class Pair(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.inner = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.inner(x), x


class Model(nnx.Module):
    """A bit of everything: lists, a tuple, a sequence, layers used twice or never."""

    def __init__(self, rngs: nnx.Rngs):
        self.convs = nnx.List(
            [nnx.Conv(1, 3, (3, 3), rngs=rngs), nnx.Conv(3, 2, (3, 3), rngs=rngs)]
        )
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.dense = nnx.data((Inherits(50, 4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)))
        self.pair = Pair(rngs)
        self.twice = nnx.Linear(4, 4, rngs=rngs)
        self.unused = nnx.Linear(4, 4, rngs=rngs)
        self.head = nnx.Sequential(
            nnx.Linear(4, 3, rngs=rngs), jnp.tanh, nnx.Linear(3, 2, rngs=rngs)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for conv in self.convs:
            x = jax.nn.relu(conv(x))
        x = self.norm(x).reshape(len(x), -1)
        for layer in self.dense:
            x = layer(x)
        x, _ = self.pair(self.twice(self.twice(x)))
        return self.head(x)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(nnx.Rngs(0))


INPUTS = np.random.default_rng(0).standard_normal((7, 5, 5, 1)).astype("float32")


def by_hand(model: Model) -> dict[str, jax.Array]:
    """Each layer's output, step by step, in evaluation mode."""
    found = {"convs.0": model.convs[0](INPUTS)}
    found["convs.1"] = model.convs[1](jax.nn.relu(found["convs.0"]))
    found["norm"] = model.norm(jax.nn.relu(found["convs.1"]), use_running_average=True)
    found["dense.0"] = found["dense.1"] = model.dense[0](found["norm"].reshape(7, -1))
    found["pair.inner"] = model.pair.inner(model.twice(model.twice(found["dense.0"])))
    found["head.layers.0"] = model.head.layers[0](found["pair.inner"])
    found["head.layers.2"] = model.head.layers[2](jnp.tanh(found["head.layers.0"]))
    found["head"] = found[""] = found["head.layers.2"]
    return {path: output.reshape(7, -1) for path, output in found.items()}


@pytest.mark.parametrize("batch", [3, 7, 512])
def test_outputs_are_those_of_the_layers(model: Model, batch: int) -> None:
    for path, expected in by_hand(model).items():
        found = layer_outputs(model, path, INPUTS, batch=batch)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=path)


def test_a_path_may_be_a_tuple(model: Model) -> None:
    expected = layer_outputs(model, "head.layers.0", INPUTS)
    np.testing.assert_array_equal(layer_outputs(model, ("head", "layers", 0), INPUTS), expected)


def test_the_model_is_untouched(model: Model) -> None:
    def everything() -> tuple[Any, list[Any], list[type]]:
        graph, state = nnx.split(model)
        leaves = [
            jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a
            for a in map(jnp.asarray, jax.tree.leaves(state))
        ]
        return graph, leaves, [type(m) for _, m in nnx.iter_modules(model)]

    model.train()
    before = everything()
    layer_outputs(model, "dense.1", INPUTS, batch=3)
    after = everything()
    assert before[0] == after[0]  # with it that dropout is on
    assert before[2] == after[2]
    for one, other in zip(before[1], after[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_compiles_once_for_a_layer_and_batch() -> None:
    model = MLP(2, (4, 4), rngs=nnx.Rngs(0))
    layer_outputs(model, "layers.1", np.zeros((10, 2)), batch=4)
    compiled = _outputs._cache_size()
    model.layers[0].kernel[...] = model.layers[0].kernel[...] + 1  # another step of a training
    layer_outputs(model, "layers.1", np.zeros((11, 2)), batch=4)
    assert _outputs._cache_size() == compiled


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "convs.2",
            r"path: there is no layer 'convs\.2'; expected one of convs\.0, convs\.1, dense",
        ),
        (("head", 1), r"path: there is no layer 'head\.1'"),
        ("convs", "path: there is no layer 'convs'"),  # a list, which cannot be called
        ("twice", "path: expected a layer that the model calls once, 'twice' is called 2 times"),
        ("unused", "'unused' is called 0 times"),
        ("pair", "path: expected a layer that returns an array with 7 rows"),
    ],
)
def test_wrong_layers_are_refused(model: Model, path: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer_outputs(model, path, INPUTS)


def test_wrong_input_is_refused(model: Model) -> None:
    with pytest.raises(ValueError, match=r"inputs: expected shape \(N, …\)"):
        layer_outputs(model, "head", np.zeros((0, 5, 5, 1)))
    with pytest.raises(ValueError, match="batch: expected a positive integer"):
        layer_outputs(model, "head", INPUTS, batch=0)
    with pytest.raises(ValueError, match="x: expected shape"):
        scaled_coordinates(np.ones(3))


def test_scaled_coordinates() -> None:
    x = np.random.default_rng(1).standard_normal((40, 3)) * [1, 100, 1e-6] + 7
    scaled = np.asarray(scaled_coordinates(x))
    expected = (x - x.mean(0)) / np.max(np.abs(x - x.mean(0)), 0)
    np.testing.assert_allclose(scaled, expected, atol=1e-9)
    constant = np.full((7, 2), 0.1)  # the mean of seven of them is not 0.1
    np.testing.assert_array_equal(scaled_coordinates(constant), 0 * constant)
