"""Chebyshev relaxation: the polynomial in D⁻¹A that is smallest on a part of the spectrum."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from solvers.arguments import as_count, as_number
from solvers.compiler import short_loop
from solvers.iteration import AbstractIteration, Operator, fixed_steps, stopping
from solvers.operators import EllipticOperator

# D⁻¹A of a diagonally dominant A has no eigenvalue above 2 (Gershgorin).
LARGEST = 2.0
# For other operators: power steps, and by how much their estimate, too low by nature, is raised.
POWER_STEPS = 20
SAFETY = 1.1
# Degree up to which its steps are written out where loops are dear.
WRITTEN_OUT = 8


class ChebyshevSetup(NamedTuple):
    operator: Operator
    inverse_diagonal: jax.Array
    smallest: jax.Array
    largest: jax.Array


class Chebyshev(AbstractIteration):
    """Chebyshev relaxation, u ← u + q(D⁻¹A) D⁻¹(b − A u), q of degree k − 1.

    With s = `smallest`, λmax the largest eigenvalue of D⁻¹A, and T_k the Chebyshev polynomial, a
    step multiplies the error in an eigenvector of D⁻¹A with the eigenvalue λ by

        p(λ) = T_k((θ − λ)/δ) / T_k(θ/δ),   θ = λmax(1 + s)/2,   δ = λmax(1 − s)/2.

    No other polynomial of degree k with p(0) = 1 is as small on all of [s·λmax, λmax]. Below that
    0 < p < 1. Of degree 1 it is Jacobi with the damping 1/θ.

    Args:
        degree: k ≥ 1.
        smallest: s in (0, 1). The default aims at what full coarsening leaves to a smoother, the
            modes with some frequency of at least π/2: s = 1/(2d) in d dimensions, and 1/4 for an
            operator without a grid. To solve with it alone, take the inverse of D⁻¹A's condition
            number.
        rtol, atol: stop when √(∏h)·‖b − A u‖₂ ≤ max(rtol·‖b‖, atol).
        max_steps: steps at most.
        check_every: steps between two looks at the residual.

    Any lineax operator with a diagonal will do. For an `EllipticOperator` λmax ≤ 2 (Gershgorin);
    for others it is estimated by 20 power steps and raised by a tenth. Convergence is sure for
    symmetric positive definite A with all eigenvalues of D⁻¹A below (1 + s)λmax.

    As a preconditioner, m steps are D^−½ g(B) D^−½ with B = D^−½AD^−½ and g(λ) = (1 − p(λ)ᵐ)/λ:
    symmetric, and positive definite because p < 1 on (0, λmax] and g(0) = −m p′(0) > 0.

    Raises:
        ValueError: for a degree below 1, or a `smallest` outside (0, 1).

    Cost: `degree` sweeps of Jacobi, each with one more array read and written.

    Reference: Adams, Brezina, Hu, Tuminaro 2003, "Parallel multigrid smoothing: polynomial versus
    Gauss–Seidel", J. Comput. Phys. 188, 593–610, doi:10.1016/S0021-9991(03)00194-3; the recurrence
    is Saad 2003, Iterative Methods for Sparse Linear Systems, 2nd ed., algorithm 12.1.

    Example:
        >>> from solvers import Grid, Poisson, solve
        >>> problem = Poisson(Grid(64), source=1.0)
        >>> method = Chebyshev(40, smallest=6e-4, check_every=1)
        >>> int(solve(problem, method).num_steps) < 20  # 40 sweeps each; Jacobi takes 15 300
        True
    """

    degree: int = eqx.field(static=True)
    smallest: jax.Array | None
    rtol: jax.Array
    atol: jax.Array
    max_steps: jax.Array
    check_every: int = eqx.field(static=True)
    works_in_place: ClassVar[bool] = True

    def __init__(
        self,
        degree: int = 3,
        *,
        smallest: Any = None,
        rtol: Any = 1e-8,
        atol: Any = 0.0,
        max_steps: Any = 100_000,
        check_every: int = 10,
    ):
        self.degree = as_count("degree", degree)
        self.smallest = None
        if smallest is not None:
            wanted = "a number between 0 and 1"
            self.smallest = as_number("smallest", smallest, wanted, lambda x: (x <= 0) | (x >= 1))
        self.rtol, self.atol, self.max_steps = stopping(rtol, atol, max_steps)
        self.check_every = as_count("check_every", check_every)

    def prepare(self, operator: Operator) -> ChebyshevSetup:
        is_elliptic = isinstance(operator, EllipticOperator)
        default = smoothing_part(operator.grid.ndim if is_elliptic else 2)
        smallest = default if self.smallest is None else self.smallest
        inverse = 1 / operator.diagonal()
        largest = LARGEST if is_elliptic else _estimate_largest(operator, inverse)
        dtype = inverse.dtype
        return ChebyshevSetup(
            operator, inverse, jnp.asarray(smallest).astype(dtype), jnp.asarray(largest, dtype)
        )

    def start(self, setup: ChebyshevSetup, b: jax.Array, u: jax.Array) -> jax.Array:
        return u

    def step(self, setup: ChebyshevSetup, b: jax.Array, carry: jax.Array) -> jax.Array:
        return polynomial_sweep(
            lambda u: b - setup.operator.mv(u),
            lambda r: setup.inverse_diagonal * r,
            carry,
            degree=self.degree,
            smallest=setup.smallest,
            largest=setup.largest,
        )

    def current(self, setup: ChebyshevSetup, carry: jax.Array) -> jax.Array:
        return carry

    def precondition(self, setup: ChebyshevSetup, r: jax.Array, steps: int) -> jax.Array:
        return fixed_steps(self, setup, r, steps)


def smoothing_part(ndim: int) -> float:
    """Give the least eigenvalue of D⁻¹A, in parts of 2, that full coarsening leaves to a smoother.

    The eigenvalues of equal couplings are Σ(1 − cos θᵢ)/d; one θᵢ ≥ π/2 makes that 1/d or more.
    """
    return 1 / (2 * ndim)


def polynomial_sweep(
    residual: Callable[[Any], Any],
    inverse_diagonal: Callable[[Any], Any],
    u: Any,
    *,
    degree: int,
    smallest: Any,
    largest: Any,
) -> Any:
    """Do one step of Chebyshev relaxation on vectors that are any pytree of arrays.

    With θ and δ as in `Chebyshev`, σ = θ/δ, c₁ = 1, else c_k = 2, and ρ_k = T_{k−1}(σ)/T_k(σ):

        ρ_k = 1/(c_k σ − ρ_{k−1}),   d ← ρ_k ρ_{k−1} d + (c_k ρ_k/δ) D⁻¹(b − A u),   u ← u + d,

    from d = 0 and ρ₀ = 0. One loop, so that the compiled code does not grow with the degree.

    Args:
        residual: u to b − A u.
        inverse_diagonal: r to D⁻¹r.
        u: present iterate; its arrays share one precision.
        degree: k ≥ 1.
        smallest: s, lower end of the interval in parts of the upper one.
        largest: λmax, the upper end.
    """
    dtype = jnp.result_type(*jax.tree.leaves(u))
    s, top = (jnp.asarray(number).astype(dtype) for number in (smallest, largest))
    centre, half = top * (1 + s) / 2, top * (1 - s) / 2
    sigma = centre / half

    def correct(k: jax.Array, state: tuple[Any, Any, jax.Array]) -> tuple[Any, Any, jax.Array]:
        u, d, before = state
        c = jnp.where(k == 0, 1, 2).astype(dtype)
        rho = 1 / (c * sigma - before)
        keep, weight = rho * before, c * rho / half
        z = inverse_diagonal(residual(u))
        d = jax.tree.map(lambda d, z: keep * d + weight * z, d, z)
        return jax.lax.optimization_barrier((jax.tree.map(jnp.add, u, d), d, rho))

    state = (u, jax.tree.map(jnp.zeros_like, u), jnp.zeros((), dtype))
    return short_loop(correct, degree, state, opens=degree <= WRITTEN_OUT)[0]


def _estimate_largest(operator: Operator, inverse: jax.Array) -> jax.Array:
    """Estimate λmax of D⁻¹A by power steps, in the norm √(xᵀDx) of a symmetric A."""

    def size(x: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum(x * x / inverse))

    def power(_: Any, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, _ = state
        image = inverse * operator.mv(x)
        growth = size(image)
        return image / growth, growth

    x = jax.random.normal(jax.random.key(0), inverse.shape, inverse.dtype)
    start = (x / size(x), jnp.ones((), inverse.dtype))
    _, growth = jax.lax.fori_loop(0, POWER_STEPS, power, start)
    return growth * jnp.asarray(SAFETY, growth.dtype)
