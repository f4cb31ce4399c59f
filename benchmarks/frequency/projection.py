"""Which frequencies of MNIST's labels a network learns first, along one direction of the images.

The images are projected on their first principal direction, and the labels and the network's
outputs, ten numbers an image, transformed along it by a non-uniform discrete Fourier transform:
Δ(k) = ‖ĥ(k) − ŷ(k)‖/‖ŷ(k)‖, norms over the ten. tanh 784-400-200-10, mean squared error, Adam.

Reference: Xu, Zhang, Luo, Xiao, Ma 2019, arXiv 1901.06523, section 4.1, which takes one of the ten.
"""

from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

from benchmarks.data import CLASSES, Labelled, mnist_sample, read_mnist, split
from benchmarks.frequency.experiment import Claim, Report, Settings, claims_of
from benchmarks.frequency.watching import geometric_steps, is_rising, part, settled, watch
from nets import MLP, Fit, FitSnapshot, nonuniform_dft, principal_direction

NAME = "projection"
TITLE = "MNIST along its principal direction"
WIDTHS = (400, 200)
# Periods per unit of the projected image, pixels from 0 to 1; the images reach over 12 units.
CHOSEN = (0.05, 0.15, 0.3, 0.6)
CURVE = np.linspace(0, 1, 81)
THRESHOLD = 0.3
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
QUICK = Setting(images=5000, rate=1e-4, batch=500, steps=400, every=2)


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

    def spectrum(self, values: Any, frequencies: Any) -> np.ndarray:
        """Give ŷ(k), complex, shape (K, 10)."""
        return np.asarray(nonuniform_dft(self.positions, values, np.asarray(frequencies)))


def run(settings: Settings, report: Report) -> dict[str, Any]:
    """Train a network a seed, and note Δ at the chosen frequencies."""
    setting = FULL if settings.is_full else QUICK
    line = on_line(_images(settings, setting.images))
    target = line.spectrum(line.labels, CHOSEN)

    def look(snapshot: FitSnapshot) -> dict[str, Any]:
        outputs = snapshot.predict(line.inputs)
        difference = line.spectrum(outputs, CHOSEN) - target
        errors = np.linalg.norm(difference, axis=1) / np.linalg.norm(target, axis=1)
        curve = np.linalg.norm(line.spectrum(outputs, CURVE), axis=1)
        right = np.mean(np.argmax(np.asarray(outputs), 1) == np.argmax(line.labels, 1))
        return {"errors": errors.tolist(), "curve": curve.tolist(), "accuracy": float(right)}

    notes = []
    for seed in range(settings.seeds):
        fit = _fit(setting, settings, line, seed)
        steps = geometric_steps(setting.every, setting.steps, setting.looks)
        notes.append(watch(fit, steps, look, part(report, seed, settings.seeds)))
    runs = [_summary(seed_notes, len(line.inputs) / setting.batch) for seed_notes in notes]
    return {
        "setting": setting._asdict() | {"images": len(line.inputs)},
        "threshold": THRESHOLD,
        "frequencies": CHOSEN,
        "runs": runs,
        "curve_frequencies": CURVE.tolist(),
        "target_curve": np.linalg.norm(line.spectrum(line.labels, CURVE), axis=1).tolist(),
        "curves": _curves(notes[0], runs[0]),
        "claims": claims(runs),
        "table": _table(runs),
    }


def _images(settings: Settings, number: int) -> Labelled:
    if settings.data is None:
        return mnist_sample()
    training, _ = read_mnist(settings.data)
    count = len(training.labels)
    return training if number >= count else split(training, number, count - number)[0]


def on_line(images: Labelled) -> Line:
    """Project images on their first principal direction."""
    inputs = images.images.reshape(len(images.labels), -1)
    positions = inputs @ np.asarray(principal_direction(inputs))
    return Line(inputs, np.eye(CLASSES, dtype=np.float32)[images.labels], positions)


def _fit(setting: Setting, settings: Settings, line: Line, seed: int) -> Fit:
    return Fit(
        MLP(line.inputs.shape[1], WIDTHS, outputs=CLASSES, rngs=nnx.Rngs(seed)),
        line.inputs,
        line.labels,
        optimizer=optax.adam(setting.rate),
        batch=min(setting.batch, len(line.inputs)),
        seed=seed,
        every=setting.every,
        max_steps=setting.steps,
        checkpoint=settings.checkpoints / f"seed_{seed}",
    )


def _summary(notes: list[dict[str, Any]], steps_an_epoch: float) -> dict[str, Any]:
    """Δ of each frequency over the epochs, and when each has settled."""
    steps = [note["step"] for note in notes]
    errors = [[note["errors"][i] for note in notes] for i in range(len(CHOSEN))]
    ends = [settled(steps, curve, THRESHOLD) for curve in errors]
    return {
        "steps": steps,
        "epochs": [step / steps_an_epoch for step in steps],
        "losses": [note["loss"] for note in notes],
        "accuracies": [note["accuracy"] for note in notes],
        "errors": errors,
        "settled": ends,
        "settled_epochs": [None if step is None else step / steps_an_epoch for step in ends],
    }


def _curves(notes: list[dict[str, Any]], run: dict[str, Any]) -> list[dict[str, Any]]:
    """|ĥ(k)| of a network when the lowest frequency had settled, and at the end."""
    wanted = {run["settled"][0], notes[-1]["step"]}
    pairs = zip(run["epochs"], notes, strict=True)
    return [{"epoch": e, "values": n["curve"]} for e, n in pairs if n["step"] in wanted]


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
    """Left: spectra along the direction. Right: Δ over the epochs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4), layout="constrained")
    k, target = results["curve_frequencies"], results["target_curve"]
    left.plot(k, target, color="black", lw=3, alpha=0.35, label="labels")
    for curve, colour, dash in zip(results["curves"], COLOURS[::-1], DASHES, strict=False):
        label = f"network, epoch {curve['epoch']:.2g}"
        left.plot(k, curve["values"], dash, color=colour, label=label)
    for place, colour in zip(CHOSEN, COLOURS, strict=True):
        left.plot([place], [np.interp(place, k, target)], "o", color=colour, ms=8)
    left.set(yscale="log", xlabel="k, periods per unit along the direction")
    left.set(ylabel="‖ŷ(k)‖ over the ten outputs", title="Spectra, seed 0")
    for seed, run in enumerate(results["runs"]):
        for place, colour, dash, errors in zip(CHOSEN, COLOURS, DASHES, run["errors"], strict=True):
            label = f"k = {place:g}" if seed == 0 else None
            right.plot(run["epochs"][1:], errors[1:], dash, color=colour, lw=1.2, label=label)
    right.axhline(results["threshold"], color="black", lw=0.8, ls=(0, (5, 5)))
    right.set(xscale="log", yscale="log", xlabel="epoch", ylabel="Δ(k), relative error")
    right.set_title("Error at the marked frequencies, all seeds")
    left.legend(fontsize=8)
    right.legend(fontsize=8, loc="lower left")
    return {"projection": figure}
