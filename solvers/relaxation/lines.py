"""Line relaxation: whole lines of unknowns at once, every other line in turn."""

import itertools
from collections.abc import Iterable
from numbers import Integral
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from solvers.arguments import as_count
from solvers.grid import Grid
from solvers.iteration import AbstractIteration, Operator, stopping, without_mean
from solvers.operators import EllipticOperator
from solvers.tridiagonal import TridiagonalFactor, factor

Parity = tuple[int, ...]


class Lines(eqx.Module):
    """Lines whose other indices have the same parities, ready to be solved.

    Attributes:
        parity: of the index along each axis, 0 along the lines themselves.
        axis: that the lines run along.
        factor: of A restricted to each of them.
    """

    parity: Parity = eqx.field(static=True)
    axis: int = eqx.field(static=True)
    factor: TridiagonalFactor

    def correction(self, r: jax.Array) -> jax.Array:
        """Solve for the residual `r` on these lines; 0 on all others, shape of `r`."""
        delta = self.factor.solve(_pick(r, self.parity, self.axis))
        widths = []
        for d, (parity, size, count) in enumerate(
            zip(self.parity, r.shape, delta.shape, strict=True)
        ):
            after = size - parity - 2 * count + 1
            widths.append((0, 0, 0) if d == self.axis else (parity, after, 1))
        return jax.lax.pad(delta, jnp.zeros((), r.dtype), widths)


class LineSetup(NamedTuple):
    operator: EllipticOperator
    lines: tuple[Lines, ...]  # in the order of a sweep


class LineRelaxation(AbstractIteration):
    """Zebra line Gauss–Seidel, T δ = b − A u on every other line, u ← u + δ, then on the rest.

    T is A restricted to a line, a tridiagonal matrix. Along each axis of `axes` in turn, all lines
    of even sum of the other indices are solved exactly, then all of odd sum. Points one by one do
    not smooth along an axis of weak coupling; lines along the strong one do. Lines along all axes
    smooth whatever the couplings are in 2-D; in 3-D two strong axes would take planes.

    Args:
        axes: along which, an axis or several in order; None for all of them.
        rtol, atol: stop when √(∏h)·‖b − A u‖₂ ≤ max(rtol·‖b‖, atol).
        max_steps: steps at most, each of one sweep per entry of `axes`.
        check_every: steps between two looks at the residual.

    In 1-D a step is a direct solve, of a singular operator that of the pseudo-inverse. Where an
    axis across the lines is periodic and of odd length, its first and last line share a colour and
    are relaxed at once, as in block Jacobi: still a regular splitting of an M-matrix, and those
    converge.

    As a preconditioner, a step is a sweep and its reverse: symmetric, and positive definite because
    M + Mᵀ − A is, M being what the sweep inverts. That is T on every line, and between two lines
    relaxed at once the coupling with its sign changed; a line has one such neighbour on an axis at
    most, and the other one keeps the sum diagonally dominant.

    Raises:
        ValueError: for axes that are not there, or an operator that is not an `EllipticOperator`.

    Cost: per entry of `axes`, two passes of A and one tridiagonal solve of all lines.

    Reference: Trottenberg, Oosterlee, Schüller 2001, Multigrid, §5.1.

    Example:
        >>> from solvers import Grid, Poisson, solve
        >>> problem = Poisson(Grid((32, 32)), source=1.0, diffusion=(1000.0, 1.0))
        >>> print(solve(problem, LineRelaxation(0, rtol=1e-6)).num_steps)
        5
    """

    axes: tuple[int, ...] | None = eqx.field(static=True)
    rtol: jax.Array
    atol: jax.Array
    max_steps: jax.Array
    check_every: int = eqx.field(static=True)
    works_in_place: ClassVar[bool] = True

    def __init__(
        self,
        axes: int | Iterable[int] | None = None,
        *,
        rtol: Any = 1e-8,
        atol: Any = 0.0,
        max_steps: Any = 10_000,
        check_every: int = 1,
    ):
        self.axes = None if axes is None else _read_axes(axes)
        self.rtol, self.atol, self.max_steps = stopping(rtol, atol, max_steps)
        self.check_every = as_count("check_every", check_every)

    def prepare(self, operator: Operator) -> LineSetup:
        if not isinstance(operator, EllipticOperator):
            raise ValueError("operator: LineRelaxation needs an EllipticOperator; Jacobi takes any")
        ndim = operator.grid.ndim
        axes = tuple(range(ndim)) if self.axes is None else self.axes
        if max(axes) >= ndim:
            raise ValueError(f"axes: expected some of {tuple(range(ndim))}, got {axes}")
        groups = {axis: _factor_lines(operator, axis) for axis in axes}
        return LineSetup(operator, tuple(lines for axis in axes for lines in groups[axis]))

    def start(self, setup: LineSetup, b: jax.Array, u: jax.Array) -> jax.Array:
        return u

    def step(self, setup: LineSetup, b: jax.Array, carry: jax.Array) -> jax.Array:
        return _sweep(setup, b, carry, setup.lines)

    def current(self, setup: LineSetup, carry: jax.Array) -> jax.Array:
        return carry

    def precondition(self, setup: LineSetup, r: jax.Array, steps: int) -> jax.Array:
        def there_and_back(_: Any, u: jax.Array) -> jax.Array:
            return _sweep(setup, r, self.step(setup, r, u), setup.lines[::-1])

        return jax.lax.fori_loop(0, steps, there_and_back, jnp.zeros_like(r))


def _sweep(setup: LineSetup, b: jax.Array, u: jax.Array, order: tuple[Lines, ...]) -> jax.Array:
    operator = setup.operator
    for lines in order:
        r = b - operator.mv(u)
        if operator.grid.ndim == 1:
            # The only line of a singular operator is singular itself.
            u = u + without_mean(operator, lines.correction(without_mean(operator, r)))
        else:
            u = u + lines.correction(r)
    return u


def _factor_lines(operator: EllipticOperator, axis: int) -> list[Lines]:
    """Factor all lines along `axis`, grouped by parities across it: even sums first, then odd.

    In 3-D two groups have even sums. They can take turns, since lines of which both other indices
    differ are no neighbours; one residual for both would make XLA write out each neighbour of u.
    """
    grid, coefficients = operator.grid, _coefficients(operator, axis)
    groups = []
    for parity in sorted(_parities(grid, axis), key=lambda parity: sum(parity) % 2):
        lower, diagonal, upper = (_pick(values, parity, axis) for values in coefficients)
        factored = factor(lower, diagonal, upper, axis, periodic=grid.is_periodic(axis))
        groups.append(Lines(parity, axis, factored))
    return groups


def _coefficients(operator: EllipticOperator, axis: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Lower, middle and upper diagonal of A along `axis`, broadcasting to `grid.shape`."""
    grid = operator.grid
    low, high = map(operator.weigh, operator.face_pair(axis))
    diagonal = operator.diagonal()
    if operator.is_singular and grid.ndim == 1:
        # Twice the last entry pins the last unknown: with a mean-free right-hand side the sum of
        # all rows says that it is 0, and then nothing else has changed.
        index = jnp.arange(grid.shape[0])
        last = grid.shape[0] - 1
        if operator.null is not None:
            last = jnp.max(jnp.where(operator.null, index, 0))  # of the medium
        diagonal = jnp.where(index == last, 2 * diagonal, diagonal)
    low, diagonal, high = (
        values.reshape((1,) * grid.ndim) if values.ndim == 0 else values
        for values in (-low, diagonal, -high)
    )
    # In full, although equal lines have equal pivots: the loop over rows of one pivot each is not
    # compiled to work in place, which made it 200 times slower at 1023².
    return low, jnp.broadcast_to(diagonal, grid.shape), high


def _parities(grid: Grid, axis: int) -> Iterable[Parity]:
    """Give the parities of the indices across `axis` that occur, with 0 along it."""
    occurring = [(0,) if d == axis else range(min(2, n)) for d, n in enumerate(grid.shape)]
    return itertools.product(*occurring)


def _pick(values: jax.Array, parity: Parity, axis: int) -> jax.Array:
    """Keep every other index across `axis`; one that stands for all stays."""
    return values[
        tuple(
            slice(None) if d == axis or values.shape[d] == 1 else slice(start, None, 2)
            for d, start in enumerate(parity)
        )
    ]


def _read_axes(axes: Any) -> tuple[int, ...]:
    entries = tuple(axes) if isinstance(axes, Iterable) else (axes,)
    are_counts = all(isinstance(d, Integral) and not isinstance(d, bool) for d in entries)
    if not entries or not are_counts or min(entries) < 0:
        raise ValueError(f"axes: expected None, an axis or several, counted from 0, got {axes!r}")
    return tuple(int(d) for d in entries)
