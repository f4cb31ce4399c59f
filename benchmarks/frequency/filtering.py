"""S9: errors of a network on MNIST at low and at high frequencies, told apart by a filter."""

from functools import partial
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

from benchmarks.frequency.experiment import Claim, Report, Settings, claims_of
from benchmarks.frequency.images import (
    draw_mnist,
    one_hot,
    rows_of_pixels,
)
from benchmarks.frequency.watching import (
    fits,
    median,
    part_of,
    watch,
)
from nets import MLP, FitSnapshot
from nets.filtering import checked_samples, checked_variances, filtered

NAME: str = "filter"
TITLE: str = "MNIST at low and high frequencies"
# The published variances, and a larger one, which sees farther than the nearest images.
VARIANCES = (3.0, 7.0, 15.0)
# Colours of Okabe and Ito.
LOW, HIGH = "#0072B2", "#D55E00"


class Sizes(NamedTuple):
    """What is trained, and how.

    Attributes:
        images: to train on.
        measured: how many of them are filtered.
        widths: of the hidden layers.
        rate, batch: of Adam.
        every: epochs from one look to the next.
        first: epochs after which e_low has to be the lower one.
        epochs: where it ends.
    """

    images: int
    measured: int
    widths: tuple[int, ...]
    rate: float
    batch: int
    every: float
    first: float
    epochs: int


QUICK = Sizes(4500, 4500, (400, 200), 1e-4, 64, 1.0, 1.0, 15)
# Rate and batch are ours. The filter is of a part.
FULL = Sizes(54_000, 10_000, (400, 200), 1e-5, 256, 2.0, 2.0, 200)


def run(settings: Settings, report: Report) -> dict[str, Any]:
    """Train a network for each seed; filter labels and outputs as it learns."""
    sizes = FULL if settings.is_full else QUICK
    training, _ = draw_mnist(settings, sizes.images, sizes.images // 9)
    x, y = rows_of_pixels(training.images), one_hot(training.labels)
    per_epoch = len(y) / sizes.batch
    every = round(sizes.every * per_epoch)
    options = {
        "optimizer": optax.adam(sizes.rate), "batch": sizes.batch, "save_seconds": 5.0,
        "every": every, "max_steps": every * round(sizes.epochs / sizes.every),
    }  # fmt: skip
    points, target = checked_samples(x[: sizes.measured], y=y[: sizes.measured])
    low = np.asarray(_filtered(points, target))
    high = np.asarray(target) - low
    shares = np.linalg.norm(high, axis=(1, 2)) / np.linalg.norm(target)
    note = partial(errors, points, low, high)
    runs = []
    build = partial(_network, x.shape[1], sizes.widths)
    for seed, fit in enumerate(fits(settings, NAME, build, (x, y), **options)):
        records = watch(fit, note, part_of(report, seed, settings.seeds))
        epochs = [record["step"] / per_epoch for record in records]
        runs.append({"seed": seed, "epochs": epochs, "records": records})
    return {
        "setting": sizes._asdict() | {"images": len(y), "measured": len(points)},
        "variances": list(VARIANCES),
        "high_shares": shares.tolist(),
        "runs": runs,
        "claims": judge(runs, sizes.first),
        "table": table(runs, shares.tolist(), sizes),
    }


def _network(pixels: int, widths: tuple[int, ...], rngs: nnx.Rngs) -> MLP:
    return MLP(pixels, widths, outputs=10, rngs=rngs)


def _filtered(points: Any, values: Any) -> Any:
    """Low-frequency parts for all variances, in one pass, shape (V, N, m)."""
    deltas = checked_variances("variances", VARIANCES, 1).astype(points.dtype)
    return filtered(points, values, deltas)


def errors(points: Any, low: np.ndarray, high: np.ndarray, snapshot: FitSnapshot) -> dict[str, Any]:
    """e_low and e_high for each variance, h being the network's outputs: no mean is subtracted.

    Args:
        points: x, shape (N, pixels).
        low, high: y_low and y_high of the one-hot labels, shape (V, N, 10).
        snapshot: with the network.
    """
    outputs = snapshot.predict(points)
    outputs_low = np.asarray(_filtered(points, outputs))
    outputs_high = np.asarray(outputs) - outputs_low
    right = np.argmax(outputs, 1) == np.argmax(low + high, 2)[0]
    return {
        "low": _relative(outputs_low, low),
        "high": _relative(outputs_high, high),
        "accuracy": float(np.mean(right)),
    }


def _relative(found: np.ndarray, wanted: np.ndarray) -> list[float]:
    """‖h − y‖/‖y‖ for each variance."""
    norms = [np.linalg.norm(array, axis=(1, 2)) for array in (found - wanted, wanted)]
    return (norms[0] / norms[1]).tolist()


def judge(runs: list[dict[str, Any]], first: float) -> list[Claim]:
    """Whether e_low is below e_high from some epoch on, for each seed: a claim a variance."""
    words = [
        f"e_low is below e_high for δ = {delta:g}, at every look from epoch {first:g} on"
        for delta in VARIANCES
    ]
    outcomes = []
    for run in runs:
        pairs = zip(run["epochs"], run["records"], strict=True)
        late = [record for epoch, record in pairs if epoch > 0.9 * first]
        outcomes.append(
            [all(r["low"][k] < r["high"][k] for r in late) for k in range(len(VARIANCES))]
        )
    return claims_of(words, outcomes)


def table(runs: list[dict[str, Any]], shares: list[float], sizes: Sizes) -> dict[str, Any]:
    """A row a variance: |y_high|/|y|, and medians of the errors early, in the middle and late."""
    count = len(runs[0]["records"])
    early = next(i for i, e in enumerate(runs[0]["epochs"]) if e > 0.9 * sizes.first)
    moments = sorted({early, (early + count - 1) // 2, count - 1})
    rows = []
    for k, delta in enumerate(VARIANCES):
        cells = [f"{shares[k]:.3f}"]
        for i in moments:
            for name in ("low", "high"):
                cells.append(f"{median([run['records'][i][name][k] for run in runs]):.3f}")
        rows.append([f"{delta:g}", *cells])
    columns = ["δ", "|y_high|/|y|"]
    for i in moments:
        epoch = f"{runs[0]['epochs'][i]:.2g}"
        columns += [f"e_low, epoch {epoch}", f"e_high, epoch {epoch}"]
    title = (
        f"Errors of the one-hot labels, medians of {len(runs)} seeds; Adam, rate {sizes.rate:g}, "
        f"batch {sizes.batch}"
    )
    return {"title": title, "columns": columns, "rows": rows}


def draw(results: dict[str, Any]) -> dict[str, Figure]:
    """A panel a variance: e_low and e_high over the epochs."""
    variances = results["variances"]
    figure, panels = plt.subplots(
        1, len(variances), figsize=(11, 3.8), sharey=True, layout="constrained"
    )
    for k, axes in enumerate(panels):
        for run in results["runs"]:
            for name, label, colour, dash in (
                ("low", "e_low, low frequencies", LOW, "-"),
                ("high", "e_high, high frequencies", HIGH, "--"),
            ):
                values = [record[name][k] for record in run["records"]]
                first = run is results["runs"][0]
                axes.plot(run["epochs"], values, dash, color=colour, label=label if first else None)
        share = results["high_shares"][k]
        axes.set(xlabel="epoch", yscale="log")
        axes.set_title(f"δ = {variances[k]:g}, |y_high|/|y| = {share:.2f}")
    panels[0].set_ylabel("relative error, a line a seed")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return {"errors_by_frequency": figure}
