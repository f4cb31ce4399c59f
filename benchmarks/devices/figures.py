"""The two figures of the comparison of devices."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.devices.backends import PRECISIONS
from benchmarks.devices.fields import SOLVERS, Row
from benchmarks.devices.merging import Run, compared
from benchmarks.devices.tables import succeeded
from benchmarks.figures import STYLE, save_all

# A colour of Okabe and Ito and a marker for each device; after eight they start again.
DEVICES = (
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#E69F00", "v"),
    ("#56B4E9", "P"),
    ("#000000", "X"),
    ("#7f7f7f", "<"),
)
KINDS = [(ndim, dtype.name) for ndim in (2, 3) for dtype in PRECISIONS]


def draw_all(runs: list[Run], names: list[str], output: Path) -> list[Path]:
    with plt.rc_context(STYLE):
        drawn = {"solvers": _solvers(runs, names), "compiling_and_networks": _others(runs, names)}
        return save_all(drawn, output)


def _solvers(runs: list[Run], names: list[str]) -> Figure:
    """Speed and share of the bandwidth by method, a panel for each dimension and precision."""
    labels = _labels(runs, SOLVERS)
    figure, panels = plt.subplots(
        2, len(KINDS), figsize=(13, 1.6 + 0.62 * len(labels) + 0.25 * len(runs)),
        layout="constrained", sharey=True, sharex="row",
    )  # fmt: skip
    for column, kind in enumerate(KINDS):
        rows = [_rows(run, SOLVERS, kind) for run in runs]
        speed, share = panels[:, column]
        _dots(speed, labels, rows, "unknowns_per_second")
        _dots(share, labels, rows, "bandwidth_fraction")
        speed.set_title(f"{kind[0]}-D, {kind[1]}{_sizes(rows, kind[0])}", fontsize=9)
        speed.set_xlabel("unknowns/s, of a sweep or a whole solve")
        share.set_xlabel("least traffic/s, of the triad's (dashed)")
        share.axvline(1, color="black", lw=0.9, ls=(0, (5, 5)))
    panels[0, 0].set_xscale("log")
    panels[1, 0].set_xlim(left=0)
    figure.supxlabel("A marker for each grid, the larger the finer. Beyond the dashed line it is "
                     "caches that help. Compilation is apart.", fontsize=9)  # fmt: skip
    _legend(figure, names)
    return figure


def _others(runs: list[Run], names: list[str]) -> Figure:
    """Compilation by method, training steps per second, and the hybrid."""
    figure, panels = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained",
                                  width_ratios=(1, 1, 0.8))  # fmt: skip
    kinds = (SOLVERS, ("training",), ("hybrid",))
    values = ("compile_seconds", "steps_per_second", "seconds")
    titles = (
        "seconds of compilation: first call less a warm one",
        "training steps per second",
        "seconds of the hybrid",
    )
    for axes, parts, value, title in zip(panels, kinds, values, titles, strict=True):
        rows = [_rows(run, parts) for run in runs]
        _dots(axes, _labels(runs, parts), rows, value,
              of_all_grids=value == "compile_seconds")  # fmt: skip
        axes.set(xscale="log")
        axes.set_title(title, fontsize=9)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    _hybrids(panels[2], [_rows(run, ("hybrid",)) for run in runs])
    panels[0].set_xlabel("a marker for each grid and precision", fontsize=8)
    _legend(figure, names)
    return figure


def _hybrids(axes: Axes, rows: list[list[Row]]) -> None:
    """Every network of the hybrid, and what Jacobi alone would take."""
    for own, (colour, _), offset in zip(rows, _styles(len(rows)), _offsets(len(rows)), strict=True):
        for row in own:
            if row["all_seconds"]:
                axes.plot(row["all_seconds"], [offset] * len(row["all_seconds"]), "|",
                          color=colour, ms=12)  # fmt: skip
            if row["jacobi_predicted_seconds"] is not None:
                axes.plot([row["jacobi_predicted_seconds"]], [offset], "x", color=colour, ms=7)
    axes.set_xlabel("| a network, ● their median,\n× Jacobi alone from zero, predicted", fontsize=8)


def _rows(run: Run, parts: tuple[str, ...], kind: tuple[int, str] | None = None) -> list[Row]:
    rows = [row for row in run["rows"] if row["part"] in parts]
    return [row for row in rows if kind is None or (row["ndim"], row["precision"]) == kind]


def _labels(runs: list[Run], parts: tuple[str, ...]) -> dict[str, str]:
    """Method and label, in the order of the tables; the first stands uppermost."""
    found = {}
    for (part, *_, method), rows in compared(runs):
        if part in parts:
            row = next(row for row in rows if row is not None)
            label = row["label"]
            if part not in SOLVERS:
                more = f"{row['problem']}, {row['ndim']}-D, {row['precision']}"
                label = f"{label.replace(', ', chr(10))}\n{more}"
            found.setdefault(method, label)
    return found


def _intervals(rows: list[list[Row]], ndim: int) -> list[int]:
    return sorted({row["intervals"] for own in rows for row in own if row["ndim"] == ndim})


def _sizes(rows: list[list[Row]], ndim: int) -> str:
    sizes = _intervals(rows, ndim)
    return ": " + ", ".join(map(str, sizes)) + " intervals" if sizes else ": not measured"


def _dots(
    axes: Axes,
    labels: dict[str, str],
    rows: list[list[Row]],
    value: str,
    *,
    of_all_grids: bool = False,
) -> None:
    """A band for each method, in it every device's numbers; words where there are none.

    Markers grow with the grid, but for what is `of_all_grids`.
    """
    places = dict(zip(labels, range(len(labels))[::-1], strict=True))
    sizes = {ndim: _intervals(rows, ndim) for ndim in (1, 2, 3)}
    for own, (colour, marker), offset in zip(
        rows, _styles(len(rows)), _offsets(len(rows)), strict=True
    ):
        for row in own:
            place = places[row["method"]] + offset
            if row[value] is not None:
                own_sizes = sizes[row["ndim"]]
                rank = (own_sizes.index(row["intervals"]) + 1) / len(own_sizes)
                rank = 0.5 if of_all_grids else rank
                axes.plot([row[value]], [place], marker, color=colour, ms=3 + 4 * rank,
                          mec="black", mew=0.4)  # fmt: skip
            if not succeeded(row) and not of_all_grids:
                axes.text(0.01, place, row["status"], color=colour, fontsize=6, va="center",
                          transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_yticks(list(places.values()), list(labels.values()))
    axes.set_ylim(-0.5, len(labels) - 0.5)
    axes.grid(visible=False, axis="y")
    for place in list(places.values())[::2]:
        axes.axhspan(place - 0.5, place + 0.5, color="#f2f2f2", zorder=0)


def _styles(count: int) -> list[tuple[str, str]]:
    return [DEVICES[i % len(DEVICES)] for i in range(count)]


def _offsets(count: int) -> Any:
    """Places of the devices about the line of a method, the first one uppermost."""
    return np.linspace(0.25, -0.25, count) if count > 1 else np.zeros(1)


def _legend(figure: Figure, names: list[str]) -> None:
    handles = [Line2D([], [], marker=marker, color=colour, ls="", ms=7, mec="black", mew=0.4)
               for colour, marker in _styles(len(names))]  # fmt: skip
    figure.legend(handles, names, loc="outside upper center", ncols=min(4, len(names)))
