"""What came out, in words: a line for each problem, also where the hybrid loses."""

from typing import Any

import numpy as np

Row = dict[str, Any]
CLASSICAL = {"sor": "best over-relaxation", "cg": "conjugate gradients", "multigrid": "multigrid",
             "direct": "the direct solver",
             "direct_cg": "conjugate gradients with a direct solver"}  # fmt: skip


def ratio_to_jacobi(row: Row) -> list[float]:
    """How many times sooner the scheduler's hybrid is there than Jacobi alone, seed by seed."""
    return [seed["zero"] / seed["scheduler"] for seed in row["seeds"]]


def regrets(row: Row) -> list[float]:
    return [seed["regret"] for seed in row["seeds"]]


def number(value: float | None) -> float:
    """What JSON has no word for: null is what was given up, infinitely long."""
    return np.inf if value is None else value


def median_seconds(row: Row, name: str) -> float:
    """Of the scheduler's hybrid, the median over the seeds."""
    return float(np.median([number(seed[name]) for seed in row["seeds"]]))


def way_seconds(row: Row, solver: str, way: str) -> float | None:
    """The median over the seeds; infinite where most gave up, None where it was not run."""
    found = [seed["ways"][solver].get(way) for seed in row["seeds"]]
    if any(cell is None for cell in found):
        return None
    return float(np.median([number(cell["seconds"]) for cell in found]))


def verdict(row: Row) -> str:
    """One problem's outcome in two or three sentences."""
    size = " × ".join(map(str, row["intervals"]))
    return f"{row['title']}, {size}: {_against_jacobi(row)} {_network(row)} {_classical(row)}"


def summary(rows: list[Row]) -> str:
    """The regret over all problems and seeds, and how often training paid."""
    seeds = [seed for row in rows for seed in row["seeds"]]
    found = [seed["regret"] for seed in seeds]
    lost = [seed["scheduler"] * (1 - 1 / seed["regret"]) for seed in seeds]
    trained = [seed for seed in seeds if seed["trained"]]
    return (
        f"Regret over {len(found)} trainings on {len(rows)} problems: median "
        f"{np.median(found):.3g}, worst {max(found):.3g}; that is {np.median(lost):.2g} s lost in "
        f"the median, {max(lost):.2g} s at worst. The scheduler trained in {len(trained)} of them."
    )


def _against_jacobi(row: Row) -> str:
    ratios = ratio_to_jacobi(row)
    trained = sum(seed["trained"] for seed in row["seeds"])
    if trained == 0:
        return f"no training, which costs {1 / np.median(ratios) - 1:.1%} of Jacobi's seconds."
    sooner = np.median(ratios)
    word = f"{sooner:.3g} times sooner" if sooner >= 1 else f"{1 / sooner:.3g} times later"
    return f"the hybrid is there {word} than Jacobi alone ({trained} of {len(ratios)} trained)."


def _network(row: Row) -> str:
    """What training added to the same way without it."""
    pairs = (("Galerkin", "galerkin"), ("deflation", "deflation"))
    words = []
    for label, way in pairs:
        with_it = way_seconds(row, "jacobi", way)
        twins = {
            "untrained features": way_seconds(row, "jacobi", f"{way}_untrained"),
            "plain modes": way_seconds(row, "jacobi", f"{way}_modes"),
        }
        known = {name: t for name, t in twins.items() if t is not None}
        if with_it is None or not known:
            continue
        name = min(known, key=lambda n: known[n])
        best = known[name]
        if not np.isfinite(min(with_it, best)):
            words.append(f"{label} gave up with and without training")
        elif best <= with_it:
            words.append(f"{label} needs no training: {name} take {best:.2g} s, not {with_it:.2g}")
        else:
            other = f"{best:.2g} s" if np.isfinite(best) else "far longer"
            words.append(f"training helps {label}: {with_it:.2g} s, {name} {other}")
    return "; ".join(words) + "."


def _classical(row: Row) -> str:
    found = {name: row["zero"][name] for name in CLASSICAL if name in row["zero"]}
    best = min(found, key=lambda name: found[name])
    hybrid = median_seconds(row, "scheduler")
    if found[best] < hybrid:
        agrees = "as advise says before any training"
        if row["advice"]["seconds"] >= hybrid:
            agrees = "which advise did not foresee"
        return (
            f"The hybrid loses: {found[best]:.2g} s by {CLASSICAL[best]}, "
            f"{hybrid / found[best]:.3g} times less, {agrees}."
        )
    return f"The hybrid wins: {found[best]:.2g} s by {CLASSICAL[best]}, the best classical solver."
