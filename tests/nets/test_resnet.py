"""The ResNet18 variants: layers and sizes as published, any image, what is off in evaluation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nets.resnet import ResidualBlock, ResNet18, average_pool


def built(variant: int, image: Any = (16, 16, 1), **options: Any) -> ResNet18:
    options = {"width": 4, "hidden": (6, 5), "rngs": nnx.Rngs(0)} | options
    return ResNet18(variant, image, **options)


def shapes(variant: int, image: Any = (32, 32, 3)) -> Any:
    """The full-size network without its memory."""
    return nnx.eval_shape(lambda: ResNet18(variant, image, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    ("variant", "channels", "flat", "small_flat"),
    [
        (1, [64, 64, 128, 128, 256, 256], 2 * 2 * 256, 2 * 2 * 256),
        (2, [64, 128], 4 * 4 * 128, 4 * 4 * 128),
        (3, [64], 8 * 8 * 64, 7 * 7 * 64),
        (4, [], 8 * 8 * 64, 7 * 7 * 64),
    ],
)
def test_the_variants_are_those_published(
    variant: int, channels: list[int], flat: int, small_flat: int
) -> None:
    network = shapes(variant)
    assert network.stem.conv.kernel.shape == (3, 3, 3, 64)
    assert [block.second.conv.kernel.shape[-1] for block in network.blocks] == channels
    assert [layer.kernel.shape for layer in network.hidden] == [(flat, 1024), (1024, 1024)]
    assert network.output.kernel.shape == (1024, 10)
    assert network.dropout.rate == 0.1
    assert shapes(variant, (28, 28, 1)).hidden[0].kernel.shape[0] == small_flat


@pytest.mark.parametrize("variant", [1, 4])
@pytest.mark.parametrize("image", [(16, 16, 1), (19, 23, 2)])
def test_takes_images_of_any_size(variant: int, image: tuple[int, ...]) -> None:
    network = built(variant, image, classes=3)
    network.eval()
    x = jax.random.uniform(jax.random.key(0), (2, *image), jnp.float32)
    outputs = nnx.jit(lambda n, x: n(x))(network, x)
    assert outputs.shape == (2, 3)
    assert outputs.dtype == np.float32  # under x64
    assert network.features(x).shape == (2, 5)
    # Each image goes its own way; on a GPU convolutions would else be rounded to ten bits.
    with jax.default_matmul_precision("highest"):
        np.testing.assert_allclose(network(x)[1:], network(x[1:]), atol=1e-5)


@pytest.mark.parametrize("side", [8, 7, 9])
def test_the_pool_takes_means_of_the_pixels_there_are(side: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, side, 8, 3))
    pooled = average_pool(jnp.asarray(x), 4)
    rows = [slice(i, i + 4) for i in range(0, side, 4)]
    expected = [[x[:, r, c].mean((1, 2)) for c in (slice(0, 4), slice(4, 8))] for r in rows]
    np.testing.assert_allclose(pooled, np.transpose(expected, (2, 0, 1, 3)), atol=1e-12)


def test_a_block_adds_to_its_input() -> None:
    block = ResidualBlock(3, 3, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
    assert block.shortcut is None
    block.second.norm.scale.set_value(jnp.zeros(3, jnp.float32))  # F = 0
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 3), jnp.float32)
    np.testing.assert_allclose(block(x), nnx.relu(x), atol=1e-6)
    wider = ResidualBlock(3, 6, stride=2, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
    assert wider(x).shape == (1, 3, 3, 6)
    assert wider.shortcut is not None


def test_dropout_and_batch_statistics_end_in_evaluation() -> None:
    network = built(4, dropout=0.5)
    x = jax.random.uniform(jax.random.key(0), (4, 16, 16, 1), jnp.float32)
    before = np.asarray(network.stem.norm.mean[...])
    assert np.any(network(x) != network(x))
    assert np.any(network.stem.norm.mean[...] != before)
    network.eval()
    after = np.asarray(network.stem.norm.mean[...])
    np.testing.assert_array_equal(network(x), network(x))
    np.testing.assert_array_equal(network.stem.norm.mean[...], after)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": 5}, "variant: expected one of 1, 2, 3, 4, got 5"),
        ({"image": (28, 28)}, r"image: expected \(height, width, channels\)"),
        ({"image": (28, 12, 1)}, "image: .*sides of 16 or more"),
        ({"image": (28, 28, 0)}, "image: expected a positive integer"),
        ({"width": 0}, "width: expected a positive integer"),
        ({"hidden": (0,)}, "hidden: expected a positive integer"),
        ({"classes": -1}, "classes: expected a positive integer"),
        ({"dropout": 1.0}, r"dropout: expected a share in \[0, 1\), got 1.0"),
    ],
)
def test_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(**({"variant": 4} | arguments))


def test_refuses_images_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"images: expected shape \(N, 16, 16, 1\), got \(2, 16"):
        built(4)(jnp.zeros((2, 16, 16)))
