"""The problems: constant coefficients, which every method takes, with exact solutions."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from solvers import gallery
from solvers.operators import EllipticOperator

TOLERANCE = 1e-8
# In units of the rounding error that b − A u can have at most: it falls to about a third.
REACHABLE = 1.0
GALLERY: dict[int, Callable[..., gallery.Case]] = {2: gallery.peak, 3: gallery.cube}


class Case(NamedTuple):
    """A problem of the gallery on one grid in one precision, and what its answers are judged by.

    Attributes:
        title: what it is, in a few words.
        operator: A, on the default device.
        b: right-hand side.
        extension: of the boundary values to the unknowns, from which full multigrid starts.
        exact: u at the unknowns, in double precision.
        tolerance: relative residual that solvers are asked for.
    """

    title: str
    operator: EllipticOperator
    b: jax.Array
    extension: jax.Array
    exact: np.ndarray
    tolerance: float

    @property
    def ndim(self) -> int:
        return self.b.ndim

    def error(self, u: Any) -> float:
        """max|u − exact| relative to max|exact|."""
        return relative_error(u, self.exact)

    def residual(self, u: Any) -> float:
        """‖b − A u‖₂/‖b‖₂; see `relative_residual`."""
        return relative_residual(self.operator.grid.spacing, self.b, u)


def make(ndim: int, intervals: int, dtype: Any) -> Case:
    """The problem in `ndim` dimensions on the default device."""
    found = GALLERY[ndim](intervals, dtype=dtype)
    problem = found.problem
    exact = np.asarray(found.exact_values(), np.float64)
    extension = problem.boundary_extension()[problem.grid.unknowns]
    tolerance = reachable(problem.operator, problem.rhs, exact)
    return Case(found.title, problem.operator, problem.rhs, extension, exact, tolerance)


def reachable(operator: EllipticOperator, b: Any, exact: np.ndarray) -> float:
    """1e-8, or what the precision lets a relative residual fall to where that is more.

    Rounding leaves about ε·‖A‖·‖u‖ of b − A u, with ‖A‖ ≤ 2 max D: in single precision it grows as
    the square of the number of intervals. Rounded up to one digit, so that devices agree.
    """
    eps = float(np.finfo(b.dtype).eps)
    norms = [float(np.linalg.norm(np.asarray(x, np.float64).ravel())) for x in (exact, b)]
    size = 2 * float(np.max(np.asarray(operator.diagonal())))
    floor = REACHABLE * eps * size * norms[0] / norms[1]
    if floor <= TOLERANCE:
        return TOLERANCE
    unit = 10.0 ** math.floor(math.log10(floor))
    return float(f"{math.ceil(floor / unit) * unit:.0e}")


def relative_error(u: Any, exact: np.ndarray) -> float:
    """max|u − exact|/max|exact|."""
    return float(np.max(np.abs(np.asarray(u, np.float64) - exact)) / np.max(np.abs(exact)))


def relative_residual(spacing: tuple[float, ...], b: Any, u: Any) -> float:
    """‖b − A u‖₂/‖b‖₂ of −Δ with u given on all sides, formed by NumPy in double precision.

    Apart from all solvers and devices; the values on the sides are in b.
    """
    u, r = np.asarray(u, np.float64), np.array(b, np.float64)
    size = np.linalg.norm(r.ravel())
    for axis, h in enumerate(spacing):
        v, s = np.moveaxis(u, axis, 0), np.moveaxis(r, axis, 0)
        s -= 2 / h**2 * v
        s[1:] += v[:-1] / h**2
        s[:-1] += v[1:] / h**2
    return float(np.linalg.norm(r.ravel()) / size)
