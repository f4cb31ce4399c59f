"""Where the ratio density function of a sine has its peak, against what is derived.

sin(kπx), k = 1, 3, 5, 9, on 1001 samples of [−1, 1] by Gaussian filters of 200 geometric variances;
and on a line so long that LFR = exp(−k²π²δ), whose derivative by 1/δ is largest at k²π²/2.

Reference: Xu, Zhou 2021, "Deep frequency principle towards understanding why deeper learning is
faster", AAAI, arXiv 2007.14313, figure 2.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from benchmarks.frequency.experiment import Claim, Report, Settings
from benchmarks.frequency.watching import part_of
from nets import low_frequency_ratio, ratio_density

NAME = "rdf"
TITLE = "LFR and RDF of sines"
# Derived for 1001 samples of [−1, 1]: 1/δ of the peak for each k.
EXPECTED = {1: 1.8, 3: 33.0, 5: 104.0, 9: 356.0}
TOLERANCE = 0.1
RANGE = (2e-4, 10)  # of δ
# Of LFR on the long line: its ends, where a filter sees one side only, are 0.016 of it at k = 1.
LINE_TOLERANCE = 0.02
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00")
DASHES = ("-", "--", "-.", ":")


class Setting(NamedTuple):
    """How finely the functions and their filters are sampled."""

    variances: int = 200
    samples: int = 1001
    line_half_length: float = 20.0
    line_samples: int = 3001


SETTING = Setting()


def run(settings: Settings, report: Report) -> dict[str, Any]:
    """LFR and RDF of each sine; there is no training, and no chance."""
    del settings
    deltas = np.geomspace(*RANGE, SETTING.variances)
    rows = []
    for i, k in enumerate(EXPECTED):
        share = part_of(report, i, len(EXPECTED))
        rows.append(_sine(k, deltas))
        share(1.0)
    return {
        "setting": SETTING._asdict(),
        "variances": deltas.tolist(),
        "sines": rows,
        "claims": claims(rows),
        "table": _table(rows),
    }


def _sine(k: int, deltas: np.ndarray) -> dict[str, Any]:
    """Everything about sin(kπx)."""
    short = _ratios(k, 1.0, SETTING.samples, deltas)
    density = ratio_density(deltas, short)
    exact = np.exp(-((k * np.pi) ** 2) * deltas)
    line = _ratios(k, SETTING.line_half_length, SETTING.line_samples, deltas)
    return {
        "k": k,
        "ratios": short.tolist(),
        "inverse_variances": density.inverse_variances.tolist(),
        "density": density.values.tolist(),
        "peak": float(density.peak),
        "expected": EXPECTED[k],
        "line_ratios": line.tolist(),
        "line_peak": float(ratio_density(deltas, line).peak),
        "line_expected": (k * np.pi) ** 2 / 2,
        "line_difference": float(np.max(np.abs(line - exact))),
    }


def _ratios(k: int, half_length: float, samples: int, deltas: np.ndarray) -> np.ndarray:
    x = np.linspace(-half_length, half_length, samples)
    return np.asarray(low_frequency_ratio(x[:, None], np.sin(k * np.pi * x), jnp.asarray(deltas)))


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Peaks within 10 % of what is derived, and LFR on the long line."""
    near = tuple(abs(row["peak"] / row["expected"] - 1) <= TOLERANCE for row in rows)
    same = tuple(row["line_difference"] <= LINE_TOLERANCE for row in rows)
    places = ", ".join(f"{value:g}" for value in EXPECTED.values())
    names = ", ".join(map(str, EXPECTED))
    return [
        Claim(
            f"RDF of sin(kπx), k = {names}, peaks within {TOLERANCE:.0%} of 1/δ = {places}",
            near, "frequencies",
        ),
        Claim(
            f"on a long line LFR differs from exp(−k²π²δ) by at most {LINE_TOLERANCE:g}",
            same, "frequencies",
        ),
    ]  # fmt: skip


def _table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    keys = ("peak", "expected", "line_peak", "line_expected", "line_difference")
    return {
        "title": "1/δ at the peak of RDF",
        "columns": ["function", "on [−1, 1]", "derived", "long line", "k²π²/2", "LFR differs by"],
        "rows": [[_name(row["k"]), *(row[key] for key in keys)] for row in rows],
    }


def _name(k: int) -> str:
    return f"sin {k if k > 1 else ''}πx"


def draw(results: dict[str, Any]) -> dict[str, Figure]:
    """LFR above, RDF below, against 1/δ, with the derived peaks."""
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(8, 6.4), sharex=True, layout="constrained", height_ratios=(1, 1.1)
    )
    inverse = 1 / np.array(results["variances"])
    for row, colour, dash in zip(results["sines"], COLOURS, DASHES, strict=True):
        label = _name(row["k"])
        top.plot(inverse, row["ratios"], dash, color=colour, label=label)
        top.plot(inverse, np.exp(-((row["k"] * np.pi) ** 2) / inverse), color=colour, lw=0.6)
        shape = np.array(row["density"]) / np.max(row["density"])
        bottom.plot(row["inverse_variances"], shape, dash, color=colour, label=label)
        bottom.axvline(row["expected"], color=colour, lw=0.8)
        bottom.text(row["expected"], 1.03, f" {row['expected']:g}", color=colour, fontsize=8)
    top.set(ylabel="LFR", title="LFR on [−1, 1]; thin: exp(−k²π²δ), an infinite line")
    bottom.set(xscale="log", ylim=(-0.05, 1.15), xlabel="1/δ", ylabel="RDF / its largest value")
    bottom.set_title(
        "RDF on [−1, 1]; upright: the derived peaks; bumps near 1: the interval's ends"
    )
    top.legend(fontsize=8, loc="lower right")
    return {"rdf": figure}
