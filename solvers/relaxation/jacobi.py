"""Jacobi relaxation."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from solvers.arguments import as_count, as_number, is_traced
from solvers.iteration import AbstractIteration, Operator, fixed_steps, stopping
from solvers.relaxation.fused import FusedSweeps, check_fused, prepare_fused


class JacobiSetup(NamedTuple):
    operator: Operator
    diagonal: jax.Array
    damping: jax.Array
    fused: FusedSweeps | None


class Jacobi(AbstractIteration):
    """Damped Jacobi relaxation, u ← u + ω D⁻¹(b − A u).

    With ω = 1 on n Dirichlet intervals in 1-D the mode sin(jkπ/n) is multiplied by cos(kπ/n) in
    each sweep: smooth (k near 1) and roughest modes (k near n) stay, the ones between go.

    Args:
        damping: ω in (0, 2). The default is 1, or 0.8 where undamped Jacobi has the eigenvalue −1
            and would not converge: operators without Dirichlet side or reaction of which the nodes
            can be coloured in two colours. There an explicit 1 is refused.
        rtol, atol: stop when √(∏h)·‖b − A u‖₂ ≤ max(rtol·‖b‖, atol).
        max_steps: sweeps at most.
        check_every: sweeps between two looks at the residual.
        fused: m > 1 does up to m sweeps in one kernel, on a TPU; at most `check_every`. Steps are
            counted as ever, results differ by rounding.
        interpret: run that kernel anywhere by Pallas's interpreter, as a test: very slowly. True,
            or Pallas's `InterpretParams`.

    Any lineax operator with a diagonal will do; convergence is sure for symmetric positive definite
    A with 2D/ω − A positive definite.

    The kernel reads a tile with a rim of m nodes (of the last axis but one a multiple of 8, of the
    last axis all), does m sweeps in fast memory and writes the tile. It needs an
    `EllipticOperator` on a grid of two or three axes in float32, and one TPU with 64 MiB of fast
    memory, v5e or later. It is off by default, since **it has never been timed, or run on a TPU**:
    it has been checked by interpreters, and compiled for v5e, v5p and v6e without one. For GPUs
    there is none: Pallas's Triton has no shared memory, and no shifts of what is in registers.

    Raises:
        ValueError: for a damping outside (0, 2), or 1 where that cannot converge; for `fused` where
            there is no kernel, as on a mesh of devices.

    Cost: a sweep reads u and b, and k arrays of varying coefficients, once and writes u once: 3 + k
    numbers an unknown. In a kernel m sweeps with tiles of t nodes and rims of r move (2 + k)ρ + 1
    numbers and compute ρm times each, ρ = ∏(t + 2r)/t over the axes that are cut, all but the last.
    For constant a and m = 4 that is 3.1 instead of 12 numbers at 4096² (t = 296, r = 8), and 4.3
    at 512³ (t = 32 and 48, r = 4 and 8).

    Reference: Saad 2003, Iterative Methods for Sparse Linear Systems, 2nd ed., §4.1; overlapping
    tiles: Krishnamoorthy et al. 2007, "Effective automatic parallelization of stencil
    computations", PLDI '07, 235–244, doi:10.1145/1250734.1250761.

    Example:
        >>> from solvers import Grid, Poisson, solve
        >>> print(solve(Poisson(Grid(16), source=1.0), Jacobi(rtol=1e-6)).num_steps)
        800
    """

    damping: jax.Array | None
    rtol: jax.Array
    atol: jax.Array
    max_steps: jax.Array
    check_every: int = eqx.field(static=True)
    fused: int = eqx.field(static=True)
    interpret: Any = eqx.field(static=True)
    works_in_place: ClassVar[bool] = False
    is_light: ClassVar[bool] = True
    # Inside lineax's jit the damping is a tracer, so that what is known of it is kept here.
    is_undamped: bool = eqx.field(static=True)

    def __init__(
        self,
        damping: Any = None,
        *,
        rtol: Any = 1e-8,
        atol: Any = 0.0,
        max_steps: Any = 100_000,
        check_every: int = 100,
        fused: int = 1,
        interpret: Any = False,
    ):
        self.damping, self.is_undamped = None, False
        if damping is not None:
            wanted = "a number between 0 and 2"
            omega = as_number("damping", damping, wanted, lambda x: (x <= 0) | (x >= 2))
            self.damping, self.is_undamped = omega, not is_traced(omega) and float(omega) == 1
        self.rtol, self.atol, self.max_steps = stopping(rtol, atol, max_steps)
        self.check_every = as_count("check_every", check_every)
        self.fused, self.interpret = as_count("fused", fused), interpret
        if self.fused > self.check_every:
            raise ValueError(f"fused: expected at most check_every, {check_every}, got {fused}")

    @property
    def at_once(self) -> int:
        return self.fused

    def prepare(self, operator: Operator) -> JacobiSetup:
        # A medium may cut an odd ring, so that what is left of it has two colours.
        alternates = operator.is_singular and (operator.is_bipartite or operator.null is not None)
        if alternates and self.is_undamped:
            raise ValueError(
                "damping: 1 does not converge here, undamped Jacobi has the eigenvalue −1 (no "
                "Dirichlet side, no reaction); leave it out for 0.8"
            )
        default = 0.8 if alternates else 1.0
        diagonal = operator.diagonal()
        damping = default if self.damping is None else self.damping
        damping = jnp.asarray(damping).astype(diagonal.dtype)
        fused = None
        if self.fused > 1:
            ours = check_fused(operator, self.fused, interpret=self.interpret)
            fused = prepare_fused(ours, damping, self.fused)
        return JacobiSetup(operator, diagonal, damping, fused)

    def start(self, setup: JacobiSetup, b: jax.Array, u: jax.Array) -> Any:
        _, diagonal, damping, fused = setup
        return u if fused is None else fused.start(u, damping * b / diagonal)

    def step(self, setup: JacobiSetup, b: jax.Array, carry: Any) -> Any:
        operator, diagonal, damping, fused = setup
        if fused is not None:
            return fused.sweep(carry, 1, interpret=self.interpret)
        return carry + (damping / diagonal) * (b - operator.mv(carry))

    def leap(self, setup: JacobiSetup, b: jax.Array, carry: Any, count: Any) -> Any:
        assert setup.fused is not None
        return setup.fused.sweep(carry, count, interpret=self.interpret)

    def current(self, setup: JacobiSetup, carry: Any) -> jax.Array:
        return carry if setup.fused is None else setup.fused.current(carry)

    def precondition(self, setup: JacobiSetup, r: jax.Array, steps: int) -> jax.Array:
        return fixed_steps(self, setup, r, steps)
