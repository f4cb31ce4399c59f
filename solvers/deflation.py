"""A subspace that is solved exactly, beside any iterative method: coarse space, deflation."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.arguments import as_count, checked
from solvers.compiler import HIGHEST
from solvers.iteration import (
    AbstractIteration,
    AbstractPreconditioner,
    Operator,
    repeated,
    without_mean,
)
from solvers.krylov import ConjugateGradient
from solvers.operators import EllipticOperator


def _as_vectors(vectors: Any) -> jax.Array:
    found = np.asarray(vectors) if not isinstance(vectors, jax.Array) else vectors
    if found.dtype.kind not in "fiuV" or not found.size:
        raise ValueError(
            f"vectors: expected at least one of real numbers, got {found.dtype} of shape "
            f"{found.shape}"
        )
    return jnp.asarray(found)


class DeflatedSetup(NamedTuple):
    operator: EllipticOperator
    inner: Any
    basis: jax.Array


class Deflated(AbstractIteration):
    """Steps of a method, and then a correction in a given subspace, again and again.

    With W an A-orthonormal basis of the span of the vectors, W A Wᵀ = I, a step is

        `every` steps of the method,   u ← u + Wᵀ W (b − A u),

    and the same correction comes before the first. Whatever the method leaves of the error in that
    span is gone, so that it should hold what the method is slow at: smooth modes, or a network's
    last-layer features. (Undamped Jacobi is as slow at the roughest modes.) As a preconditioner a
    step is the correction, the method's own symmetric steps, and the correction once more, which is
    balancing domain decomposition's form.

    Args:
        method: any iterative method but `ConjugateGradient`; rtol, atol and max_steps are its own,
            max_steps counted in these larger steps. In a preconditioner also `FastDiagonalization`.
        vectors: values at the unknowns, shape (k, *grid.shape); dependent ones are left out.
        every: steps of the method between two corrections; another number needs no compilation.
        check_every: steps between two looks at the residual.

    Raises:
        ValueError: for vectors or methods that do not fit, or another kind of operator.

    Cost: `every` steps of the method, one A and 4kN multiplications a step; to set up, k
    applications of A, 4k²N multiplications, and two eigenvalue problems of size k.

    Reference: Nicolaides 1987, "Deflation of conjugate gradients with applications to boundary
    value problems", SIAM J. Numer. Anal. 24(2), doi:10.1137/0724027; Tang, Nabben, Vuik, Erlangga
    2009, "Comparison of two-level preconditioners", J. Sci. Comput. 39, §2.3,
    doi:10.1007/s10915-009-9272-6.

    Example:
        >>> from solvers import Grid, Jacobi, Poisson, solve
        >>> problem = Poisson(Grid(64), source=1.0)
        >>> waves = jnp.sin(jnp.pi * jnp.outer(jnp.arange(1.0, 9), jnp.arange(1.0, 64)) / 64)
        >>> int(solve(problem, Deflated(Jacobi(0.8), waves, every=10)).num_steps) < 100
        True
    """

    method: AbstractPreconditioner
    vectors: jax.Array
    every: jax.Array
    check_every: int = eqx.field(static=True)
    works_in_place: ClassVar[bool] = True

    def __init__(
        self, method: AbstractPreconditioner, vectors: Any, *, every: int = 1, check_every: int = 1
    ):
        if not isinstance(method, AbstractPreconditioner) or isinstance(method, ConjugateGradient):
            raise ValueError(
                f"method: expected a linear iteration such as Jacobi(), got {method!r}; "
                "ConjugateGradient takes a Deflated one as its preconditioner"
            )
        self.method = method
        self.vectors = checked("vectors", _as_vectors(vectors), "finite values")
        self.every = jnp.asarray(as_count("every", every), jnp.int32)
        self.check_every = as_count("check_every", check_every)

    @property
    def rtol(self) -> jax.Array:  # type: ignore[override]
        return self._iteration.rtol

    @property
    def atol(self) -> jax.Array:  # type: ignore[override]
        return self._iteration.atol

    @property
    def max_steps(self) -> jax.Array:  # type: ignore[override]
        return self._iteration.max_steps

    @property
    def _iteration(self) -> AbstractIteration:
        if not isinstance(self.method, AbstractIteration):
            raise ValueError(
                f"method: {self.method!r} has no steps; give the Deflated one to ConjugateGradient "
                "as its preconditioner"
            )
        return self.method

    def prepare(self, operator: Operator) -> DeflatedSetup:
        if not isinstance(operator, EllipticOperator):
            raise ValueError("operator: Deflated needs an EllipticOperator")
        if self.vectors.ndim == 0 or self.vectors.shape[1:] != operator.grid.shape:
            expected = ("k", *operator.grid.shape)
            raise ValueError(f"vectors: expected shape {expected}, got {self.vectors.shape}")
        basis = energy_basis(operator, self.vectors.astype(operator.grid.dtype))
        return DeflatedSetup(operator, self.method.prepare(operator), basis)

    def start(self, setup: DeflatedSetup, b: jax.Array, u: jax.Array) -> jax.Array:
        return corrected(setup.operator, setup.basis, b, u)

    def step(self, setup: DeflatedSetup, b: jax.Array, carry: jax.Array) -> jax.Array:
        method = self._iteration
        inner = method.start(setup.inner, b, carry)
        inner = repeated(method, setup.inner, b, inner, self.every)
        return corrected(setup.operator, setup.basis, b, method.current(setup.inner, inner))

    def current(self, setup: DeflatedSetup, carry: jax.Array) -> jax.Array:
        return carry

    def precondition(self, setup: DeflatedSetup, r: jax.Array, steps: int) -> jax.Array:
        def once(_: Any, u: jax.Array) -> jax.Array:
            u = jax.lax.fori_loop(0, self.every, inner, u)
            return corrected(setup.operator, setup.basis, r, u)

        def inner(_: Any, u: jax.Array) -> jax.Array:
            left = r - setup.operator.mv(u)
            return u + self.method.precondition(setup.inner, left, 1)

        return jax.lax.fori_loop(0, steps, once, self.start(setup, r, jnp.zeros_like(r)))


def energy_basis(operator: EllipticOperator, vectors: jax.Array) -> jax.Array:
    """An A-orthonormal basis of the span of `vectors`, W A Wᵀ = I, shape (k, *grid.shape).

    Directions that rounding cannot tell apart are left out: their rows are 0. The second of two
    passes takes out the rounding of the first, which grows with the condition of the vectors.

    Args:
        operator: A.
        vectors: shape (k, *grid.shape).
    """
    vectors = jax.vmap(lambda v: without_mean(operator, v))(vectors)
    return _orthonormalized(operator, _orthonormalized(operator, vectors))


def corrected(
    operator: EllipticOperator, basis: jax.Array, b: jax.Array, u: jax.Array
) -> jax.Array:
    """u + Wᵀ W (b − A u), whose error is least in the energy norm among all u + span W."""
    r = without_mean(operator, b - operator.mv(u))
    c = jnp.matmul(basis.reshape(len(basis), -1), r.reshape(-1), precision=HIGHEST)
    return u + jnp.tensordot(c, basis, 1, precision=HIGHEST)


def _orthonormalized(operator: EllipticOperator, vectors: jax.Array) -> jax.Array:
    images = jax.lax.map(operator.mv, vectors).reshape(len(vectors), -1)
    flat = vectors.reshape(len(vectors), -1)
    matrix = jnp.matmul(flat, images.T, precision=HIGHEST)
    matrix = (matrix + matrix.T) / 2
    energies = jnp.diagonal(matrix)
    scale = jnp.where(energies > 0, 1 / jnp.sqrt(jnp.where(energies > 0, energies, 1)), 0)
    values, modes = jnp.linalg.eigh(scale[:, None] * matrix * scale[None])
    least = 10 * len(vectors) * jnp.finfo(vectors.dtype).eps * values[-1]
    root = jnp.where(values > least, 1 / jnp.sqrt(jnp.where(values > least, values, 1)), 0)
    turned = (root[None] * scale[:, None] * modes).T
    basis = jnp.matmul(turned, flat, precision=HIGHEST)
    return basis.reshape(vectors.shape)
