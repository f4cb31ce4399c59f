"""Fast diagonalisation: the direct solver for constant coefficients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx

from solvers import transforms
from solvers.iteration import (
    Reason,
    lineax_result,
    read_vector,
    refuse_options,
    residual_stats,
    without_mean,
)
from solvers.operators import EllipticOperator


class FastDiagonalizationState(NamedTuple):
    operator: EllipticOperator
    eigenvalues: tuple[jax.Array, ...]


class FastDiagonalization(lx.AbstractLinearSolver):
    """Solve A u = b in the eigenbasis of A, a sine, cosine or Fourier transform per axis.

    With row weights W and the 1-D modes φ of `solvers.transforms`,

        u = Σ_k φ_k (W⁻¹b)^_k / (Σᵢ aᵢλ_{kᵢ} + c).

    Constant a (per axis) and c, any mix of sides, any size (fastest where 2n has small prime
    factors). A singular operator is solved in the sense of the pseudo-inverse.

    Raises:
        ValueError: for varying coefficients, or an operator that is not an `EllipticOperator`.

    Cost: O(N log N), two real FFTs of twice the length per non-periodic axis.

    Reference: Lynch, Rice, Thomas 1964, "Direct solution of partial difference equations by tensor
    product methods", Numer. Math. 6, 185–199, doi:10.1007/BF01386067.

    Example:
        >>> from solvers import Grid, Poisson, solve
        >>> problem = Poisson(Grid((40, 30)), source=1.0)
        >>> bool(abs(problem.residual(solve(problem, FastDiagonalization()).value)).max() < 1e-10)
        True
    """

    def init(self, operator: Any, options: dict[str, Any]) -> FastDiagonalizationState:
        del options
        if not isinstance(operator, EllipticOperator):
            raise ValueError("operator: FastDiagonalization needs an EllipticOperator")
        if not operator.is_constant:
            raise ValueError(
                "operator: FastDiagonalization needs constant coefficients (diffusion a number or "
                "one per axis, reaction a number); ConjugateGradient takes varying ones"
            )
        grid = operator.grid
        scaled = [transforms.eigenvalues(grid, d) * grid.spacing[d] ** 2 for d in range(grid.ndim)]
        eigenvalues = tuple(
            c * jnp.asarray(values, grid.dtype)
            for c, values in zip(operator.conductances, scaled, strict=True)
        )
        return FastDiagonalizationState(operator, eigenvalues)

    def compute(
        self, state: FastDiagonalizationState, vector: Any, options: dict[str, Any]
    ) -> tuple[jax.Array, Any, dict[str, Any]]:
        operator, eigenvalues = state
        grid = operator.grid
        refuse_options(options)
        b = without_mean(operator, read_vector(operator, "vector", vector))
        modes = b / operator.weigh(jnp.ones_like(b))
        for axis in range(grid.ndim):
            modes = transforms.analyze(modes, grid, axis)
        total = jnp.zeros((), grid.dtype) if operator.reaction is None else operator.reaction
        for axis, values in enumerate(eigenvalues):
            total = total + values.reshape([-1 if d == axis else 1 for d in range(grid.ndim)])
        is_null = (total == 0) & operator.is_singular
        u = jnp.where(is_null, 0, modes / jnp.where(is_null, 1, total))
        for axis in range(grid.ndim):
            u = transforms.synthesize(u, grid, axis)
        u = without_mean(operator, u)
        reason = Reason.where(jnp.isfinite(u).all(), Reason.converged, Reason.singular)
        is_known = jnp.isfinite(b).all() & jnp.isfinite(total).all()
        reason = Reason.where(is_known, reason, Reason.nonfinite_input)
        one = jnp.ones((), jnp.int32)
        stats = {"num_steps": one, "max_steps": one, "reason": reason}
        return u, lineax_result(reason), stats | residual_stats(operator, b, jnp.zeros_like(b), u)

    def transpose(self, state: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        del options
        return state, {}

    def conj(self, state: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return state, options

    def assume_full_rank(self) -> bool:
        return True  # as for the iterative methods: the null space is the constants
