"""What was asked of multigrid, and whether these numbers meet it."""

from typing import Any

Row = dict[str, Any]


def verdict(
    rows: list[Row], passes: list[Row], factors: list[Row], contrasts: list[Row]
) -> list[dict[str, Any]]:
    """One line a demand: the number, the bound, the goal, and where it was measured."""
    lines = [*_speed(rows), *_direct(rows), *_full(passes)]
    lines += [_line("Multigrid(): first call less a warm one, s", row["compile_seconds"],
                    most=4.0, size=row["size"], at=1023)
              for row in _largest(rows, "rough_2d", "multigrid", at=1023)]  # fmt: skip
    bounded = [row for row in factors if row["met"] is not None]
    if bounded:
        worst = max(bounded, key=lambda row: row["measured"] / row["bound"])
        where = f"{' × '.join(map(str, worst['sizes']))}, {worst['sides']}"
        text = f"factor, the one nearest to its bound of {len(bounded)} ({where})"
        lines.append(_line(text, worst["measured"], most=worst["bound"]))
    failed = [row for row in contrasts if row["status"] != "converged"]
    if contrasts:
        lines.append(_line("jumps of 1e6: seeds that did not converge", len(failed), most=0))
    return lines


def _speed(rows: list[Row]) -> list[dict[str, Any]]:
    """Seconds of the others in those of ours, to a relative residual of 1e-8."""
    lines = []
    for row in _largest(rows, "rough_2d", "multigrid", at=1023):
        size = row["size"]
        for other, least, goal in (("pyamg", 10.0, 15.0), ("sine", 0.25, 0.5)):
            text = {"pyamg": "times as fast as pyamg, its set-up left out",
                    "sine": "of the speed of SciPy's sine transform"}[other]  # fmt: skip
            number = _ratio(_find(rows, "rough_2d", size, other), row)
            lines.append(_line(f"Multigrid() to 1e-8: {text}", number, least=least, goal=goal,
                               size=size, at=1023))  # fmt: skip
    return lines


def _direct(rows: list[Row]) -> list[dict[str, Any]]:
    lines = []
    for row in rows:
        if row["case"] == "rough_2d" and row["solver"] == "direct" and row["size"] >= 511:
            number = _ratio(_find(rows, "rough_2d", row["size"], "sine"), row)
            text = "FastDiagonalization() of the speed of SciPy's sine transform"
            lines.append(_line(text, number, least=0.9, size=row["size"]))
    return lines


def _full(passes: list[Row]) -> list[dict[str, Any]]:
    lines = []
    for row in passes:
        if row["case"] == "smooth_3d" and row["size"] == max(
            r["size"] for r in passes if r["case"] == "smooth_3d"
        ):
            speed = row["unknowns_per_second"] / 1e6
            text = "full multigrid, one pass, 3-D: million unknowns/s"
            lines.append(_line(text, speed, least=25.0, size=row["size"], at=127))
    for name in sorted({row["case"] for row in passes}):
        worst = max((row for row in passes if row["case"] == name), key=lambda row: row["ratio"])
        text = f"full multigrid, one pass, {name}: error in discretisation errors, worst"
        lines.append(_line(text, worst["ratio"], most=1.3, size=worst["size"]))
    return lines


def _line(
    text: str,
    number: float | None,
    *,
    least: float | None = None,
    most: float | None = None,
    goal: float | None = None,
    size: int | None = None,
    at: int | None = None,
) -> dict[str, Any]:
    """`met` is None where there is no number, or not at the size that the bound is for."""
    met = None
    if number is not None and (at is None or size == at):
        met = number >= least if least is not None else most is None or number <= most
    return {"demand": text, "size": size, "number": number, "least": least, "most": most,
            "goal": goal, "met": met}  # fmt: skip


def _find(rows: list[Row], case: str, size: int, solver: str) -> Row | None:
    wanted = (case, size, solver)
    found = [row for row in rows if (row["case"], row["size"], row["solver"]) == wanted]
    return found[0] if found else None


def _largest(rows: list[Row], case: str, solver: str, *, at: int) -> list[Row]:
    """The row of size `at`, or else of the largest size that ran; empty if there is none."""
    ran = [r for r in rows if (r["case"], r["solver"]) == (case, solver) and converged_seconds(r)]
    exact = [row for row in ran if row["size"] == at]
    return exact or sorted(ran, key=lambda row: row["size"])[-1:]


def _ratio(other: Row | None, ours: Row | None) -> float | None:
    seconds = converged_seconds(other), converged_seconds(ours)
    return seconds[0] / seconds[1] if seconds[0] and seconds[1] else None


def converged_seconds(row: Row | None) -> float | None:
    """Of a row that is there and has met the tolerance."""
    return row["seconds"] if row is not None and row["status"] == "converged" else None
