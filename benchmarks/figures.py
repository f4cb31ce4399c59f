"""The four figures of the main job."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from benchmarks.race import TOLERANCES, Reference
from solvers import Jacobi, solve, spectrum
from solvers.iteration import with_budget

HIGHEST = 48
STYLE: Any = {"figure.dpi": 120, "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
# Colours that stay apart in print and for colour-blind readers (Okabe and Ito), and dashes.
LINES = {
    "jacobi": ("#000000", "-"),
    "gauss_seidel": ("#7f7f7f", "--"),
    "gauss_seidel_over_relaxed": ("#7f7f7f", ":"),
    "network": ("#E69F00", "-"),
    "hybrid_early": ("#56B4E9", "--"),
    "hybrid_good": ("#009E73", "-"),
    "hybrid_late": ("#CC79A7", "--"),
    "hybrid_scheduler": ("#D55E00", "-"),
    "hybrid_gauss_seidel": ("#0072B2", "-."),
    "conjugate_gradient": ("#7f7f7f", "-."),
    "direct": ("#000000", ""),
}


def draw_all(race: Any, results: dict[str, Any], output: Path) -> list[Path]:
    """Draw the figures into `output`; returns their paths."""
    with plt.rc_context(STYLE):
        drawn = {
            "a_solution": solution(race.ref),
            "b_network_by_frequency": network_by_frequency(race),
            "c_jacobi_by_frequency": jacobi_by_frequency(race),
            "d_error_against_seconds": error_against_seconds(race, results),
        }
        return save_all(drawn, output)


def save_all(drawn: dict[str, Figure], output: Path) -> list[Path]:
    """Write each figure under its name into `output`, and close it."""
    paths = []
    for name, figure in drawn.items():
        paths.append(output / f"{name}.png")
        figure.savefig(paths[-1])
        plt.close(figure)
    return paths


def solution(ref: Reference) -> Figure:
    """(a) The solution, and its amplitude by frequency."""
    grid = ref.case.problem.grid
    field = np.asarray(ref.case.problem.field(ref.exact))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    if grid.ndim == 1:
        left.plot(grid.nodes(0), field, color="black")
        left.set(xlabel="x", ylabel="u(x)")
    else:
        box = (grid.lower[0], grid.upper[0], grid.lower[1], grid.upper[1])
        image = left.imshow(field.T, origin="lower", extent=box, cmap="viridis")
        left.set(xlabel="x", ylabel="y")
        left.grid(visible=False)
        figure.colorbar(image, ax=left, label="u(x, y)")
    left.set_title(f"Solution: {ref.case.title}")
    amplitudes = _amplitudes(ref, ref.exact)
    right.stem(np.arange(1, HIGHEST + 1), amplitudes, basefmt=" ", linefmt="k-", markerfmt="k.")
    right.set(xlabel="frequency, half-waves per box", ylabel="amplitude", title="Its spectrum")
    right.set_yscale("log")
    right.set_ylim(1e-4 * amplitudes.max(), 2 * amplitudes.max())
    return figure


def network_by_frequency(race: Any) -> Figure:
    """(b) Error of the network by frequency over its training."""
    ref = race.ref
    grid = ref.case.problem.grid
    snapshots = [s for s in race.snapshots if s.step > 0]
    rows = [_amplitudes(ref, s.evaluate(grid)[grid.unknowns] - ref.discrete) for s in snapshots]
    title = "Network: error by frequency over its training"
    return _heat_map(ref, [s.step for s in snapshots], rows, "training step", title)


def jacobi_by_frequency(race: Any) -> Figure:
    """(c) Error of Jacobi from zero by frequency over its sweeps."""
    ref = race.ref
    first = race.relaxed[1][0] if len(race.relaxed) > 1 else 2**30
    steps, u, done = [], jnp.zeros_like(ref.exact), 0
    rows = []
    for count in [2**k for k in range(30) if 2**k < first]:
        method = with_budget(Jacobi(), count - done)
        u = solve(ref.case.problem, method, initial=u, throw=False).value
        done = count
        steps.append(count)
        rows.append(_amplitudes(ref, u - ref.discrete))
    for count, u in race.relaxed[1:]:
        steps.append(count)
        rows.append(_amplitudes(ref, u - ref.discrete))
    return _heat_map(ref, steps, rows, "sweep", "Jacobi: error by frequency over its sweeps")


def error_against_seconds(race: Any, results: dict[str, Any]) -> Figure:
    """(d) Every row, every handover, and the scheduler's choice."""
    ref = race.ref
    figure, axes = plt.subplots(figsize=(10.5, 5), layout="constrained")
    for name, track in race.tracks.items():
        colour, dash = LINES[name]
        seconds, errors = np.array(track.seconds), np.array(track.errors)
        shown = seconds <= race.cap
        if name == "direct":
            axes.plot(seconds, errors, "k*", markersize=11, label=track.label)
            continue
        width = 2.2 if name == "hybrid_scheduler" else 1.3
        label = track.label + ("" if shown.any() else f" (after {seconds[0]:.2g} s, not shown)")
        axes.plot(seconds[shown], errors[shown], dash, color=colour, lw=width, label=label)
        if track.handed_over is not None and track.handed_over <= race.cap:
            marker, size = ("*", 15) if name == "hybrid_scheduler" else ("o", 6)
            axes.plot(track.handed_over, errors[0], marker, color=colour, ms=size, mec="black")
    for tolerance in TOLERANCES:
        axes.axhline(tolerance, color="black", lw=0.4)
    limit = ref.discretization / ref.scale
    axes.axhline(limit, color="black", lw=1, ls=(0, (5, 5)))
    axes.text(0.995, limit, "discretisation error", ha="right", va="bottom", fontsize=8,
              transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="seconds, everything charged but compilation")
    axes.set_ylabel("maximum error relative to max|u|")
    ratio = results["speedup"]["to_1e-04"]
    found = (
        ""
        if ratio is None
        else f": to 1e-4 the scheduler's hybrid is {ratio:.2g} times as fast as Jacobi"
    )
    grid = ref.case.problem.grid
    size = " × ".join(map(str, grid.intervals))
    axes.set_title(f"{ref.case.title}, {size} intervals{found}\n(○ handover, ★ scheduler's)")
    handovers = [t.errors[0] for t in race.tracks.values() if t.handed_over is not None]
    # So that every handover is seen, also of networks that are better than the grid.
    axes.set_ylim(max(min([0.3 * limit, *(0.5 * e for e in handovers)]), 0.003 * limit), 3)
    figure.legend(fontsize=8, loc="outside right center")
    return figure


def _amplitudes(ref: Reference, u: Any) -> np.ndarray:
    """Amplitude at frequencies 1 … HIGHEST, relative to max|u|."""
    grid = ref.case.problem.grid
    found = spectrum.by_frequency(spectrum.modes(u, grid), grid, HIGHEST)
    return np.asarray(found)[1:] / ref.scale


def _heat_map(
    ref: Reference, steps: list[int], rows: list[np.ndarray], axis: str, title: str
) -> Figure:
    """Error by frequency (up) over steps (right), and the main frequencies as lines."""
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(9, 6), sharex=True, layout="constrained", height_ratios=(2, 1.3)
    )
    values = np.clip(np.array(rows).T, 1e-7, None)
    edges = np.sqrt(np.array(steps[1:]) * np.array(steps[:-1]))
    edges = np.concatenate([[steps[0] / 1.02], edges, [steps[-1] * 1.02]])
    frequencies = np.arange(0.5, HIGHEST + 1)
    mesh = top.pcolormesh(edges, frequencies, values, norm=LogNorm(1e-6, 1), cmap="magma_r")
    figure.colorbar(mesh, ax=top, label="error / max|u|", extend="both")
    top.set(ylabel="frequency, half-waves per box", title=title, xscale="log")
    top.grid(visible=False)
    content = _amplitudes(ref, ref.exact)
    main = sorted(np.argsort(content)[-4:])
    for i, style in zip(main, ("-", "--", "-.", ":"), strict=True):
        relative = np.array([row[i] for row in rows]) / content[i]
        bottom.plot(steps, relative, style, color=plt.get_cmap("viridis")(i / (max(main) + 4)),
                    label=f"{i + 1} half-waves")  # fmt: skip
    bottom.axhline(0.1, color="black", lw=0.5)
    bottom.set(xlabel=axis, ylabel="error / its own amplitude", yscale="log", ylim=(1e-6, 10))
    bottom.legend(fontsize=8, loc="lower left")
    return figure
