"""What came out, in words."""

from benchmarks.devices.fields import SOLVERS, Row
from benchmarks.devices.merging import Run, compared
from benchmarks.devices.tables import failures, speed_up, succeeded


def verdict(runs: list[Run], names: list[str], own: int) -> list[str]:
    """Sentences: which backends there are, each device by itself, and each against the first."""
    lines = [_backends(runs, names, own)]
    lines += [_alone(run, name) for run, name in zip(runs, names, strict=True)]
    pairs = zip(runs[1:], names[1:], strict=True)
    return lines + [_against(runs[0], run, (names[0], name)) for run, name in pairs]


def _backends(runs: list[Run], names: list[str], own: int) -> str:
    if own == 0:
        return f"Nothing was measured here; {_columns(len(runs))} from the added files."
    found, missing = (runs[0]["backends"].get(name, []) for name in ("found", "missing"))
    count = "one backend" if len(found) == 1 else f"{len(found)} backends"
    none = f", but no {' or '.join(missing)}" if missing else ""
    here = f"JAX finds {count} here, {' and '.join(found)}{none}."
    if own < len(found):
        here += f" Measured, as asked: {runs[0]['platform']}."
    if len(runs) == 1:
        return (
            f"{here} So there is one column, {names[0]}; --add puts the results.json of another "
            "machine beside it."
        )
    added = len(runs) - own
    return f"{here} {_columns(added)} from added files." if added else here


def _columns(count: int) -> str:
    return f"{count} column{'s' if count > 1 else ''} {'are' if count > 1 else 'is'}"


def _alone(run: Run, name: str) -> str:
    """How near the sweeps come to the memory's bandwidth, and the fastest solver."""
    words = []
    for (ndim, precision), rows in sorted(_largest(run["rows"]).items(), key=lambda pair: pair[0]):
        sweeps = [r for r in rows if r["part"] == "sweeps" and r["bandwidth_fraction"] is not None]
        solves = [row for row in rows if row["part"] == "solves" and succeeded(row)]
        told = [_shares(sweeps)] if sweeps else []
        if solves:
            best = min(solves, key=lambda row: row["seconds"])
            speed = best["unknowns_per_second"] / 1e6
            told.append(f"fastest solver {best['label']}, {speed:.3g} million unknowns/s")
        if told:
            size = f"{ndim}-D, {rows[0]['intervals']} intervals, {precision}"
            words.append(f"{size}: {', '.join(told)}")
    bad = len(failures(run))
    words += [f"{bad} kind{'s' if bad > 1 else ''} of failure, listed above"] if bad else []
    return f"{name}: {'; '.join(words)}." if words else f"{name}: nothing to tell."


def _shares(sweeps: list[Row]) -> str:
    shares = sorted((row["bandwidth_fraction"], row["label"].split(",")[0]) for row in sweeps)
    low, high = (f"{share:.0%} ({label})" for share, label in (shares[0], shares[-1]))
    cached = ", above 100% by its caches" if shares[-1][0] > 1 else ""
    return f"sweeps at {low} to {high} of the memory's bandwidth{cached}"


def _largest(rows: list[Row]) -> dict[tuple[int, str], list[Row]]:
    """The solvers' rows of the largest grid with a number, by dimension and precision."""
    by_kind: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        if row["part"] in SOLVERS and row["seconds"] is not None:
            by_kind.setdefault((row["ndim"], row["precision"]), []).append(row)
    return {
        kind: [row for row in found if row["intervals"] == max(r["intervals"] for r in found)]
        for kind, found in by_kind.items()
    }


def _against(first: Run, other: Run, names: tuple[str, str]) -> str:
    """One device in the seconds of another: on the largest grids of both, and with a network."""
    found = _ratios(first, other)
    words = []
    for ndim, precision in dict.fromkeys((r["ndim"], r["precision"]) for r, _ in found["solvers"]):
        kind = [
            (r, x) for r, x in found["solvers"] if (r["ndim"], r["precision"]) == (ndim, precision)
        ]
        largest = max(row["intervals"] for row, _ in kind)
        own = [(row, ratio) for row, ratio in kind if row["intervals"] == largest]
        words.append(f"{ndim}-D, {largest} intervals, {precision}: {_times(own)}")
    words += [f"training: {_times(found['training'])}"] if found["training"] else []
    words += [f"the hybrid: {_times(found['hybrid'])}"] if found["hybrid"] else []
    told = "; ".join(words) or "no row in common"
    return f"{names[1]} against {names[0]}: {told}."


def _ratios(first: Run, other: Run) -> dict[str, list[tuple[Row, float]]]:
    """How many times as fast the other one is, for each row that both have done."""
    found: dict[str, list[tuple[Row, float]]] = {"solvers": [], "training": [], "hybrid": []}
    for (part, *_), (one, two) in compared([first, other]):
        ratio = speed_up(one, two)
        if one is not None and ratio is not None:
            found[part if part in found else "solvers"].append((one, ratio))
    return found


def _times(found: list[tuple[Row, float]]) -> str:
    """From the least to the most times as fast, with the methods; what is slower is said."""
    low, high = (pick(found, key=lambda pair: pair[1]) for pick in (min, max))
    if len(found) == 1:
        return f"{low[1]:.3g} times as fast"
    span = f"{low[1]:.3g} ({low[0]['label']}) to {high[1]:.3g} ({high[0]['label']}) times as fast"
    slower = sum(ratio < 1 for _, ratio in found)
    return span + (f", slower for {slower} of {len(found)}" if slower else "")
