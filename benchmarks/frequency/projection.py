"""Which frequencies of MNIST's labels a network learns first, along one direction of the images.

The images are projected on their first principal direction, and the labels and the network's
outputs, ten numbers an image, transformed along it by a non-uniform discrete Fourier transform:
Δ(k) = ‖ĥ(k) − ŷ(k)‖/‖ŷ(k)‖, norms over the ten. tanh 784-400-200-10, mean squared error, Adam.

Reference: Xu, Zhang, Luo, Xiao, Ma 2019, arXiv 1901.06523, section 4.1, which takes one of the ten.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

from benchmarks.data import CLASSES, Labelled, mnist_sample, read_mnist, split
from benchmarks.frequency.experiment import Claim, Report, Settings, claims_of
from benchmarks.frequency.images import one_hot, rows_of_pixels
from benchmarks.frequency.watching import (
    error_curves,
    fits,
    geometric_steps,
    is_rising,
    part_of,
    watch,
)
from nets import MLP, Fit, FitSnapshot, nonuniform_dft, principal_direction

NAME = "projection"
TITLE = "MNIST along its principal direction"
WIDTHS = (400, 200)
# Periods per unit of the projected image, pixels from 0 to 1; the images reach over 12 units.
# Beyond 0.2 the labels' spectrum is little more than that of one digit, 1, narrow on this line.
CHOSEN = (0.05, 0.1, 0.15, 0.2)
CURVE = np.linspace(0, 1, 41)
PLACES = np.searchsorted(CURVE, np.array(CHOSEN) - 1e-9).tolist()  # of the chosen, on the curve
THRESHOLD = 0.5
COLOURS = ("#0072B2", "#009E73", "#E69F00", "#D55E00")  # of Okabe and Ito
DASHES = ("-", "--", "-.", ":")


class Setting(NamedTuple):
    """Images, and a training."""

    images: int
    rate: float
    batch: int
    steps: int
    every: int
    looks: int = 40


FULL = Setting(images=60_000, rate=1e-5, batch=256, steps=12_000, every=10)
QUICK = Setting(images=5000, rate=2e-5, batch=500, steps=400, every=2)


class Line(NamedTuple):
    """Images by their projections, and the spectra of their labels.

    Attributes:
        inputs: shape (N, 784).
        labels: 1 for the class of an image and 0 for the others, shape (N, 10).
        positions: of the images along the direction, shape (N,).
    """

    inputs: np.ndarray
    labels: np.ndarray
    positions: np.ndarray

    def spectrum(self, values: Any) -> np.ndarray:
        """Give ŷ(k), complex, shape (K, 10)."""
        return np.asarray(nonuniform_dft(self.positions, values, CURVE))


def run(settings: Settings, report: Report) -> dict[str, Any]:
    """Train a network a seed, and note Δ by frequency."""
    setting = FULL if settings.is_full else QUICK
    line = on_line(_images(settings, setting.images))
    target = line.spectrum(line.labels)
    steps = geometric_steps(setting.every, setting.steps, setting.looks)
    look = partial(_look, line, target)
    notes = [
        watch(fit, look, part_of(report, seed, settings.seeds), steps=steps)
        for seed, fit in enumerate(_fits(setting, settings, line))
    ]
    runs = [_summary(own, len(line.inputs) / setting.batch) for own in notes]
    return {
        "setting": setting._asdict() | {"images": len(line.inputs)},
        "threshold": THRESHOLD,
        "chosen": CHOSEN,
        "frequencies": CURVE.tolist(),
        "target": np.linalg.norm(target, axis=1).tolist(),
        "runs": runs,
        "spectra": _spectra(notes[0], runs[0]),
        "error_map": [note["errors"] for note in notes[0]],
        "claims": claims(runs),
        "table": _table(runs),
    }


def _look(line: Line, target: np.ndarray, snapshot: FitSnapshot) -> dict[str, Any]:
    outputs = np.asarray(snapshot.predict(line.inputs))
    found = line.spectrum(outputs)
    errors = np.linalg.norm(found - target, axis=1) / np.linalg.norm(target, axis=1)
    right = np.mean(np.argmax(outputs, 1) == np.argmax(line.labels, 1))
    return {
        "errors": errors.tolist(),
        "spectrum": np.linalg.norm(found, axis=1).tolist(),
        "accuracy": float(right),
    }


def _images(settings: Settings, number: int) -> Labelled:
    if settings.data is None:
        return mnist_sample()
    training, _ = read_mnist(settings.data)
    count = len(training.labels)
    return training if number >= count else split(training, number, count - number)[0]


def on_line(images: Labelled) -> Line:
    """Project images on their first principal direction."""
    inputs = rows_of_pixels(images.images)
    positions = inputs @ np.asarray(principal_direction(inputs))
    return Line(inputs, one_hot(images.labels), positions)


def _fits(setting: Setting, settings: Settings, line: Line) -> Iterator[Fit]:
    return fits(
        settings,
        NAME,
        lambda rngs: MLP(line.inputs.shape[1], WIDTHS, outputs=CLASSES, rngs=rngs),
        (line.inputs, line.labels),
        optimizer=optax.adam(setting.rate),
        batch=min(setting.batch, len(line.inputs)),
        every=setting.every,
        max_steps=setting.steps,
    )


def _summary(notes: list[dict[str, Any]], steps_an_epoch: float) -> dict[str, Any]:
    """Δ of each frequency over the epochs, and when each has settled."""
    curves = error_curves(notes, PLACES, THRESHOLD)
    ends = curves["settled"]
    return curves | {
        "epochs": [step / steps_an_epoch for step in curves["steps"]],
        "accuracies": [note["accuracy"] for note in notes],
        "settled_epochs": [None if step is None else step / steps_an_epoch for step in ends],
    }


def _spectra(notes: list[dict[str, Any]], run: dict[str, Any]) -> list[dict[str, Any]]:
    """‖ĥ(k)‖ of a network when the lowest frequency had settled, and at the end."""
    wanted = {run["settled"][0], notes[-1]["step"]}
    pairs = zip(run["epochs"], notes, strict=True)
    return [{"epoch": e, "values": n["spectrum"]} for e, n in pairs if n["step"] in wanted]


def claims(runs: list[dict[str, Any]]) -> list[Claim]:
    """Low to high: Δ falls below the threshold for good the later the higher the frequency."""
    names = ", ".join(f"{k:g}" for k in CHOSEN)
    words = f"Δ(k) falls below {THRESHOLD:g} for good the later the higher k = {names}"
    return claims_of([words], [[is_rising(run["settled"])] for run in runs])


def _table(runs: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [
        [str(seed), *run["settled_epochs"], run["accuracies"][-1]] for seed, run in enumerate(runs)
    ]
    columns = ["seed", *(f"k = {k:g}" for k in CHOSEN), "accuracy at the end"]
    title = f"First epoch from which on Δ(k) < {THRESHOLD:g}; k in periods per unit"
    return {"title": title, "columns": columns, "rows": rows}


def draw(results: dict[str, Any]) -> dict[str, Figure]:
    """Spectra along the direction; Δ over the epochs of all frequencies and of the chosen."""
    figure, panels = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    _draw_spectra(panels[0], results)
    _draw_map(figure, panels[1], results)
    _draw_errors(panels[2], results)
    return {"projection": figure}


def _draw_spectra(axes: Any, results: dict[str, Any]) -> None:
    k, target = results["frequencies"], results["target"]
    axes.plot(k, target, color="black", lw=3, alpha=0.35, label="labels")
    for found, colour, dash in zip(results["spectra"], COLOURS[::-1], DASHES, strict=False):
        label = f"network, epoch {found['epoch']:.2g}"
        axes.plot(k, found["values"], dash, color=colour, label=label)
    for place, colour in zip(results["chosen"], COLOURS, strict=True):
        axes.plot([place], [np.interp(place, k, target)], "o", color=colour, ms=8)
    axes.set(yscale="log", xlabel="k, periods per unit along the direction")
    axes.set(ylabel="‖ŷ(k)‖ over the ten outputs", title="Spectra, seed 0")
    axes.legend(fontsize=8)


def _draw_map(figure: Figure, axes: Any, results: dict[str, Any]) -> None:
    """Δ by frequency (up) over epochs (right); red is small."""
    epochs = results["runs"][0]["epochs"][1:]
    errors = np.array(results["error_map"][1:]).T
    image = axes.pcolormesh(
        epochs, results["frequencies"], errors, vmin=0, vmax=1, cmap="jet_r", shading="nearest"
    )
    figure.colorbar(image, ax=axes, label="Δ(k), relative error", extend="max")
    for place in results["chosen"]:
        axes.axhline(place, color="white", lw=0.8, ls="--")
    axes.set(xscale="log", xlabel="epoch", ylabel="k, periods per unit")
    axes.set_title("Error at all frequencies, seed 0")
    axes.grid(visible=False)


def _draw_errors(axes: Any, results: dict[str, Any]) -> None:
    for seed, run in enumerate(results["runs"]):
        kinds = zip(results["chosen"], COLOURS, DASHES, run["errors"], strict=True)
        for place, colour, dash, errors in kinds:
            label = f"k = {place:g}" if seed == 0 else None
            axes.plot(run["epochs"][1:], errors[1:], dash, color=colour, lw=1.2, label=label)
    axes.axhline(results["threshold"], color="black", lw=0.8, ls=(0, (5, 5)))
    axes.set(xscale="log", yscale="log", xlabel="epoch", ylabel="Δ(k), relative error")
    axes.set_title("Error at the chosen frequencies, all seeds")
    axes.legend(fontsize=8, loc="lower left")
