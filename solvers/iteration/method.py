"""What a method has to supply, and what it gets for it: a lineax solver."""

import abc
from typing import Any, ClassVar, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from solvers.arguments import as_count, as_number, expect, is_traced
from solvers.iteration.loop import iterate, repeated
from solvers.iteration.reason import checked_for_gradient, lineax_result
from solvers.iteration.unknowns import (
    Operator,
    RaveledOperator,
    as_operator,
    norm,
    read_vector,
    without_mean,
)
from solvers.operators import EllipticOperator

# What tells a solve for a cotangent, which lineax makes of the transpose, from all others.
FOR_GRADIENT = {"for_gradient": True}
Setup = TypeVar("Setup")
Carry = TypeVar("Carry")


class AbstractPreconditioner(lx.AbstractLinearSolver):
    """A solver that can also be applied as a symmetric linear operator M⁻¹ ≈ A⁻¹."""

    @abc.abstractmethod
    def prepare(self, operator: Operator) -> Any:
        """Compute all that depends on the operator alone."""

    @abc.abstractmethod
    def precondition(self, setup: Any, r: jax.Array, steps: int) -> jax.Array:
        """Apply `steps` steps from zero as a symmetric linear operator."""


class AbstractIteration(AbstractPreconditioner, Generic[Setup, Carry]):
    """An iterative method: it supplies a step, the loop owns everything else.

    The residual r = b − A u is looked at every `check_every` steps, in the norm √(∏h)·‖r‖₂ (‖r‖₂
    for an operator without a grid). The solve has converged when it is at most max(rtol·‖b‖, atol),
    on the last allowed step too. b = 0 gives 0 at once. A singular operator is solved in the sense
    of the pseudo-inverse, right-hand side and result without mean.

    `options={"y0": u}` is the initial guess, at the unknowns or on all nodes. Solves for tangents
    and cotangents are lineax's: they always raise when they fail, under `throw=False` too, for
    there is no place for a status. Their `rtol` is relative to the cotangent: of a smooth one
    rounding leaves more than of a rough right-hand side.
    """

    rtol: eqx.AbstractVar[jax.Array]
    atol: eqx.AbstractVar[jax.Array]
    max_steps: eqx.AbstractVar[jax.Array]
    check_every: eqx.AbstractVar[int]
    # Looks without progress, near the floor of the precision, after which a solve has stagnated.
    patience: ClassVar[int] = 16
    # What share of the least residual before a window has to be undercut for progress: rounding
    # gives a per cent by chance, which for a slow method may be all that it gains.
    progress: ClassVar[float] = 1.0
    # Numbers that make up one of the solution; its rounding is eps to that power.
    parts: ClassVar[int] = 1
    # Whether a step can overwrite what it reads; false where it needs neighbours' old values.
    works_in_place: eqx.AbstractClassVar[bool]
    # Whether a step is so few operations that some are written out where a loop is dear.
    is_light: ClassVar[bool] = False

    @property
    def starts_with_a_step(self) -> bool:
        """Whether `start` is the first step already."""
        return False

    @property
    def at_once(self) -> int:
        """How many steps a leap has at most; 1 where there is nothing to gain."""
        return 1

    @abc.abstractmethod
    def prepare(self, operator: Operator) -> Setup:
        """Compute all that depends on the operator alone."""

    @abc.abstractmethod
    def start(self, setup: Setup, b: jax.Array, u: jax.Array) -> Carry:
        """Wrap the initial guess `u` with whatever the method remembers between steps."""

    @abc.abstractmethod
    def step(self, setup: Setup, b: jax.Array, carry: Carry) -> Carry:
        """Do one step."""

    def leap(self, setup: Setup, b: jax.Array, carry: Carry, count: jax.Array) -> Carry:
        """Do `count` ≤ `at_once` steps; asked only of methods where these are more than 1."""
        raise NotImplementedError

    @abc.abstractmethod
    def current(self, setup: Setup, carry: Carry) -> jax.Array:
        """Give the present u."""

    def low(self, setup: Setup, carry: Carry) -> jax.Array | None:
        """Give what u lacks of the method's own solution, None where that is u."""
        del setup, carry
        return None

    def norms(
        self, operator: Operator, setup: Setup, b: jax.Array, carry: Carry
    ) -> tuple[jax.Array, jax.Array]:
        """Give the norms of b − A u and of u; a method may have the residual at hand."""
        v = self.current(setup, carry)
        return norm(operator, b - operator.mv(v)), norm(operator, v)

    def is_done(self, setup: Setup, carry: Carry) -> jax.Array | None:
        """Say whether the method itself has reason to stop, None if it never has."""
        del setup, carry
        return None

    def statistics(
        self, setup: Setup, carry: Carry, stats: dict[str, Any], unit: jax.Array
    ) -> dict[str, Any]:
        """Give what the method adds to the loop's statistics; what it carries is in `unit`s."""
        del setup, carry, stats, unit
        return {}

    def init(self, operator: Any, options: dict[str, Any]) -> tuple[Operator, Setup]:
        del options
        operator = as_operator(operator)
        return operator, self.prepare(operator)

    def compute(
        self, state: tuple[Operator, Setup], vector: Any, options: dict[str, Any]
    ) -> tuple[Any, Any, dict[str, Any]]:
        operator, setup = state
        is_for_gradient = options == FOR_GRADIENT
        refuse_options({} if is_for_gradient else options)
        b = read_vector(operator, "vector", vector)
        u = read_vector(operator, "y0", options["y0"]) if "y0" in options else jnp.zeros_like(b)
        u, reason, stats = iterate(self, operator, setup, b, u)
        u = checked_for_gradient(u, reason) if is_for_gradient else u
        value = operator.unravel(u) if isinstance(operator, RaveledOperator) else u
        return value, lineax_result(reason), stats

    def transpose(
        self, state: tuple[Operator, Setup], options: dict[str, Any]
    ) -> tuple[tuple[Operator, Setup], dict[str, Any]]:
        del options  # the initial guess is for another right-hand side
        operator, _ = state
        if isinstance(operator, EllipticOperator):
            return state, FOR_GRADIENT
        return self.init(operator.transpose(), {}), FOR_GRADIENT

    def conj(self, state: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return state, options

    def assume_full_rank(self) -> bool:
        # Also for a singular operator: its null space is the constants whatever the coefficients,
        # so that the terms which lineax would add for a lower rank are zero.
        return True


def stopping(rtol: Any, atol: Any, max_steps: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Check the arguments that all iterative methods share and make them leaves.

    As Python numbers they would be static, and each new value would compile again.
    """
    wanted = "a finite number that is not negative"
    rtol = as_number("rtol", rtol, wanted, lambda x: x < 0)
    atol = as_number("atol", atol, wanted, lambda x: x < 0)
    return rtol, atol, _steps(max_steps)


def _steps(max_steps: Any) -> jax.Array:
    dtype = max_steps.dtype if is_traced(max_steps) else np.asarray(max_steps).dtype
    is_integer = jnp.issubdtype(dtype, jnp.integer) and np.ndim(max_steps) == 0
    if not is_integer or not (is_traced(max_steps) or 0 <= int(max_steps) < 2**31):
        raise ValueError(f"max_steps: expected an integer from 0 to 2³¹ − 1, got {max_steps!r}")
    return jnp.asarray(max_steps, jnp.int32)


def with_budget(method: AbstractIteration, steps: int) -> AbstractIteration:
    """Give the same method with exactly `steps` steps (where it does not break down)."""
    zero = jnp.zeros_like(method.rtol)
    replaced = (zero, zero, jnp.asarray(steps, jnp.int32))
    return eqx.tree_at(lambda m: (m.rtol, m.atol, m.max_steps), method, replaced)


def refuse_options(options: dict[str, Any]) -> None:
    """Raise for options that would be ignored."""
    unknown = set(options) - {"y0"}
    if unknown:
        raise ValueError(
            f"options: expected only 'y0', got {sorted(unknown)}; a preconditioner is an argument "
            "of ConjugateGradient"
        )


def fixed_steps(method: AbstractIteration, setup: Any, r: jax.Array, steps: int) -> jax.Array:
    """Do `steps` steps from zero, without looking at the residual."""
    carry = method.start(setup, r, jnp.zeros_like(r))
    return method.current(setup, repeated(method, setup, r, carry, steps))


@eqx.filter_jit
def _prepared(method: AbstractPreconditioner, operator: Operator) -> Any:
    return method.prepare(operator)


def as_preconditioner(
    method: AbstractPreconditioner, operator: lx.AbstractLinearOperator, *, steps: int = 1
) -> lx.FunctionLinearOperator:
    """Give `steps` steps of a method, from zero, as a symmetric positive definite operator ≈ A⁻¹.

    A fixed number of steps is a linear operator; a tolerance would not be. Gradients do not pass: a
    preconditioner changes the way to the solution and not the solution.

    Args:
        method: any iterative method but `ConjugateGradient`, or `FastDiagonalization`. Of
            `GaussSeidel` and `LineRelaxation` a step is then a sweep and its reverse, of
            `Multigrid` the symmetric cycle.
        operator: A.
        steps: how many.

    Example:
        >>> from solvers import GaussSeidel, Grid, Poisson
        >>> problem = Poisson(Grid((32, 32)), source=1.0)
        >>> nearly_inverse = as_preconditioner(GaussSeidel(), problem.operator)
        >>> cg = lx.CG(rtol=1e-8, atol=1e-8 * float(abs(problem.rhs).max()))
        >>> options = {"preconditioner": nearly_inverse}
        >>> solved = lx.linear_solve(problem.operator, problem.rhs, cg, options=options)
        >>> int(solved.stats["num_steps"]) < 40
        True
    """
    expect("method", method, AbstractPreconditioner, "a method of solvers such as GaussSeidel()")
    as_count("steps", steps)
    arrays, static = eqx.partition((method, operator), eqx.is_array)
    method, frozen = eqx.combine(jax.lax.stop_gradient(arrays), static)
    ours = as_operator(frozen)
    setup = _prepared(method, ours)

    def apply(r: Any) -> Any:
        flat = without_mean(ours, read_vector(ours, "vector", r))
        u = without_mean(ours, method.precondition(setup, flat, steps))
        return ours.unravel(u) if isinstance(ours, RaveledOperator) else u

    tags = frozenset({lx.positive_semidefinite_tag, lx.symmetric_tag})
    return lx.FunctionLinearOperator(apply, frozen.in_structure(), tags)
