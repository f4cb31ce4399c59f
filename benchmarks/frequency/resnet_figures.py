"""The figures of the experiment on blocks."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from benchmarks.frequency.images import density, finish_densities

# Colours of Okabe and Ito by variant, with dashes for print.
LINES = {1: ("#D55E00", "-"), 2: ("#0072B2", "--"), 3: ("#009E73", "-."), 4: ("#000000", ":")}
# None of a thousand images wrong, on a logarithmic axis.
LEAST = 5e-4
PLACES = ("first", "second")


def densities(results: dict[str, Any]) -> Figure:
    """A panel a dense layer, of the first seed: RDF at the end, pale at the start."""
    figure, panels = plt.subplots(1, 2, figsize=(9.5, 3.8), sharey=True, layout="constrained")
    for k, axes in enumerate(panels):
        for variant in results["variants"]:
            looks = [record for record in variant["runs"][0]["records"] if record["layers"]]
            colour, dash = LINES[variant["variant"]]
            for record, alpha in ((looks[0], 0.3), (looks[-1], 1.0)):
                places, values = density(results["variances"], record["layers"][k]["ratios"])
                label = label_of(variant) if alpha == 1 else None
                axes.plot(places, values, dash, color=colour, alpha=alpha, label=label)
        axes.set(xscale="log", title=f"{PLACES[k]} dense layer: end (pale: start)")
    finish_densities(figure, panels, 4)
    return figure


def courses(results: dict[str, Any]) -> Figure:
    """1/δ at LFR = ½ of both dense layers and the share not right, a line a seed."""
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    for variant in results["variants"]:
        colour, dash = LINES[variant["variant"]]
        for run in variant["runs"]:
            label = label_of(variant) if run is variant["runs"][0] else None
            looks = [record for record in run["records"] if record["layers"]]
            epochs = [record["epoch"] for record in looks]
            for k in range(2):
                halves = [record["layers"][k]["half"] or np.nan for record in looks]
                panels[k].plot(epochs, halves, dash, color=colour, label=label)
            panels[2].plot(
                [record["epoch"] for record in run["records"]],
                [max(1 - record["accuracy"], LEAST) for record in run["records"]],
                dash, color=colour,
            )  # fmt: skip
    for k in range(2):
        panels[k].set(ylim=(0, None), ylabel="1/δ at LFR = ½", title=f"{PLACES[k]} dense layer")
    wanted = results["setting"]["accuracy"]
    panels[2].axhline(1 - wanted, color="#7f7f7f", lw=0.9)
    panels[2].set(yscale="log", ylabel="share of training images", title="not right yet")
    panels[2].text(0.98, 1 - wanted, f"{wanted:.0%} right", ha="right", va="bottom", fontsize=8,
                   transform=panels[2].get_yaxis_transform())  # fmt: skip
    figure.supxlabel("epoch; a line a seed", fontsize=9)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def label_of(variant: dict[str, Any]) -> str:
    """Name of a variant."""
    blocks = variant["blocks"]
    return f"ResNet18−{variant['variant']}, {blocks} block{'' if blocks == 1 else 's'}"
