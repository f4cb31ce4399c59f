"""The two figures of the benchmark."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.figures import STYLE, save_all
from benchmarks.handoff.verdict import median_seconds, regrets, way_seconds

Row = dict[str, Any]
# Colours of Okabe and Ito.
CURVES = {
    "jacobi": ("Jacobi alone", "#000000", "-"),
    "network": ("network alone", "#E69F00", "-"),
    "hybrid": ("hybrid, from the handover on", "#D55E00", "-"),
}
POINTS = {
    "sor": ("best over-relaxation", "#7f7f7f", "x"),
    "cg": ("conjugate gradients", "#0072B2", "v"),
    "multigrid": ("multigrid", "#009E73", "s"),
    "direct": ("direct", "#000000", "*"),
    "direct_cg": ("conjugate gradients, direct", "#CC79A7", "P"),
}
SCHEDULED = {
    "scheduler": ("hybrid, by the scheduler", "#D55E00", "o"),
    "scheduled_alone": ("hybrid, not combined", "#D55E00", "x"),
}
WAYS = {
    "galerkin": ("Galerkin", "#0072B2", "s"),
    "galerkin_untrained": ("Galerkin, untrained", "#0072B2", "x"),
    "galerkin_modes": ("Galerkin, modes", "#0072B2", "+"),
    "deflation": ("deflation", "#009E73", "D"),
    "deflation_untrained": ("deflation, untrained", "#009E73", "x"),
    "deflation_modes": ("deflation, modes", "#009E73", "+"),
}


def draw_all(rows: list[Row], output: Path) -> list[Path]:
    with plt.rc_context(STYLE):
        drawn = {"error_against_seconds": errors(rows), "regret_and_ways": regret_and_ways(rows)}
        return save_all(drawn, output)


def errors(rows: list[Row]) -> Any:
    """A panel a problem: error against seconds, seed 0, and where the others are done."""
    columns = min(4, len(rows))
    lines = -(-len(rows) // columns)
    figure, panels = plt.subplots(
        lines, columns, figsize=(3.1 * columns, 2.4 * lines + 0.6), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for axes, row in zip(panels.flat, rows, strict=False):
        for name, (label, colour, dash) in CURVES.items():
            curve = row["curves"][name]
            seconds = np.maximum(curve["seconds"], 1e-4)
            axes.plot(seconds, curve["error"], dash, color=colour, label=label)
        for name, (label, colour, marker) in POINTS.items():
            if name in row["zero"]:
                axes.plot([row["zero"][name]], [row["target"]], marker, color=colour, label=label)
        axes.axhline(row["target"], color="black", lw=0.8, ls=(0, (5, 5)))
        size = "×".join(map(str, row["intervals"]))
        axes.set(xscale="log", yscale="log", ylim=(None, 3))
        axes.set_title(f"{row['problem']}, {size}", fontsize=8)
    for axes in panels.flat[len(rows) :]:
        axes.set_axis_off()
    figure.supxlabel("seconds, all charged but compilation", fontsize=9)
    figure.supylabel("max|u − u_h| relative to max|u|", fontsize=9)
    handles = {}
    for axes in panels.flat:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=4, fontsize=8)
    return figure


def regret_and_ways(rows: list[Row]) -> Any:
    """Left: the regret of every seed. Right: ways into Jacobi, in seconds of Jacobi from zero."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 0.3 * len(rows) + 2.4), layout="constrained", sharey=True
    )
    places = np.arange(len(rows))[::-1]
    for place, row in zip(places, rows, strict=True):
        left.plot(regrets(row), [place] * len(row["seeds"]), "o", color="#D55E00", alpha=0.6, ms=5)
        found = {name: median_seconds(row, name) for name in SCHEDULED}
        found |= {name: way_seconds(row, "jacobi", name) for name in WAYS}
        for name, (_, colour, marker) in (SCHEDULED | WAYS).items():
            seconds = found[name]
            if seconds is not None and np.isfinite(seconds):
                share = seconds / row["zero"]["jacobi"]
                right.plot([share], [place], marker, color=colour, ms=6)
    for bound, dash in ((1.0, "-"), (1.05, "--"), (1.3, ":")):
        left.axvline(bound, color="#7f7f7f", lw=0.9, ls=dash)
    left.set_yticks(places, [row["problem"] for row in rows])
    left.set(xlabel="regret of the scheduler, a dot a seed; lines at 1, 1.05, 1.3", xscale="log")
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_formatter("{x:g}")
    right.axvline(1, color="#7f7f7f", lw=0.9)
    right.set(xscale="log", xlabel="seconds in those of Jacobi alone, medians of the seeds")
    for label, colour, marker in (SCHEDULED | WAYS).values():
        right.plot([], [], marker, color=colour, label=label)
    figure.legend(loc="outside right center", fontsize=8)
    return figure
