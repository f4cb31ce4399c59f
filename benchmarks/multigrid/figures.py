"""The two figures of the multigrid benchmark."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.figures import STYLE, save_all

# Colours of Okabe and Ito, a marker each, and dashes for what is not multigrid of ours.
LINES = {
    "multigrid": ("#D55E00", "o", "-"),
    "full": ("#009E73", "s", "-"),
    "full_to_discretization": ("#009E73", "D", "--"),
    "multigrid_cg": ("#0072B2", "^", "-"),
    "cg": ("#7f7f7f", "v", "-"),
    "direct": ("#000000", "*", "-"),
    "pyamg": ("#CC79A7", "P", "--"),
    "sine": ("#E69F00", "X", "--"),
    "sine_1": ("#E69F00", "x", "--"),
    "sine_2": ("#E69F00", "X", "--"),
}


def draw_all(results: dict[str, Any], output: Path) -> list[Path]:
    with plt.rc_context(STYLE):
        drawn = {}
        if results["curves"]:
            drawn["error_against_seconds"] = _errors(results)
        drawn["seconds_against_unknowns"] = _growth(results)
        return save_all(drawn, output)


def _errors(results: dict[str, Any]) -> Any:
    curves = results["curves"]
    figure, axes = plt.subplots(figsize=(8.5, 4.6), layout="constrained")
    for name, curve in curves["solvers"].items():
        colour, marker, dash = LINES[name]
        axes.plot(curve["seconds"], curve["errors"], dash, color=colour, marker=marker,
                  ms=11 if marker == "*" else 6, label=curve["label"])  # fmt: skip
    limit = curves["discretization_error"]
    axes.axhline(limit, color="black", lw=1, ls=(0, (5, 5)))
    axes.text(0.995, limit, "discretisation error", ha="right", va="top", fontsize=8,
              transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set(xscale="log", yscale="log", ylabel="maximum error against the exact solution")
    axes.set_xlabel("seconds of one solve, median; compilation and the set-up of dashed ones apart")
    size = curves["size"]
    axes.set_title(f"Smooth solution, {size} × {size} unknowns: a marker for every stop after "
                   "1, 2, 3, … steps")  # fmt: skip
    figure.legend(fontsize=8, loc="outside right center")
    return figure


def _growth(results: dict[str, Any]) -> Any:
    figure, pair = plt.subplots(1, 2, figsize=(10.5, 4.4), layout="constrained", sharey=True)
    titles = ("2-D", "3-D")
    for axes, case, title in zip(pair, ("rough_2d", "rough_3d"), titles, strict=True):
        _growth_of(axes, [row for row in results["rows"] if row["case"] == case])
        axes.set(xscale="log", yscale="log", xlabel="unknowns")
        axes.set_title(f"{title}, constant coefficients, rough right-hand side")
    pair[0].set_ylabel("seconds of one solve (median), to a relative residual of 1e-8")
    handles, labels = pair[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside right center")
    return figure


def _growth_of(axes: Axes, rows: list[dict[str, Any]]) -> None:
    for name, (colour, marker, dash) in LINES.items():
        own = [row for row in rows if row["solver"] == name and row["seconds"] is not None]
        if own:
            axes.plot([row["unknowns"] for row in own], [row["seconds"] for row in own], dash,
                      color=colour, marker=marker, label=_label(own[0]))  # fmt: skip


def _label(row: dict[str, Any]) -> str:
    if row["solver"] == "full_to_discretization":
        return f"{row['label']},\nnot to 1e-8: to the discretisation error"
    return row["label"].split(",")[0] if row["solver"] == "sine" else row["label"]
