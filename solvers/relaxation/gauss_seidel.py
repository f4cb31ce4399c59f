"""Gauss–Seidel relaxation: red-black and lexicographic, with over-relaxation."""

import enum
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.grid import Grid, as_number, is_traced
from solvers.iteration import AbstractIteration, Operator, checks, stopping
from solvers.operators import EllipticOperator
from solvers.transforms import angles


class Ordering(enum.Enum):
    """The order in which Gauss–Seidel visits the unknowns."""

    RED_BLACK = "all nodes of even index sum, then all of odd"
    LEXICOGRAPHIC = "by index, the last axis fastest"


class GaussSeidelSetup(NamedTuple):
    operator: EllipticOperator
    weight: jax.Array  # ω/D


class GaussSeidel(AbstractIteration):
    """Gauss–Seidel relaxation with over-relaxation, (D/ω + L) δ = b − A u, u ← u + δ.

    L is the part of A below the diagonal in the chosen ordering. Red-black visits each half of the
    nodes at once. Lexicographic is the textbook's order, done in parallel where that is possible:
    along the last axis the recurrence is a prefix scan, line after line along the others.

    Args:
        over_relaxation: ω in (0, 2); see `optimal_over_relaxation`.
        ordering: `Ordering.RED_BLACK` or `Ordering.LEXICOGRAPHIC`.
        rtol, atol: stop when √(∏h)·‖b − A u‖₂ ≤ max(rtol·‖b‖, atol).
        max_steps: sweeps at most.
        check_every: sweeps between two looks at the residual.

    On a periodic axis of odd length two neighbours share a colour; they are then relaxed at once, as
    in Jacobi, which still converges for ω ≤ 1.

    Raises:
        ValueError: for an ω outside (0, 2), or an operator that is not an `EllipticOperator`.

    Cost: red-black two passes over memory; the prefix scan about seven, times its log N depth.

    Reference: Young 1971, Iterative Solution of Large Linear Systems, ch. 5 and 6 (eigenvalues
    (λ + ω − 1)² = λω²μ² of the sweep from μ of Jacobi); Blelloch 1990, "Prefix sums and their
    applications", §1.4 (the recurrence as a scan).

    Example:
        >>> from solvers import Grid, Poisson, solve
        >>> problem = Poisson(Grid(64), source=1.0)
        >>> method = GaussSeidel(optimal_over_relaxation(problem.operator), check_every=10)
        >>> int(solve(problem, method).num_steps) < 400
        True
    """

    over_relaxation: jax.Array
    ordering: Ordering = eqx.field(static=True)
    rtol: jax.Array
    atol: jax.Array
    max_steps: jax.Array
    check_every: int = eqx.field(static=True)

    def __init__(
        self,
        over_relaxation: Any = 1.0,
        *,
        ordering: Ordering = Ordering.RED_BLACK,
        rtol: Any = 1e-8,
        atol: Any = 0.0,
        max_steps: Any = 100_000,
        check_every: int = 100,
    ):
        if not isinstance(ordering, Ordering):
            raise ValueError(f"ordering: expected a member of Ordering, got {ordering!r}")
        wanted = "a number between 0 and 2"
        omega = as_number(
            "over_relaxation", over_relaxation, lambda x: (x <= 0) | (x >= 2), wanted
        )
        self.over_relaxation = omega
        self.ordering = ordering
        self.rtol, self.atol, self.max_steps = stopping(rtol, atol, max_steps)
        self.check_every = checks(check_every)

    def prepare(self, operator: Operator) -> GaussSeidelSetup:
        if not isinstance(operator, EllipticOperator):
            raise ValueError("operator: GaussSeidel needs an EllipticOperator; Jacobi takes any")
        diagonal = operator.diagonal()
        weight = self.over_relaxation.astype(diagonal.dtype) / diagonal
        return GaussSeidelSetup(operator, weight)

    def start(self, setup: GaussSeidelSetup, b: jax.Array, u: jax.Array) -> jax.Array:
        return setup.operator.extend(u)

    def step(self, setup: GaussSeidelSetup, b: jax.Array, carry: jax.Array) -> jax.Array:
        return self._sweep(setup, b, carry, reverse=False)

    def current(self, setup: GaussSeidelSetup, carry: jax.Array) -> jax.Array:
        return setup.operator.shrink(carry)

    def precondition(self, setup: GaussSeidelSetup, r: jax.Array, steps: int) -> jax.Array:
        def there_and_back(_: Any, p: jax.Array) -> jax.Array:
            return self._sweep(setup, r, self._sweep(setup, r, p, reverse=False), reverse=True)

        p = jax.lax.fori_loop(0, steps, there_and_back, setup.operator.extend(jnp.zeros_like(r)))
        return setup.operator.shrink(p)

    def _sweep(
        self, setup: GaussSeidelSetup, b: jax.Array, p: jax.Array, *, reverse: bool
    ) -> jax.Array:
        operator, weight = setup
        if self.ordering is Ordering.LEXICOGRAPHIC:
            r = b - operator.stencil(p)
            return operator.extend(operator.shrink(p) + _solve_triangle(setup, r, reverse=reverse))
        for colour in (1, 0) if reverse else (0, 1):
            change = weight * (b - operator.stencil(p))
            change = jnp.where(_has_colour(operator.grid, colour), change, 0)
            p = operator.extend(operator.shrink(p) + change)
        return p


def optimal_over_relaxation(operator: EllipticOperator) -> float:
    """ω = 2/(1 + √(1 − μ²)), μ the spectral radius of undamped Jacobi.

    Exact for constant coefficients with a Dirichlet side or a reaction, on grids of two colours.

    Raises:
        ValueError: for varying or traced coefficients, or a singular operator (where the best ω
            depends on the second eigenvalue; 1.5 is a fair start).

    Reference: Young 1954, "Iterative methods for solving partial difference equations of elliptic
    type", Trans. AMS 76, eq. 2.8, doi:10.1090/S0002-9947-1954-0059635-7.

    Example:
        >>> print(round(optimal_over_relaxation(EllipticOperator(Grid(100))), 3))
        1.939
    """
    if not operator.is_constant or any(map(is_traced, jax.tree.leaves(operator))):
        raise ValueError("operator: expected constant coefficients with known values")
    if operator.is_singular:
        raise ValueError("operator: expected a regular one, this has no Dirichlet side or reaction")
    grid = operator.grid
    strengths = [float(c) for c in operator.conductances]
    reaction = 0.0 if operator.reaction is None else float(operator.reaction)
    smoothest = [np.cos(angles(grid, axis)[0]) for axis in range(grid.ndim)]
    largest = sum(2 * c * x for c, x in zip(strengths, smoothest, strict=True))
    mu = largest / (2 * sum(strengths) + reaction)
    return float(2 / (1 + np.sqrt(1 - mu**2)))


def _has_colour(grid: Grid, colour: int) -> jax.Array:
    index = jnp.full(grid.shape, -colour, jnp.int32)
    for axis in range(grid.ndim):
        index = index + jax.lax.broadcasted_iota(jnp.int32, grid.shape, axis)
    return index % 2 == 0


def _solve_triangle(setup: GaussSeidelSetup, r: jax.Array, *, reverse: bool) -> jax.Array:
    """Solve (D/ω + L) δ = r, L below the diagonal in index order (`reverse`: above it)."""
    operator, grid = setup.operator, setup.operator.grid
    flip = (lambda x: jnp.flip(x)) if reverse else (lambda x: x)
    lows, wraps = [], []
    for axis in range(grid.ndim):
        low, high = (
            operator.weigh(jnp.broadcast_to(c, grid.shape)) for c in operator.face_pair(axis)
        )
        before = flip(high if reverse else low) * flip(jnp.broadcast_to(setup.weight, grid.shape))
        after = flip(low if reverse else high) * flip(jnp.broadcast_to(setup.weight, grid.shape))
        first, last = (jnp.arange(grid.shape[axis]) == i for i in (0, grid.shape[axis] - 1))
        along = [-1 if d == axis else 1 for d in range(grid.ndim)]
        lows.append(jnp.where(first.reshape(along), 0, before))
        is_wrap = grid.is_periodic(axis)
        wraps.append(jnp.where(last.reshape(along), after, 0) if is_wrap else None)
    return flip(_recur(lows, wraps, flip(r * setup.weight)))


def _recur(lows: list[jax.Array], wraps: list[Any], g: jax.Array) -> jax.Array:
    """δ_i = g_i + Σ_d lowᵈ_i δ_{i−e_d}, plus wrapᵈ_i δ of the first node of a periodic axis d.

    Along the first axis slab by slab; the last axis is a prefix scan of x ↦ m x + g.
    """
    if g.ndim == 1:
        delta = _scan_line(lows[0], g)
        return delta if wraps[0] is None else delta + wraps[0] * delta[0]

    def slab(carry: tuple[jax.Array, jax.Array], terms: Any) -> Any:
        previous, first = carry
        index, low, wrap, inner_lows, inner_wraps, rows = terms
        rows = rows + low * previous
        rows = rows if wrap is None else rows + wrap * first
        delta = _recur(inner_lows, inner_wraps, rows)
        return (delta, jnp.where(index == 0, delta, first)), delta

    nothing = jnp.zeros_like(g[0])
    terms = (jnp.arange(g.shape[0]), lows[0], wraps[0], lows[1:], wraps[1:], g)
    return jax.lax.scan(slab, (nothing, nothing), terms)[1]


def _scan_line(m: jax.Array, g: jax.Array) -> jax.Array:
    """δ_i = m_i δ_{i−1} + g_i, m_0 = 0, by composing the maps in a tree."""

    def compose(first: Any, second: Any) -> Any:
        return first[0] * second[0], second[0] * first[1] + second[1]

    return jax.lax.associative_scan(compose, (m, g))[1]
