"""How what a training has learned becomes the start of a solver."""

from dataclasses import dataclass
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp

from solvers.iteration import without_mean
from solvers.operators import EllipticOperator
from solvers.problems import Poisson
from solvers.relaxation.jacobi import Jacobi
from solvers.snapshots import Snapshot

SMOOTHING_SWEEPS = 2


class Handover(Protocol):
    """A way to start from a snapshot."""

    @property
    def needs_features(self) -> bool:
        """Whether it asks a snapshot for more than its field."""
        ...

    def start(self, problem: Poisson, snapshot: Snapshot) -> jax.Array:
        """Values at the unknowns, shape `grid.shape`, without rounding in the roughest modes."""
        ...


@dataclass(frozen=True)
class Guess:
    """The output itself, smoothed."""

    needs_features = False

    def start(self, problem: Poisson, snapshot: Snapshot) -> jax.Array:
        """Values at the unknowns."""
        return smoothed(problem, snapshot.evaluate(problem.grid))


@dataclass(frozen=True)
class ScaledGuess:
    """The multiple of the smoothed output of least residual, which is never above that of zero.

    α = ⟨A u, b⟩/‖A u‖².
    """

    needs_features = False

    def start(self, problem: Poisson, snapshot: Snapshot) -> jax.Array:
        """Values at the unknowns."""
        guess = smoothed(problem, snapshot.evaluate(problem.grid))
        return _scaled(problem.operator, problem.rhs, guess)


@dataclass(frozen=True)
class Galerkin:
    """The best approximation, in the energy norm, by the output and its last-layer features.

    With v₀ = u and v₁ … v_k the features as grid functions, c solves (V A Vᵀ) c = V(b − A u), and
    u + Vᵀc is handed over, smoothed: its error is never above that of u, or of zero, in the energy
    norm. Directions that rounding cannot tell apart are left out.

    Raises:
        ValueError: if the training's snapshots have no features.

    Cost: k applications of A, k²N multiplications, and an eigenvalue problem of size k.
    """

    needs_features = True

    def start(self, problem: Poisson, snapshot: Snapshot) -> jax.Array:
        """Values at the unknowns."""
        if snapshot.features is None:
            raise ValueError(
                "training: Galerkin needs snapshots with features, such as those of a RitzTraining "
                "whose model has them"
            )
        grid = problem.grid
        u = grid.restrict("field", snapshot.evaluate(grid))
        features = snapshot.features(grid)[(slice(None), *grid.unknowns)]
        return smoothed(problem, _projected(problem.operator, problem.rhs, u, features))


def smoothed(problem: Poisson, field: Any) -> jax.Array:
    """Take a field at the unknowns and smooth it by two half-damped Jacobi sweeps.

    Undamped Jacobi keeps the roughest modes as long as the smoothest, and rounding lives there: the
    exact solution in float32 would need millions of sweeps. Damped by ½ the mode at angle θ is
    multiplied by cos⁴(θ/2) in two sweeps: the roughest go, the smooth ones stay.

    Args:
        problem: what is to be solved.
        field: a guess at the unknowns or on all nodes.

    Returns:
        values at the unknowns, shape `grid.shape`.
    """
    return _smooth(problem.operator, problem.rhs, problem.grid.restrict("field", field))


@eqx.filter_jit
def _smooth(operator: EllipticOperator, b: jax.Array, u: jax.Array) -> jax.Array:
    method = Jacobi(0.5)
    setup = method.prepare(operator)
    carry = method.start(setup, b, u)
    for _ in range(SMOOTHING_SWEEPS):
        carry = method.step(setup, b, carry)
    return method.current(setup, carry)


@eqx.filter_jit
def _scaled(operator: EllipticOperator, b: jax.Array, u: jax.Array) -> jax.Array:
    b, image = without_mean(operator, b), operator.mv(u)
    size = jnp.sum(image * image)
    return jnp.where(size > 0, jnp.sum(image * b) / jnp.where(size > 0, size, 1), 0) * u


@eqx.filter_jit
def _projected(
    operator: EllipticOperator, b: jax.Array, u: jax.Array, features: jax.Array
) -> jax.Array:
    """u plus its best correction in the span of u and the features."""
    vectors = jax.vmap(lambda v: without_mean(operator, v))(jnp.concatenate([u[None], features]))
    images = jax.lax.map(operator.mv, vectors).reshape(len(vectors), -1)
    flat = vectors.reshape(len(vectors), -1)
    matrix = jnp.matmul(flat, images.T, precision=jax.lax.Precision.HIGHEST)
    matrix = (matrix + matrix.T) / 2
    energies = jnp.diagonal(matrix)
    scale = jnp.where(energies > 0, 1 / jnp.sqrt(jnp.where(energies > 0, energies, 1)), 0)
    values, modes = jnp.linalg.eigh(scale[:, None] * matrix * scale[None])
    least = 10 * len(vectors) * jnp.finfo(b.dtype).eps * values[-1]
    inverse = jnp.where(values > least, 1 / jnp.where(values > least, values, 1), 0)
    r = without_mean(operator, b) - operator.mv(u)
    work = scale * jnp.matmul(flat, r.reshape(-1), precision=jax.lax.Precision.HIGHEST)
    c = scale * (modes @ (inverse * (modes.T @ work)))
    return u + jnp.tensordot(c, vectors, 1, precision=jax.lax.Precision.HIGHEST)
