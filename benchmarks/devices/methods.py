"""The methods: single sweeps of the relaxations, and whole solves."""

from collections.abc import Callable
from typing import Any, NamedTuple

from solvers import (
    Chebyshev,
    ConjugateGradient,
    FastDiagonalization,
    GaussSeidel,
    Jacobi,
    LineRelaxation,
    Multigrid,
    Refined,
)

DEGREE, FUSED = 3, 4
# A look at the residual only when all sweeps are done: it is the sweep that is timed.
NEVER = 2**20
SINGLE = 4  # bytes of a number of multigrid's cycles, which are in float32


class Method(NamedTuple):
    """A method, and the least that it has to move.

    Attributes:
        label: for people.
        make: the solver, of the dimension and the tolerance.
        traffic: bytes per unknown and step that memory has to move at least, of the dimension and
            the bytes of a number.
        is_sweep: whether a step is what is timed, and not a solve.
        has_tolerance: whether it goes on until the residual is small enough.
        in_pairs: whether it has twice the digits, and the tolerance of double precision.
        platform: the only one that has it, None where all have.
    """

    label: str
    make: Callable[[int, float], Any]
    traffic: Callable[[int, int], float]
    is_sweep: bool = False
    has_tolerance: bool = False
    in_pairs: bool = False
    platform: str | None = None


def _full(ndim: int) -> Multigrid:
    # In three dimensions one sweep before the correction leaves 1.7 discretisation errors.
    return Multigrid(pre=1 if ndim < 3 else 2, full=True, max_steps=1)


def _cycle(ndim: int) -> float:
    return 3 * SINGLE * Multigrid().work_units(ndim)


def _full_pass(ndim: int, size: int) -> float:
    return 3 * size * (_full(ndim).work_units(ndim) / (1 - 0.5**ndim) + 1)


# The least traffic takes every array that a pass over the grid needs as read once, and every one
# that it changes as written once; what is needed again within a pass stays in cache.
METHODS: dict[str, Method] = {
    "jacobi": Method(  # u and b read, u written
        "Jacobi, a sweep", lambda *_: Jacobi(check_every=NEVER), lambda _, size: 3 * size,
        is_sweep=True,
    ),
    "fused": Method(  # likewise, once for all of them
        f"Jacobi, one of {FUSED} fused sweeps",
        lambda *_: Jacobi(check_every=NEVER, fused=FUSED), lambda _, size: 3 * size / FUSED,
        is_sweep=True, platform="tpu",
    ),
    "red_black": Method(  # likewise, colour by colour
        "GaussSeidel, a sweep", lambda *_: GaussSeidel(check_every=NEVER),
        lambda _, size: 3 * size, is_sweep=True,
    ),
    "chebyshev": Method(  # also the direction, read and written but for its beginning and end
        f"Chebyshev({DEGREE}), a step of {DEGREE} sweeps",
        lambda *_: Chebyshev(DEGREE, check_every=NEVER),
        lambda _, size: (5 * DEGREE - 2) * size, is_sweep=True,
    ),
    "lines": Method(  # each axis in turn, one line in cache
        "LineRelaxation, all axes", lambda *_: LineRelaxation(check_every=NEVER),
        lambda ndim, size: 3 * ndim * size, is_sweep=True,
    ),
    "multigrid": Method(  # per sweep of a cycle as Jacobi, in float32; the residual in full
        "Multigrid()", lambda _, rtol: Multigrid(rtol=rtol),
        lambda ndim, size: _cycle(ndim) + 3 * size, has_tolerance=True,
    ),
    "full_multigrid": Method(  # likewise, all in full precision
        "Multigrid(full=True), one pass", lambda ndim, _: _full(ndim), _full_pass,
    ),
    "direct": Method(  # to every unknown from every other: one pass forth and one back
        "FastDiagonalization()", lambda *_: FastDiagonalization(), lambda _, size: 4 * size,
    ),
    "multigrid_cg": Method(  # about ten passes, the look at the residual, and the cycle
        "ConjugateGradient(Multigrid())",
        lambda _, rtol: ConjugateGradient(rtol=rtol, preconditioner=Multigrid()),
        lambda ndim, size: _cycle(ndim) + 12 * size, has_tolerance=True,
    ),
}  # fmt: skip
# Beside them in float32 where there is no float64.
PAIRS = {
    "pairs": Method(  # the cycle; b and both parts of u read, r written; eight to add a correction
        "Refined(Multigrid())", lambda _, rtol: Refined(Multigrid(), rtol=rtol),
        lambda ndim, size: _cycle(ndim) + 12 * size, has_tolerance=True, in_pairs=True,
    ),
}  # fmt: skip
