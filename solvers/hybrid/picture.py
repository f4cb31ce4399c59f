"""The trace of a hybrid as a picture."""

from typing import TYPE_CHECKING

import numpy as np

from solvers.hybrid.scheduler import SPENT, Handoff
from solvers.hybrid.session import Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 6


def draw(trace: list[Look], handoff: Handoff) -> "Figure":
    """Seconds that remain, and the error in the smoothest modes, against the seconds charged.

    Args:
        trace: the looks.
        handoff: the decision, a vertical line; below the dashed line the pace at which the price
            falls decides whether it is worth going on.

    Returns:
        a figure of two panels; `figure.savefig(path)` writes it.
    """
    from matplotlib.figure import Figure  # a third of a second, for those who draw

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    seconds = np.array([look.seconds for look in trace])
    remaining = np.array([look.remaining_seconds for look in trace])
    left.plot(seconds, remaining, "o-", color="#D55E00", markersize=3, label="remaining, R")
    label = "two thirds of the seconds charged"
    left.plot(seconds, SPENT * seconds, "--", color="#7f7f7f", label=label)
    left.set(ylabel="seconds of relaxation to come", title="Price of handing over now")
    rows = [np.abs(look.amplitudes[:SHOWN]) for look in trace]
    colours = np.linspace(0, 0.85, SHOWN)
    for k, values in enumerate(zip(*rows, strict=True)):
        # Grey levels and widths, so that it prints.
        colour = str(colours[k])
        right.plot(
            seconds,
            values,
            "o-",
            color=colour,
            markersize=3,
            linewidth=2.2 - 0.3 * k,
            label=f"mode {k + 1}",
        )
    right.set(ylabel="|error| in the mode", title="Smoothest modes of the error")
    for axes in (left, right):
        axes.axvline(handoff.seconds, color="#0072B2", linewidth=1, label="handed over")
        axes.set(
            xlabel="seconds charged", yscale="log" if np.isfinite(remaining).any() else "linear"
        )
        axes.grid(alpha=0.3)
        if trace:
            axes.legend(fontsize=7)
        else:
            axes.text(0.5, 0.5, "no look was taken", ha="center", transform=axes.transAxes)
    return figure
