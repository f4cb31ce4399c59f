"""How what a training has learned enters a solver."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx

from solvers import transforms
from solvers.arguments import as_count
from solvers.deflation import Deflated, corrected, energy_basis
from solvers.grid import Grid
from solvers.iteration import AbstractIteration, without_mean
from solvers.krylov import ConjugateGradient
from solvers.multigrid.smoothing import SMOOTHERS
from solvers.placement import Placed, apply, like, spread
from solvers.problems import Poisson
from solvers.relaxation.jacobi import Jacobi
from solvers.snapshots import Snapshot
from solvers.solution import Problem

SMOOTHING_SWEEPS = 2
# Gives the seconds that a step of a method takes here.
Measure = Callable[[AbstractIteration], float]


class Handover(abc.ABC):
    """A way to go over from a training to a solver."""

    @property
    def needs_features(self) -> bool:
        """Whether it asks a snapshot for more than its field."""
        return False

    @property
    def can_be_combined(self) -> bool:
        """Whether a combination of several starts keeps what one start promises."""
        return False

    @abc.abstractmethod
    def start(self, problem: Problem, snapshot: Snapshot) -> Any:
        """Values at the unknowns, shape `grid.shape`, without rounding in the roughest modes."""

    def solver(
        self,
        problem: Problem,
        snapshot: Snapshot,
        method: lx.AbstractLinearSolver,
        measure: Measure,
    ) -> lx.AbstractLinearSolver:
        """The solver that goes on from there: `method`, unless a way makes another of it."""
        del problem, snapshot, measure
        return method


@dataclass(frozen=True)
class Guess(Handover):
    """The output itself, smoothed."""

    @property
    def can_be_combined(self) -> bool:
        """It promises nothing."""
        return True

    def start(self, problem: Problem, snapshot: Snapshot) -> Any:
        """Values at the unknowns."""
        return smoothed(problem, snapshot.evaluate(like(problem).grid))


@dataclass(frozen=True)
class ScaledGuess(Handover):
    """The multiple of the smoothed output of least residual, which is never above that of zero.

    α = ⟨A u, b⟩/‖A u‖².
    """

    def start(self, problem: Problem, snapshot: Snapshot) -> Any:
        """Values at the unknowns."""
        guess = smoothed(problem, snapshot.evaluate(like(problem).grid))
        return apply(_scaled, problem, guess)


@dataclass(frozen=True)
class Galerkin(Handover):
    """The best approximation, in the energy norm, by the output and its last-layer features.

    With v₀ = u and v₁ … v_k the features as grid functions, c solves (V A Vᵀ) c = V(b − A u), and
    u + Vᵀc is handed over, smoothed: its error is never above that of u, or of zero, in the energy
    norm. Directions that rounding cannot tell apart are left out.

    Args:
        modes: of the lowest sines or cosines per axis, modes^ndim in all, put beside the features.
        features: whether to take the features; without them `modes` must be at least 1.

    Raises:
        ValueError: if features are wanted and the training's snapshots have none.

    Cost: 2k applications of A, 4k²N multiplications, and two eigenvalue problems of size k.
    """

    modes: int = 0
    features: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.modes, bool) or not isinstance(self.modes, int) or self.modes < 0:
            raise ValueError(f"modes: expected an integer of at least 0, got {self.modes!r}")
        if self.modes == 0 and not self.features:
            raise ValueError("modes: expected at least 1 without features, got 0")

    @property
    def needs_features(self) -> bool:
        """As asked for."""
        return self.features

    def start(self, problem: Problem, snapshot: Snapshot) -> Any:
        """Values at the unknowns."""
        vectors = self.span(problem, snapshot)
        u = apply(_projected, problem, vectors)
        return smoothed(problem, u)

    def span(self, problem: Problem, snapshot: Snapshot) -> Any:
        """The output at the unknowns, and what else spans the space, shape (k, *grid.shape)."""
        grid = like(problem).grid
        vectors = [grid.restrict("field", snapshot.evaluate(grid))[None]]
        if self.features:
            if snapshot.features is None:
                raise ValueError(
                    "training: Galerkin needs snapshots with features, such as those of a "
                    "RitzTraining whose model has them"
                )
            features = snapshot.features(grid)
            if jnp.shape(features)[1:] != grid.full_shape:
                raise ValueError(
                    f"features: expected shape {('k', *grid.full_shape)} from a snapshot, got "
                    f"{jnp.shape(features)}"
                )
            vectors.append(features[(slice(None), *grid.unknowns)])
        if self.modes:
            vectors.append(lowest_modes(grid, self.modes))
        # 0 where there is no equation, and whole also where the problem is on a mesh.
        found = jnp.concatenate(vectors)
        if like(problem).is_outside is None:
            return found
        masked = apply(Poisson.within, problem, found)
        return masked.collect() if isinstance(masked, Placed) else masked


@dataclass(frozen=True)
class Deflation(Handover):
    """The span of `Galerkin`, also as a coarse space of the solver that goes on: see `Deflated`.

    A relaxation gets a correction in that span every m sweeps, as a HINTS solver does, with the
    coefficients of the network's features solved for where HINTS has a second network guess them.
    Conjugate gradients get it with their preconditioner, the diagonal if they have none. Solvers
    without steps go on as they are.

    Args:
        modes, features: as for `Galerkin`.
        every: m; None for 1, but for relaxations about as many sweeps as cost what a correction
            costs, by measurement: that is at most twice as dear as the best m.

    Raises:
        ValueError: as `Galerkin`, and for an m that is no positive integer.

    Cost: that of `Galerkin` once more, and 4kN multiplications a correction.

    Reference: Zhang, Kahana, Kopaničáková, Turkel, Ranade, Pathak, Karniadakis 2024, "Blending
    neural operators and relaxation methods in PDE numerical solvers", arXiv 2208.13273 (HINTS).
    """

    modes: int = 0
    features: bool = True
    every: int | None = None

    def __post_init__(self) -> None:
        Galerkin(self.modes, self.features)  # refuses what makes no space
        if self.every is not None:
            as_count("every", self.every)

    @property
    def _galerkin(self) -> Galerkin:
        return Galerkin(self.modes, self.features)

    @property
    def needs_features(self) -> bool:
        """As asked for."""
        return self.features

    def start(self, problem: Problem, snapshot: Snapshot) -> Any:
        """Values at the unknowns."""
        return self._galerkin.start(problem, snapshot)

    def solver(
        self, problem: Problem, snapshot: Snapshot, method: Any, measure: Measure
    ) -> lx.AbstractLinearSolver:
        """The method with the coarse space."""
        if not isinstance(method, AbstractIteration):
            return method
        vectors = self._galerkin.span(problem, snapshot)
        if isinstance(method, ConjugateGradient):
            inner = Jacobi() if method.preconditioner is None else method.preconditioner
            return ConjugateGradient(
                preconditioner=Deflated(inner, vectors, every=self.every or 1),
                preconditioner_steps=method.preconditioner_steps,
                rtol=method.rtol,
                atol=method.atol,
                max_steps=method.max_steps,
                check_every=None if method.preconditioner is None else method.check_every,
            )
        every = self.every or 1
        if self.every is None and isinstance(method, SMOOTHERS):
            sweep, both = measure(method), measure(Deflated(method, vectors))
            every = max(round(both / sweep) - 1, 1)
        return Deflated(method, vectors, every=every)


def smoothed(problem: Problem, field: Any) -> Any:
    """Take a field at the unknowns and smooth it by two half-damped Jacobi sweeps.

    Undamped Jacobi keeps the roughest modes as long as the smoothest, and rounding lives there: the
    exact solution in float32 would need millions of sweeps. Damped by ½ the mode at angle θ is
    multiplied by cos⁴(θ/2) in two sweeps: the roughest go, the smooth ones stay.

    Args:
        problem: what is to be solved.
        field: a guess at the unknowns or on all nodes.

    Returns:
        values at the unknowns, shape `grid.shape`; on a mesh `Placed`, if the problem is.
    """
    return apply(smoothed_guess, problem, field)


def smoothing_factor(mu: Any) -> Any:
    """What `smoothed` multiplies an error by in the mode that undamped Jacobi multiplies by μ."""
    return ((1 + mu) / 2) ** SMOOTHING_SWEEPS


def smoothed_guess(problem: Poisson, field: Any) -> jax.Array:
    """The same within a program."""
    method, operator, b = Jacobi(0.5), problem.operator, problem.rhs
    setup = method.prepare(operator)
    carry = method.start(setup, b, spread(problem.unknowns("field", field)))
    for _ in range(SMOOTHING_SWEEPS):
        carry = method.step(setup, b, carry)
    return method.current(setup, carry)


def _scaled(problem: Poisson, u: jax.Array) -> jax.Array:
    operator = problem.operator
    b, image = without_mean(operator, problem.rhs), operator.mv(u)
    size = jnp.sum(image * image)
    return jnp.where(size > 0, jnp.sum(image * b) / jnp.where(size > 0, size, 1), 0) * u


def _projected(problem: Poisson, vectors: jax.Array) -> jax.Array:
    """The first vector plus its best correction in the span of all."""
    vectors = spread(vectors)
    basis = energy_basis(problem.operator, vectors)
    return corrected(problem.operator, basis, problem.rhs, vectors[0])


def lowest_modes(grid: Grid, count: int) -> jax.Array:
    """Products of the lowest `count` sines or cosines per axis, shape (count^ndim, *grid.shape)."""
    products = jnp.ones((1,), grid.dtype)
    for axis, n in enumerate(grid.shape):
        along = jnp.asarray(transforms.modes(grid, axis, min(count, n)), grid.dtype).T
        along = along.reshape(1, len(along), *[1] * axis, n)
        products = (products[:, None, ..., None] * along).reshape(-1, *grid.shape[: axis + 1])
    return products
