"""The ResNet18 family with fewer and fewer blocks, which shows what convolutions do for depth."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from solvers.arguments import as_count

# Blocks of each stage by the number of the variant; each stage has twice the channels of the last.
STAGES = {1: (2, 2, 2), 2: (1, 1), 3: (1,), 4: ()}
POOL = 4
# All halvings of the deepest variant leave a whole window of the pool.
LEAST_SIDE = 16


class ResNet18(nnx.Module):
    """ResNet18 without its last stage, and with fewer blocks still: variants −1 to −4.

    Images go through a stem, stages of residual blocks, dropout, an average pool 4×4, hidden dense
    layers and a linear output. The variants are, with w = 64 channels,

        −1: stages w, w | 2w, 2w | 4w, 4w      −2: w | 2w      −3: w      −4: none

    where each stage after the first halves the image. Departures from the sources:

    1. every convolution is followed by a batch normalisation and has no bias, as in He et al.; Xu
       and Zhou print nothing about it;
    2. hidden dense layers end in ReLU, which they do not print either;
    3. sides that are not multiples of the pool's window keep their remainder, as a window of fewer
       pixels and its mean: a side n becomes ⌈n/4⌉, with no pixel dropped and none made up. With
       28×28 the variant −1 pools 7×7 to 2×2, with 32×32 as published 8×8 to 2×2.

    `stem`, `blocks[i]`, `hidden[i]` and `output` are its layers, by these paths; what a hidden
    layer itself gives is before its ReLU. A new network is in training mode, as ever in flax:
    `network.eval()` ends dropout and batch statistics.

    Args:
        variant: 1 to 4, how much is left out.
        image: height, width and channels of an image, each side 16 or more.
        classes: numbers that come out for an image.
        width: w, channels of the stem.
        hidden: neurons of each hidden dense layer, the part that Xu and Zhou study.
        dropout: share of values that is dropped before the pool; 0 for none.
        dtype: precision of the parameters.
        rngs: `nnx.Rngs(seed)`, of parameters and of dropout.

    Raises:
        ValueError: if there is no such variant, a size is not positive or too small, or the dropout
            is not in [0, 1).

    Cost: 2·9·w² floating-point operations a pixel for a w-channel convolution. An image of 28×28
        with w = 64 takes 590 MFLOP in the variant −1, and 200, 120 and 10 in the others.

    Reference: Xu, Zhou 2021, "Deep frequency principle towards understanding why deeper learning is
        faster", AAAI-21, arXiv 2007.14313 (the variants). He, Zhang, Ren, Sun 2016, "Deep residual
        learning for image recognition", CVPR, arXiv 1512.03385, section 3.3 (the blocks).

    Example:
        >>> network = ResNet18(2, (28, 28, 1), width=4, hidden=(8,), rngs=nnx.Rngs(0))
        >>> network.eval()
        >>> network(jnp.zeros((5, 28, 28, 1))).shape
        (5, 10)
    """

    def __init__(
        self,
        variant: int,
        image: Sequence[int] = (32, 32, 3),
        classes: int = 10,
        *,
        width: int = 64,
        hidden: Sequence[int] = (1024, 1024),
        dropout: float = 0.1,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if variant not in STAGES:
            raise ValueError(
                f"variant: expected one of {', '.join(map(str, STAGES))}, got {variant!r}"
            )
        self.image = _as_image(image)
        options = {"param_dtype": dtype, "rngs": rngs}
        channels = as_count("width", width)
        self.stem = _Normalized(self.image[2], channels, 3, 1, **options)
        blocks, sides = [], self.image[:2]
        for stage, count in enumerate(STAGES[variant]):
            for i in range(count):
                stride, after = 2 if stage and not i else 1, width * 2**stage
                blocks.append(ResidualBlock(channels, after, stride=stride, **options))
                channels, sides = after, tuple(-(-side // stride) for side in sides)
        self.blocks = nnx.List(blocks)
        self.dropout = nnx.Dropout(_as_rate(dropout), rngs=rngs)
        size = channels * int(np.prod([-(-side // POOL) for side in sides]))
        self.hidden = nnx.List([])
        for neurons in hidden:
            self.hidden.append(nnx.Linear(size, as_count("hidden", neurons), **options))
            size = neurons
        self.output = nnx.Linear(size, as_count("classes", classes), **options)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Numbers for each class, without softmax, shape (N, height, width, channels) to
        (N, classes)."""
        return self.output(self.features(images))

    def features(self, images: jax.Array) -> jax.Array:
        """Output of the last hidden layer, shape (N, height, width, channels) to (N, neurons)."""
        if images.ndim != 4 or images.shape[1:] != self.image:
            shape = ", ".join(map(str, self.image))
            raise ValueError(f"images: expected shape (N, {shape}), got {images.shape}")
        values = nnx.relu(self.stem(images))
        for block in self.blocks:
            values = block(values)
        values = average_pool(self.dropout(values), POOL)
        values = values.reshape(len(values), -1)
        for layer in self.hidden:
            values = nnx.relu(layer(values))
        return values


class ResidualBlock(nnx.Module):
    """Two convolutions beside a shortcut, y = relu(F(x) + x), F = norm∘conv∘relu∘norm∘conv.

    Where F changes the size, x goes through a 1×1 convolution with the same stride.

    Args:
        inputs, outputs: channels before and after.
        stride: of the first convolution.
        options: `param_dtype` and `rngs` of flax.

    Reference: He, Zhang, Ren, Sun 2016, arXiv 1512.03385, eqs. (1) and (2), option B.

    Example:
        >>> block = ResidualBlock(2, 4, stride=2, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
        >>> block(jnp.zeros((1, 8, 8, 2), jnp.float32)).shape
        (1, 4, 4, 4)
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, **options: Any):
        self.first = _Normalized(inputs, outputs, 3, stride, **options)
        self.second = _Normalized(outputs, outputs, 3, 1, **options)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else _Normalized(inputs, outputs, 1, stride, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Shape (N, height, width, inputs) to (N, ⌈height/stride⌉, ⌈width/stride⌉, outputs)."""
        values = self.second(nnx.relu(self.first(x)))
        return nnx.relu(values + (x if self.shortcut is None else self.shortcut(x)))


class _Normalized(nnx.Module):
    """A convolution without bias, then batch normalisation."""

    def __init__(self, inputs: int, outputs: int, window: int, stride: int, **options: Any):
        size = (window, window)
        self.conv = nnx.Conv(inputs, outputs, size, stride, use_bias=False, **options)
        self.norm = nnx.BatchNorm(outputs, momentum=0.9, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


def average_pool(images: jax.Array, window: int) -> jax.Array:
    """Means over windows side by side; those at the far edges may have fewer pixels.

    Args:
        images: shape (N, height, width, channels).
        window: pixels along each side.

    Returns:
        Shape (N, ⌈height/window⌉, ⌈width/window⌉, channels).

    Example:
        >>> average_pool(jnp.arange(5.0).reshape(1, 1, 5, 1), 2).ravel().tolist()
        [0.5, 2.5, 4.0]
    """
    number, *sides, channels = images.shape
    counts = [-(-side // window) for side in sides]
    extra = [(0, count * window - side) for side, count in zip(sides, counts, strict=True)]
    padded = jnp.pad(images, ((0, 0), *extra, (0, 0)))
    cells = padded.reshape(number, counts[0], window, counts[1], window, channels)
    pixels = [
        np.minimum(window, side - window * np.arange(count))
        for side, count in zip(sides, counts, strict=True)
    ]
    weights = (1 / np.multiply.outer(*pixels))[None, :, :, None]
    return cells.sum((2, 4)) * jnp.asarray(weights, images.dtype)


def _as_image(image: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(as_count("image", size) for size in image)
    if len(sizes) != 3 or min(sizes[:2]) < LEAST_SIDE:
        raise ValueError(
            f"image: expected (height, width, channels) with sides of {LEAST_SIDE} or more, "
            f"got {tuple(image)}; pad smaller images"
        )
    return sizes


def _as_rate(dropout: Any) -> float:
    rate = float(dropout) if isinstance(dropout, Real) else -1.0
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: expected a share in [0, 1), got {dropout!r}")
    return rate
