"""A photograph learned by a network of two coordinates, coarse to fine.

(x, y) → gray value, 75×60 pixels, every second column trained on and all of them looked at. Bands
are octaves of the radial frequency, by the cosine transform of the image, which is the Fourier
transform of its even extension: unlike the image itself that has no jump at the border.

Reference: the authors' public code for Xu, Zhang, Luo, Xiao, Ma 2019, arXiv 1901.06523.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure
from scipy.fft import dctn

from benchmarks.data import photograph
from benchmarks.frequency.experiment import Claim, Report, Settings, claims_of
from benchmarks.frequency.watching import (
    error_curves,
    fits,
    geometric_steps,
    is_rising,
    part_of,
    settling_table,
    watch,
)
from nets import MLP, Fit, FitSnapshot

NAME = "image"
TITLE = "a photograph, coarse to fine"
SHAPE = (75, 60)
# Of the bands, in cycles per pixel.
EDGES = (0, 1 / 64, 1 / 32, 1 / 16, 1 / 8)
NAMES = ("up to 1/64", "1/64 to 1/32", "1/32 to 1/16", "1/16 to 1/8")
# Of the energy spectrum. Above 1/4 every second column does not determine the image.
HIGHEST = 1 / 4
THRESHOLD = 0.5
RINGS = 24  # of the energy spectrum, up to the highest frequency
COLOURS = ("#0072B2", "#009E73", "#E69F00", "#D55E00")  # of Okabe and Ito
DASHES = ("-", "--", "-.", ":")


class Setting(NamedTuple):
    """A network and its training.

    Attributes:
        rate: Adam's, at the start.
        is_decayed: to 0 along a cosine; else Adam at a large rate throws the lowest band back now
            and then.
    """

    widths: tuple[int, ...]
    rate: float
    steps: int
    is_decayed: bool = False
    every: int = 10
    looks: int = 40


FULL = Setting(widths=(500, 400, 300, 200, 200, 100), rate=5e-5, steps=1_000_000, every=100)
QUICK = Setting(widths=(64, 64, 64, 64), rate=2e-3, steps=5000, is_decayed=True)


def run(settings: Settings, report: Report) -> dict[str, Any]:
    """Train a network a seed, and note the error of each band, and the image."""
    setting = FULL if settings.is_full else QUICK
    image = photograph(SHAPE)
    steps = geometric_steps(setting.every, setting.steps, setting.looks)
    look = partial(_look, image)
    notes = [
        watch(fit, look, part_of(report, seed, settings.seeds), steps=steps)
        for seed, fit in enumerate(_fits(setting, settings, image))
    ]
    runs = [error_curves(own, range(len(NAMES)), THRESHOLD) for own in notes]
    return {
        "setting": setting._asdict(),
        "threshold": THRESHOLD,
        "bands": EDGES,
        "runs": runs,
        "target": np.round(image, 4).tolist(),
        "frames": _frames(notes[0], runs[0]),
        "claims": claims(runs),
        "table": settling_table(
            f"First step from which on the error of a band is < {THRESHOLD:g}; cycles per pixel",
            NAMES,
            runs,
        ),
    }


def _points() -> np.ndarray:
    """Coordinates of all pixels, in [−1, 1], shape (rows, columns, 2)."""
    y, x = (np.linspace(-1, 1, n) for n in SHAPE)
    return np.stack(np.meshgrid(x, y), -1)


def _fits(setting: Setting, settings: Settings, image: np.ndarray) -> Iterator[Fit]:
    rate = optax.cosine_decay_schedule(setting.rate, setting.steps)
    return fits(
        settings,
        NAME,
        lambda rngs: MLP(2, setting.widths, rngs=rngs),
        (_points()[:, ::2].reshape(-1, 2), image[:, ::2].reshape(-1)),
        optimizer=optax.adam(rate if setting.is_decayed else setting.rate),
        every=setting.every,
        max_steps=setting.steps,
    )


def _look(image: np.ndarray, snapshot: FitSnapshot) -> dict[str, Any]:
    frame = np.asarray(snapshot.predict(_points().reshape(-1, 2)), float).reshape(SHAPE)
    return {"errors": band_errors(frame, image), "frame": np.round(frame, 4).tolist()}


def _waves(values: np.ndarray) -> np.ndarray:
    """Coefficients of the cosine transform, with Σ of their squares that of the values."""
    return np.asarray(dctn(values, norm="ortho"))


def radial_frequencies() -> np.ndarray:
    """Cycles per pixel of each coefficient of the cosine transform, shape (rows, columns)."""
    down, right = (np.arange(n) / (2 * n) for n in SHAPE)
    return np.hypot(down[:, None], right[None, :])


def band_errors(frame: np.ndarray, image: np.ndarray) -> list[float]:
    """‖error‖/‖image‖ of the coefficients in each band; the mean gray belongs to none."""
    radius = radial_frequencies()
    error, target = _waves(frame - image), _waves(image)
    bands = [(radius > low) & (radius <= high) for low, high in pairwise(EDGES)]
    return [float(np.linalg.norm(error[b]) / np.linalg.norm(target[b])) for b in bands]


def ring_energies(values: np.ndarray) -> np.ndarray:
    """Energy of an image by radial frequency, per pixel, in rings of equal width."""
    energy = _waves(values) ** 2 / values.size
    radius = radial_frequencies()
    inside = (radius > 0) & (radius <= HIGHEST)
    found, _ = np.histogram(radius[inside], bins=RINGS, range=(0, HIGHEST), weights=energy[inside])
    return found


def _frames(notes: list[dict[str, Any]], run: dict[str, Any]) -> list[dict[str, Any]]:
    """Three images of a network: when the first and the third band had settled, and the last."""
    last = notes[-1]["step"]
    wanted = [run["settled"][i] or last for i in (0, 2)]
    return [{k: n[k] for k in ("step", "frame")} for n in notes if n["step"] in {*wanted, last}]


def claims(runs: list[dict[str, Any]]) -> list[Claim]:
    """Coarse to fine: the error of each band falls below the threshold after the one below it."""
    words = f"the error of a band falls below {THRESHOLD:g} for good the later the finer the band"
    return claims_of([words], [[is_rising(run["settled"])] for run in runs])


def draw(results: dict[str, Any]) -> dict[str, Figure]:
    """Frames of the image, and the errors by frequency."""
    return {"frames": _draw_frames(results), "spectrum": _draw_spectrum(results)}


def _draw_frames(results: dict[str, Any]) -> Figure:
    frames = results["frames"]
    pictures = [("photograph", results["target"])]
    pictures += [(f"step {frame['step']:,}", frame["frame"]) for frame in frames]
    figure, panels = plt.subplots(1, len(pictures), figsize=(9, 3.3), layout="constrained")
    for axes, (title, picture) in zip(panels, pictures, strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    figure.suptitle("Target and network, seed 0: every second column trained on, all shown")
    return figure


def _draw_spectrum(results: dict[str, Any]) -> Figure:
    """Left: energy of the target and of the errors of the frames. Right: errors of the bands."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4), layout="constrained")
    target = np.array(results["target"])
    middles = (np.arange(RINGS) + 0.5) * HIGHEST / RINGS
    left.plot(middles, ring_energies(target), color="black", lw=2.5, label="photograph")
    for frame, colour, dash in zip(results["frames"], COLOURS[::-1], DASHES, strict=False):
        error = np.array(frame["frame"]) - target
        label = f"error at step {frame['step']:,}"
        left.plot(middles, ring_energies(error), dash, color=colour, label=label)
    left.set(yscale="log", xlabel="radial frequency, cycles per pixel", ylabel="energy per pixel")
    left.set_title("Energy by frequency, seed 0")
    for seed, run in enumerate(results["runs"]):
        for name, colour, dash, errors in zip(NAMES, COLOURS, DASHES, run["errors"], strict=True):
            label = f"{name} cycles per pixel" if seed == 0 else None
            right.plot(run["steps"][1:], errors[1:], dash, color=colour, lw=1.2, label=label)
    right.axhline(THRESHOLD, color="black", lw=0.8, ls=(0, (5, 5)))
    right.set(xscale="log", yscale="log", xlabel="training step", ylabel="error / target, by band")
    right.set_title("Error of each band, all seeds")
    right.set_ylim(bottom=4e-3)
    left.legend(fontsize=8)
    right.legend(fontsize=8, loc="lower left")
    return figure
