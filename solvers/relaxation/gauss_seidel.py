"""Gauss–Seidel relaxation: red-black and lexicographic, with over-relaxation."""

import enum
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.arguments import as_count, as_number, expect, is_traced
from solvers.grid import Grid
from solvers.iteration import AbstractIteration, Operator, stopping
from solvers.operators import EllipticOperator
from solvers.relaxation.lexicographic import solve_triangle
from solvers.relaxation.red_black import RedBlackSetup, join, prepare_red_black, split, sweep
from solvers.transforms import angles


class Ordering(enum.Enum):
    """The order in which Gauss–Seidel visits the unknowns."""

    RED_BLACK = "all nodes of even index sum, then all of odd"
    LEXICOGRAPHIC = "by index, the last axis fastest"


class GaussSeidelSetup(NamedTuple):
    operator: EllipticOperator
    weight: jax.Array  # ω/D
    halves: RedBlackSetup | None  # red-black on a grid of two colours


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

    On a periodic axis of odd length two neighbours share a colour; they are then relaxed at once,
    as in Jacobi, which still converges for ω ≤ 1.

    Raises:
        ValueError: for an ω outside (0, 2), or an operator that is not an `EllipticOperator`.

    Cost: red-black, stored by colour, reads and writes each unknown once; the prefix scan costs
    about seven Jacobi sweeps.

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
    works_in_place: ClassVar[bool] = True
    is_light: ClassVar[bool] = True

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
        omega = as_number("over_relaxation", over_relaxation, wanted, lambda x: (x <= 0) | (x >= 2))
        self.over_relaxation = omega
        self.ordering = ordering
        self.rtol, self.atol, self.max_steps = stopping(rtol, atol, max_steps)
        self.check_every = as_count("check_every", check_every)

    def prepare(self, operator: Operator) -> GaussSeidelSetup:
        if not isinstance(operator, EllipticOperator):
            raise ValueError("operator: GaussSeidel needs an EllipticOperator; Jacobi takes any")
        diagonal = operator.diagonal()
        omega = self.over_relaxation.astype(diagonal.dtype)
        has_halves = self.ordering is Ordering.RED_BLACK and operator.is_bipartite
        halves = prepare_red_black(operator, omega) if has_halves else None
        return GaussSeidelSetup(operator, omega / diagonal, halves)

    def start(self, setup: GaussSeidelSetup, b: jax.Array, u: jax.Array) -> Any:
        if setup.halves is None:
            return u
        grid = setup.operator.grid
        return split(u, grid), split(b, grid)

    def step(self, setup: GaussSeidelSetup, b: jax.Array, carry: Any) -> Any:
        return self._sweep(setup, b, carry, reverse=False)

    def current(self, setup: GaussSeidelSetup, carry: Any) -> jax.Array:
        return carry if setup.halves is None else join(carry[0], setup.operator.grid)

    def precondition(self, setup: GaussSeidelSetup, r: jax.Array, steps: int) -> jax.Array:
        def there_and_back(_: Any, carry: Any) -> Any:
            there = self._sweep(setup, r, carry, reverse=False)
            return self._sweep(setup, r, there, reverse=True)

        carry = self.start(setup, r, jnp.zeros_like(r))
        return self.current(setup, jax.lax.fori_loop(0, steps, there_and_back, carry))

    def _sweep(self, setup: GaussSeidelSetup, b: jax.Array, carry: Any, *, reverse: bool) -> Any:
        operator, weight, halves = setup
        if halves is not None:
            u, split_b = carry
            return sweep(halves, split_b, u, reverse=reverse), split_b
        if self.ordering is Ordering.LEXICOGRAPHIC:
            r = b - operator.mv(carry)
            return carry + solve_triangle(operator, weight, r, reverse=reverse)
        for colour in (1, 0) if reverse else (0, 1):
            change = weight * (b - operator.mv(carry))
            carry = carry + jnp.where(_has_colour(operator.grid, colour), change, 0)
        return carry


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
    expect("operator", operator, EllipticOperator, "an EllipticOperator, as problem.operator is")
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
