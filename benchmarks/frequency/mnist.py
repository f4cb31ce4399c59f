"""S12: one MNIST network, layer by layer: the deeper, the lower the frequencies that are left."""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

from benchmarks.frequency.experiment import Claim, Report, Settings, claims_of
from benchmarks.frequency.images import (
    density,
    draw_mnist,
    finish_densities,
    layer_spectrum,
    one_hot,
    rows_of_pixels,
)
from benchmarks.frequency.watching import (
    fits,
    is_rising,
    median,
    part_of,
    watch,
)
from nets import MLP, FitSnapshot, layer_outputs

NAME: str = "mnist"
TITLE: str = "MNIST, layer by layer"
VARIANCES = np.geomspace(0.1, 500, 60)
# Colours of Okabe and Ito, from the first hidden layer to the last, with dashes for print.
LINES: list[tuple[str, Any]] = [
    ("#000000", "-"),
    ("#0072B2", "--"),
    ("#009E73", "-."),
    ("#E69F00", ":"),
    ("#D55E00", (0, (6, 1, 1, 1, 1, 1))),
]
CLAIMS = (
    "After training, each hidden layer's effective target has lower frequencies than that of the "
    "layer before, by 1/δ at LFR = ½",
    "Before training, the last hidden layer's has higher frequencies than the first one's",
    "Training lowers those of every hidden layer",
)


class Sizes(NamedTuple):
    """What is trained, and how.

    Attributes:
        images: to train on.
        measured: how many of them the spectra are of.
        widths: of the hidden layers.
        rate, batch: of Adam.
        every: steps from one look to the next.
        max_steps, stop_at: the end, by steps or by the loss.
    """

    images: int
    measured: int
    widths: tuple[int, ...]
    rate: float
    batch: int | None
    every: int
    max_steps: int
    stop_at: float


QUICK = Sizes(4500, 2000, (500,) * 5, 1e-4, 64, 150, 3000, 1e-2)
# Spectra of all 30 000 samples would take a CPU some days.
FULL = Sizes(30_000, 5000, (500,) * 5, 5e-5, None, 100, 20_000, 1e-2)


def run(settings: Settings, report: Report) -> dict[str, Any]:
    """Train a network for each seed, and look at its hidden layers as it learns."""
    sizes = FULL if settings.is_full else QUICK
    training, testing = draw_mnist(settings, sizes.images, max(1, sizes.images // 9))
    x, y = rows_of_pixels(training.images), one_hot(training.labels)
    measured = x[: sizes.measured], y[: sizes.measured]
    options = {
        "optimizer": optax.adam(sizes.rate), "batch": sizes.batch, "every": sizes.every,
        "max_steps": sizes.max_steps, "stop_at": sizes.stop_at, "save_seconds": 5.0,
    }  # fmt: skip
    runs = []
    build = partial(_network, x.shape[1], sizes.widths)
    for seed, fit in enumerate(fits(settings, NAME, build, (x, y), **options)):
        note = partial(_looked_at, measured, (rows_of_pixels(testing.images), testing.labels))
        runs.append(
            {"seed": seed, "records": watch(fit, note, part_of(report, seed, settings.seeds))}
        )
    return {
        "setting": sizes._asdict() | {"images": len(y)},
        "variances": VARIANCES.tolist(),
        "runs": runs,
        "claims": judge(runs),
        "table": table(runs),
    }


def _network(pixels: int, widths: tuple[int, ...], rngs: nnx.Rngs) -> MLP:
    return MLP(pixels, widths, outputs=10, rngs=rngs)


def _looked_at(measured: Any, test: Any, snapshot: FitSnapshot) -> dict[str, Any]:
    """Spectra of the hidden layers, behind their tanh, and the accuracy on other images."""
    x, y = measured
    network: Any = snapshot.model()
    spectra = []
    for i in range(len(network.widths)):
        outputs = jnp.tanh(layer_outputs(network, f"layers.{i}", x))
        spectra.append(layer_spectrum(outputs, y, VARIANCES))
    right = np.argmax(snapshot.predict(test[0]), 1) == test[1]
    return {"layers": spectra, "test_accuracy": float(np.mean(right))}


def judge(runs: list[dict[str, Any]]) -> list[Claim]:
    """Whether the published claims hold, for each seed."""
    outcomes = []
    for run in runs:
        start, end = (halves(run["records"][i]) for i in (0, -1))
        outcomes.append(
            [
                is_rising(end[::-1]),
                is_rising([start[0], start[-1]]),
                all(is_rising(pair) for pair in zip(end, start, strict=True)),
            ]
        )
    return claims_of(CLAIMS, outcomes)


def halves(record: dict[str, Any]) -> list[float | None]:
    """1/δ at LFR = ½ of each hidden layer."""
    return [layer["half"] for layer in record["layers"]]


def table(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the seeds: a row for each hidden layer, at start, middle and end."""
    moments = [moments_of(run["records"]) for run in runs]
    count = len(runs[0]["records"][0]["layers"])
    rows = []
    for i in range(count):
        values = [median([halves(own[k])[i] for own in moments]) for k in range(3)]
        rows.append([f"hidden layer {i + 1}", *values])
    last = [run["records"][-1] for run in runs]
    loss, steps, accuracy = (
        median([record[key] for record in last]) for key in ("loss", "step", "test_accuracy")
    )
    title = (
        f"1/δ at LFR = ½, medians of {len(runs)} seeds; ended at step {steps:.0f}, loss "
        f"{loss:.2g}, {accuracy:.1%} of other images right"
    )
    return {"title": title, "columns": ["layer", "start", "middle", "end"], "rows": rows}


def moments_of(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first, middle and last of them."""
    return [records[0], records[len(records) // 2], records[-1]]


def draw(results: dict[str, Any]) -> dict[str, Figure]:
    """RDF by layer, and where it is over training."""
    return {"rdf_by_layer": _densities(results), "half_by_layer": _half_points(results)}


def _densities(results: dict[str, Any]) -> Figure:
    """A panel a moment of the first seed: RDF of each hidden layer."""
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
    moments = moments_of(results["runs"][0]["records"])
    for axes, name, record in zip(panels, ("start", "middle", "end"), moments, strict=True):
        for i, layer in enumerate(record["layers"]):
            colour, dash = LINES[i % len(LINES)]
            places, values = density(results["variances"], layer["ratios"])
            axes.plot(places, values, ls=dash, color=colour, label=f"hidden layer {i + 1}")
        axes.set(xscale="log", title=f"{name}: step {record['step']}, loss {record['loss']:.2g}")
    finish_densities(figure, panels, 5)
    return figure


def _half_points(results: dict[str, Any]) -> Figure:
    """1/δ at LFR = ½ over the steps, a colour a layer, a line a seed."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for run in results["runs"]:
        steps = [record["step"] for record in run["records"]]
        for i, values in enumerate(zip(*map(halves, run["records"]), strict=True)):
            colour, dash = LINES[i % len(LINES)]
            label = f"hidden layer {i + 1}" if run is results["runs"][0] else None
            points = [np.nan if value is None else value for value in values]
            axes.plot(steps, points, ls=dash, color=colour, label=label)
    axes.set(xlabel="training step", ylabel="1/δ at LFR = ½", ylim=(0, None))
    axes.set_title("Frequencies left to learn behind each layer, a line a seed")
    axes.legend(fontsize=8)
    return figure
