"""Steps to a given error, by the depth of the network and by the frequency of the target.

Target cos 3x + cos 5x on 201 samples of [−3.14, 3.14] for networks with 1 to 4 hidden layers of
equal width; then targets cos kx for one network. The publication prints no sizes.

Reference: Xu, Zhou 2021, "Deep frequency principle towards understanding why deeper learning is
faster", AAAI, arXiv 2007.14313, figure 1.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.frequency.experiment import Claim, Report, Settings
from benchmarks.frequency.watching import fits, median, part_of
from nets import MLP, Fit

NAME = "depth"
TITLE = "steps by depth and by frequency"
SEEDS = 5
X = np.linspace(-3.14, 3.14, 201)
LINE = "#0072B2"


class Setting(NamedTuple):
    """Networks, targets, and the loss at which a training ends."""

    depths: tuple[int, ...] = (1, 2, 3, 4)
    frequencies: tuple[int, ...] = (1, 2, 3, 4, 5)
    fixed_depth: int = 2
    width: int = 50
    rate: float = 1e-3
    loss: float = 1e-2
    steps: int = 20_000
    every: int = 200


FULL = Setting(width=200, rate=2e-4, loss=1e-3, steps=200_000)
QUICK = Setting()


def run(settings: Settings, report: Report) -> dict[str, Any]:
    """Train each kind of network on each target, from each seed."""
    setting = FULL if settings.is_full else QUICK
    kinds = [(depth, 0) for depth in setting.depths]
    kinds += [(setting.fixed_depth, k) for k in setting.frequencies]
    found = []
    for i, kind in enumerate(kinds):
        share = part_of(report, i, len(kinds))
        found.append(
            [
                _steps_needed(fit, part_of(share, seed, settings.seeds))
                for seed, fit in enumerate(_fits(setting, settings, *kind))
            ]
        )
    by_depth, by_frequency = found[: len(setting.depths)], found[len(setting.depths) :]
    return {
        "setting": setting._asdict(),
        "steps_by_depth": by_depth,
        "steps_by_frequency": by_frequency,
        "claims": claims(by_depth, by_frequency),
        "table": _table(setting, by_depth, by_frequency),
    }


def _fits(setting: Setting, settings: Settings, depth: int, k: int) -> Iterator[Fit]:
    """Of a depth and a frequency k, the target being cos kx, or cos 3x + cos 5x for k = 0."""
    return fits(
        settings,
        f"depth_{depth}_frequency_{k}",
        lambda rngs: MLP(1, (setting.width,) * depth, rngs=rngs),
        (X[:, None], np.cos(k * X) if k else np.cos(3 * X) + np.cos(5 * X)),
        optimizer=optax.adam(setting.rate),
        every=setting.every,
        max_steps=setting.steps,
        stop_at=setting.loss,
    )


def _steps_needed(fit: Fit, report: Report) -> int | None:
    """Train to the given loss; None if it was not reached."""
    step, is_reached = 0, False
    for snapshot in fit:
        step, is_reached = snapshot.step, snapshot.loss <= (fit.stop_at or 0)
        report(step / fit.max_steps)
    report(1.0)
    return step if is_reached else None


def claims(
    by_depth: Sequence[Sequence[int | None]], by_frequency: Sequence[Sequence[int | None]]
) -> list[Claim]:
    """Fewer steps with each added layer, more with each higher frequency.

    By the medians, for each pair of neighbours, and in each seed for all of them; a training that
    did not end counts as longer than those that did.
    """
    found = []
    for words, groups, counted in (
        ("steps fall with each added hidden layer", list(by_depth)[::-1], "layers added"),
        ("steps rise with the target's frequency", list(by_frequency), "frequencies raised"),
    ):
        medians = [median(group) for group in groups]
        pairs = tuple(_is_less(low, high) for low, high in pairwise(medians))
        seeds = tuple(
            all(_is_less(low, high) for low, high in pairwise(steps))
            for steps in zip(*groups, strict=True)
        )
        found.append(Claim(f"{words}, by the medians", pairs, counted))
        found.append(Claim(f"{words}, in each seed throughout", seeds))
    return found


def _is_less(low: float | None, high: float | None) -> bool:
    return low is not None and (high is None or low < high)


def _table(
    setting: Setting,
    by_depth: Sequence[Sequence[int | None]],
    by_frequency: Sequence[Sequence[int | None]],
) -> dict[str, Any]:
    sum_name = "cos 3x + cos 5x"
    kinds = [(f"{_layers(depth)}, {sum_name}", depth) for depth in setting.depths]
    names = [name for name, _ in kinds]
    names += [
        f"{_layers(setting.fixed_depth)}, cos {k if k > 1 else ''}x" for k in setting.frequencies
    ]
    groups = [*by_depth, *by_frequency]
    rows = [[name, _whole(median(g)), *g] for name, g in zip(names, groups, strict=True)]
    seeds = [f"seed {seed}" for seed in range(len(groups[0]))]
    title = f"Steps to a mean squared error of {setting.loss:g}, {setting.width} neurons a layer"
    return {"title": title, "columns": ["network, target", "median", *seeds], "rows": rows}


def _whole(steps: float | None) -> int | None:
    return None if steps is None else round(steps)


def _layers(depth: int) -> str:
    return f"{depth} hidden layer{'s' if depth > 1 else ''}"


def draw(results: dict[str, Any]) -> dict[str, Figure]:
    """Steps against depth, and against the frequency of the target."""
    setting = results["setting"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharey=True)
    _draw_steps(left, setting["depths"], results["steps_by_depth"], setting["steps"])
    _draw_steps(right, setting["frequencies"], results["steps_by_frequency"], setting["steps"])
    left.set(xlabel="hidden layers", title="Target cos 3x + cos 5x")
    left.set_ylabel(f"steps to a mean squared error of {setting['loss']:g}")
    right.set(xlabel="frequency k of the target cos kx")
    right.set_title(f"{_layers(setting['fixed_depth'])}, {setting['width']} neurons each")
    left.legend(fontsize=8)
    return {"depth": figure}


def _draw_steps(
    axes: Any, places: Sequence[int], groups: list[list[int | None]], most: int
) -> None:
    """Draw a dot a seed and the medians as a line; what did not end is a triangle at the limit."""
    medians = [median(group) for group in groups]
    axes.plot(places, [np.nan if m is None else m for m in medians], color=LINE, label="median")
    ended = [(place, n) for place, group in zip(places, groups, strict=True) for n in group if n]
    others = [p for p, group in zip(places, groups, strict=True) for n in group if n is None]
    if ended:
        axes.plot(*zip(*ended, strict=True), "o", color="black", alpha=0.5, ms=5, label="a seed")
    if others:
        axes.plot(others, [most] * len(others), "^", color="#D55E00", label="not reached")
    axes.set(yscale="log", xticks=list(places))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_minor_formatter("{x:,.0f}")
