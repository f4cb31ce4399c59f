"""S11: ResNet18 with fewer and fewer blocks: what blocks do to the dense layers behind them."""

import itertools
import math
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

from benchmarks.data import Labelled, read_cifar10, split
from benchmarks.frequency.experiment import Claim, Report, Settings, claims_of
from benchmarks.frequency.images import (
    draw_mnist,
    layer_spectrum,
    one_hot,
)
from benchmarks.frequency.resnet_figures import PLACES, courses, densities, label_of
from benchmarks.frequency.watching import (
    fits,
    is_rising,
    median,
    part_of,
    watch,
)
from nets import FitSnapshot, ResNet18, cross_entropy, layer_outputs
from nets.resnet import STAGES

NAME: str = "resnet"
TITLE: str = "ResNet18 with fewer blocks"
VARIANCES = np.geomspace(0.1, 500, 60)

CLAIMS = (
    "The more blocks, the lower the frequencies left behind the {} dense layer, by 1/δ at LFR = ½ "
    "after training",
    "The most blocks leave lower ones than none behind both",
    "The more blocks, the fewer epochs to {:.0%} of the training images right",
    "The most blocks take fewer epochs to that than none",
)


class Sizes(NamedTuple):
    """What is trained, and how.

    Attributes:
        variants: from the most blocks to none.
        images, testing: to train on, and to test with.
        measured: how many of those to train on the spectra and the accuracy are of.
        width, hidden: channels of the stem, neurons of both dense layers.
        batch: images of a step.
        rates: of Adam, with the number of epochs of each.
        every: epochs from one look to the next.
        spectra: epochs of the looks at which spectra are taken, or None for all looks.
        accuracy: on the training images, the epochs to which are counted.
    """

    variants: tuple[int, ...]
    images: int
    testing: int
    measured: int
    width: int
    hidden: tuple[int, int]
    batch: int
    rates: tuple[tuple[float, int], ...]
    every: float
    spectra: tuple[int, ...] | None
    accuracy: float


QUICK = Sizes((1, 2, 3, 4), 1280, 500, 1000, 8, (256, 256), 16, ((1e-3, 5),), 1.0, None, 0.95)
PUBLISHED_RATES = ((1e-3, 40), (1e-4, 20), (1e-5, 20))
PUBLISHED_EPOCHS = (0, 1, 2, 3, 4, 5, 10, 15, 20, 40, 50, 60, 70, 80)
FULL_CIFAR10 = Sizes(
    (1, 2, 3, 4), 40_000, 10_000, 5000, 64, (1024, 1024), 256, PUBLISHED_RATES, 1.0,
    PUBLISHED_EPOCHS, 0.9,
)  # fmt: skip
# Nothing is published for MNIST: what two cores do in two hours.
FULL_MNIST = Sizes(
    (1, 2, 3, 4), 4480, 500, 1000, 32, (1024, 1024), 32, ((1e-3, 6), (1e-4, 2)), 0.5,
    (0, 1, 2, 4, 6, 8), 0.98,
)  # fmt: skip


def run(settings: Settings, report: Report) -> dict[str, Any]:
    """Train each variant for each seed, and look at its dense layers as it learns."""
    folder = _cifar10(settings)
    source, full = ("MNIST", FULL_MNIST) if folder is None else ("CIFAR-10", FULL_CIFAR10)
    sizes = full if settings.is_full else QUICK
    if folder is None:
        training, testing = draw_mnist(settings, sizes.images, sizes.testing)
    else:
        training, testing = split(read_cifar10(folder)[0], sizes.images, sizes.testing)
    parts = len(sizes.variants)
    variants = []
    for i, variant in enumerate(sizes.variants):
        own = part_of(report, i, parts)
        runs = _trained(settings, sizes, variant, (training, testing), own)
        variants.append({"variant": variant, "blocks": sum(STAGES[variant]), "runs": runs})
    return {
        "setting": sizes._asdict() | {"images": len(training.labels), "data": source},
        "variances": VARIANCES.tolist(),
        "variants": variants,
        "claims": judge(variants, sizes.accuracy),
        "table": table(variants, sizes, source),
    }


def _cifar10(settings: Settings) -> Path | None:
    """The folder, where it has the files of CIFAR-10."""
    folder, names = settings.data, ("cifar-10-batches-py", "data_batch_1")
    return folder if folder and any((folder / name).exists() for name in names) else None


def _trained(
    settings: Settings,
    sizes: Sizes,
    variant: int,
    images: tuple[Labelled, Labelled],
    report: Report,
) -> list[dict[str, Any]]:
    """All seeds of a variant."""
    training = images[0]
    per_epoch = len(training.labels) / sizes.batch
    build = partial(_network, variant, training.images.shape[1:], sizes)
    last = round(sum(epochs for _, epochs in sizes.rates) * per_epoch)
    options = {
        "optimizer": optax.adam(_schedule(sizes, per_epoch)), "loss": cross_entropy,
        "batch": sizes.batch, "every": round(sizes.every * per_epoch), "max_steps": last,
        "save_seconds": 10.0,
    }  # fmt: skip
    note = partial(_looked_at, sizes, images, last)
    samples = training.images, training.labels
    fitted = fits(settings, f"{NAME}_{variant}", build, samples, **options)
    runs = []
    for seed, fit in enumerate(fitted):
        records = watch(fit, note, part_of(report, seed, settings.seeds))
        runs.append({"seed": seed, "records": records})
    return runs


def _schedule(sizes: Sizes, per_epoch: float) -> optax.Schedule:
    """One rate after the other, each for its epochs."""
    rates, epochs = zip(*sizes.rates, strict=True)
    ends = np.cumsum(epochs[:-1]) * per_epoch
    factors = [later / rate for rate, later in itertools.pairwise(rates)]
    changes = {round(end): factor for end, factor in zip(ends, factors, strict=True)}
    return optax.piecewise_constant_schedule(rates[0], changes)


def _network(variant: int, shape: tuple[int, ...], sizes: Sizes, rngs: nnx.Rngs) -> ResNet18:
    return ResNet18(variant, shape, width=sizes.width, hidden=sizes.hidden, rngs=rngs)


def _looked_at(
    sizes: Sizes, images: tuple[Labelled, Labelled], last: int, snapshot: FitSnapshot
) -> dict[str, Any]:
    """Accuracy on images trained on, at the end on others too, and spectra of the dense layers."""
    training, testing = (Labelled(*(array[: sizes.measured] for array in part)) for part in images)
    network: Any = snapshot.model()
    epoch = snapshot.step * sizes.batch / len(images[0].labels)
    layers, outputs = _dense_layers(network, training.images)
    found: dict[str, Any] = {"epoch": epoch, "layers": None}
    found["accuracy"] = _share_right(outputs, training.labels)
    if snapshot.step == last:
        others = _dense_layers(network, testing.images)[1]
        found["test_accuracy"] = _share_right(others, testing.labels)
    near = 0.5 * sizes.every
    if sizes.spectra is None or any(abs(epoch - wanted) < near for wanted in sizes.spectra):
        y = one_hot(training.labels)
        found["layers"] = [layer_spectrum(values, y, VARIANCES) for values in layers]
    return found


def _dense_layers(network: Any, images: np.ndarray) -> tuple[list[Any], Any]:
    """Outputs of both dense layers, behind their ReLU, and of the network.

    What is behind the first one needs no second pass through the convolutions.
    """
    first = nnx.relu(layer_outputs(network, "hidden.0", images, batch=250))
    second = nnx.relu(network.hidden[1](first))
    return [first, second], network.output(second)


def _share_right(outputs: Any, labels: np.ndarray) -> float:
    return float(np.mean(np.argmax(outputs, 1) == labels))


def judge(variants: list[dict[str, Any]], accuracy: float) -> list[Claim]:
    """Whether the published claims hold, for each seed; variants from the most blocks to none."""
    words = [CLAIMS[0].format(place) for place in PLACES]
    words += [CLAIMS[1], CLAIMS[2].format(accuracy), CLAIMS[3]]
    outcomes = []
    for runs in zip(*(variant["runs"] for variant in variants), strict=True):
        halves = list(zip(*(final_halves(run["records"]) for run in runs), strict=True))
        # One that never gets there takes longer than any that does.
        found = [epochs_to(run["records"], accuracy) for run in runs]
        epochs = [math.inf if value is None else value for value in found]
        outcomes.append(
            [
                *(is_rising(own) for own in halves),
                all(is_rising([own[0], own[-1]]) for own in halves),
                is_rising(epochs),
                is_rising([epochs[0], epochs[-1]]),
            ]
        )
    return claims_of(words, outcomes)


def final_halves(records: list[dict[str, Any]]) -> list[float | None]:
    """1/δ at LFR = ½ of each dense layer, where it was looked at last."""
    layers = next(record["layers"] for record in reversed(records) if record["layers"])
    return [layer["half"] for layer in layers]


def epochs_to(records: list[dict[str, Any]], accuracy: float) -> float | None:
    """Epochs to an accuracy on the training images, linear between looks; None if not reached."""
    for before, after in itertools.pairwise(records):
        if after["accuracy"] >= accuracy:
            rise = after["accuracy"] - before["accuracy"]
            part = (accuracy - before["accuracy"]) / rise if rise > 0 else 1.0
            return before["epoch"] + part * (after["epoch"] - before["epoch"])
    return None


def table(variants: list[dict[str, Any]], sizes: Sizes, source: str) -> dict[str, Any]:
    """A row a variant, medians over its seeds."""
    rows = []
    for variant in variants:
        runs = [run["records"] for run in variant["runs"]]
        halves = [median(list(own)) for own in zip(*map(final_halves, runs), strict=True)]
        last = [[records[-1][key] for records in runs] for key in ("accuracy", "test_accuracy")]
        rows.append(
            [
                label_of(variant),
                *halves,
                median([epochs_to(records, sizes.accuracy) for records in runs]),
                *(f"{median(values):.1%}" for values in last),
            ]
        )
    title = (
        f"{source}, width {sizes.width}, cross-entropy, {sizes.images} images: medians of "
        f"{len(variants[0]['runs'])} seeds"
    )
    columns = ["network", "1/δ at LFR = ½, dense 1", "dense 2", f"epochs to {sizes.accuracy:.0%}",
               "trained on, right", "others, right"]  # fmt: skip
    return {"title": title, "columns": columns, "rows": rows}


def draw(results: dict[str, Any]) -> dict[str, Figure]:
    """RDF by number of blocks, and where it is over training, beside the accuracy."""
    return {"rdf_by_blocks": densities(results), "training_by_blocks": courses(results)}
