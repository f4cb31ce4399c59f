"""The one loop behind every iterative method: counting, stopping, history and status."""

import abc
from typing import Any, Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.flatten_util import ravel_pytree

from solvers.grid import is_traced
from solvers.operators import EllipticOperator

HISTORY = 1024
PATIENCE = 32
Setup = TypeVar("Setup")
Carry = TypeVar("Carry")


class Reason(eqx.Enumeration):
    """Why a solve ended, in words that say what to do; found in `stats["reason"]`."""

    converged = "The residual meets the tolerance."
    max_steps = (
        "The residual is still above the tolerance after max_steps steps. Raise max_steps, start "
        "from a better initial guess, or take a faster method: FastDiagonalization where the "
        "coefficients are constant, ConjugateGradient anywhere."
    )
    diverged = (
        "The residual grew beyond all bounds. Lower the method's damping or over-relaxation; "
        "ConjugateGradient needs a symmetric positive definite operator and preconditioner."
    )
    stagnated = (
        "The residual stopped falling at the rounding error of this precision, above the "
        "tolerance. Ask for a larger rtol, or solve in double precision (jax_enable_x64)."
    )
    nonfinite_input = (
        "The right-hand side, a coefficient or the initial guess has a NaN or an infinity in it."
    )
    singular = "The solution is not finite: the operator is singular. Check that the diffusion is positive."
    incompatible = (
        "Without a Dirichlet side or a reaction there is a solution only if ∫f + ∮q = 0, and these "
        "data do not balance. Subtract the mean of the source, or correct the flux."
    )


def lineax_result(reason: Any) -> Any:
    """Give the nearest of lineax's results, which is what `lx.linear_solve` reports."""
    result = lx.RESULTS.successful
    for ours, theirs in (
        (Reason.max_steps, lx.RESULTS.max_steps_reached),
        (Reason.diverged, lx.RESULTS.breakdown),
        (Reason.stagnated, lx.RESULTS.stagnation),
        (Reason.nonfinite_input, lx.RESULTS.nonfinite_input),
        (Reason.singular, lx.RESULTS.singular),
        (Reason.incompatible, lx.RESULTS.singular),
    ):
        result = lx.RESULTS.where(reason == ours, theirs, result)
    return result


class RaveledOperator(eqx.Module):
    """Any square lineax operator, seen as one on flat vectors.

    It answers to the part of `EllipticOperator` that the loop and the general methods use.
    """

    operator: lx.AbstractLinearOperator

    is_singular = False
    is_bipartite = False
    cell_volume = 1.0

    def ravel(self, name: str, tree: Any) -> jax.Array:
        flat, _ = ravel_pytree(tree)
        if flat.shape != (self.operator.in_size(),):
            raise ValueError(
                f"{name}: expected {self.operator.in_size()} numbers, got {flat.shape}"
            )
        return flat

    def unravel(self, flat: jax.Array) -> Any:
        def zeros(leaf: Any) -> jax.Array:
            return jnp.zeros(leaf.shape, leaf.dtype)

        _, unravel = ravel_pytree(jax.tree.map(zeros, self.operator.in_structure()))
        return unravel(flat)

    def mv(self, flat: jax.Array) -> jax.Array:
        return ravel_pytree(self.operator.mv(self.unravel(flat)))[0]

    def diagonal(self) -> jax.Array:
        return lx.diagonal(self.operator)

    def extend(self, u: jax.Array) -> jax.Array:
        return u

    def shrink(self, p: jax.Array) -> jax.Array:
        return p

    def stencil(self, p: jax.Array) -> jax.Array:
        return self.mv(p)

    def transpose(self) -> "RaveledOperator":
        return RaveledOperator(self.operator.transpose())


Operator = EllipticOperator | RaveledOperator


class AbstractIteration(lx.AbstractLinearSolver, Generic[Setup, Carry]):
    """An iterative method: it supplies a step, the loop owns everything else.

    The residual r = b − A u is looked at every `check_every` steps, in the norm √(∏h)·‖r‖₂ (‖r‖₂ for
    an operator without a grid). The solve has converged when it is at most max(rtol·‖b‖, atol), on the
    last allowed step too. b = 0 gives 0 at once. A singular operator is solved in the sense of the
    pseudo-inverse, right-hand side and result without mean.

    `options={"y0": u}` is the initial guess, at the unknowns or on all nodes. Solves for tangents and
    cotangents are lineax's: they always raise when they fail, under `throw=False` too; give them
    more `max_steps` or a larger `rtol` than the solve itself if that is a concern.
    """

    rtol: eqx.AbstractVar[jax.Array]
    atol: eqx.AbstractVar[jax.Array]
    max_steps: eqx.AbstractVar[jax.Array]
    check_every: eqx.AbstractVar[int]

    @abc.abstractmethod
    def prepare(self, operator: Operator) -> Setup:
        """Compute all that depends on the operator alone."""

    @abc.abstractmethod
    def start(self, setup: Setup, b: jax.Array, u: jax.Array) -> Carry:
        """Wrap the initial guess `u` with whatever the method remembers between steps."""

    @abc.abstractmethod
    def step(self, setup: Setup, b: jax.Array, carry: Carry) -> Carry:
        """Do one step."""

    @abc.abstractmethod
    def current(self, setup: Setup, carry: Carry) -> jax.Array:
        """Give the present u."""

    @abc.abstractmethod
    def precondition(self, setup: Setup, r: jax.Array, steps: int) -> jax.Array:
        """Apply `steps` steps from zero as a symmetric linear operator."""

    def init(self, operator: Any, options: dict[str, Any]) -> tuple[Operator, Setup]:
        del options
        if not isinstance(operator, Operator):
            operator = _raveled(operator)
        return operator, self.prepare(operator)

    def compute(
        self, state: tuple[Operator, Setup], vector: Any, options: dict[str, Any]
    ) -> tuple[Any, Any, dict[str, Any]]:
        operator, setup = state
        refuse_options(options)
        b = read_vector(operator, "vector", vector)
        u = read_vector(operator, "y0", options["y0"]) if "y0" in options else jnp.zeros_like(b)
        u, reason, stats = iterate(self, operator, setup, b, u)
        value = operator.unravel(u) if isinstance(operator, RaveledOperator) else u
        return value, lineax_result(reason), stats

    def transpose(
        self, state: tuple[Operator, Setup], options: dict[str, Any]
    ) -> tuple[tuple[Operator, Setup], dict[str, Any]]:
        del options  # the initial guess is for another right-hand side
        operator, _ = state
        if isinstance(operator, EllipticOperator):
            return state, {}
        return self.init(operator.transpose(), {}), {}

    def conj(self, state: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return state, options

    def assume_full_rank(self) -> bool:
        # Also for a singular operator: its null space is the constants whatever the coefficients, so
        # that the terms which lineax would add for a lower rank are zero.
        return True


def stopping(rtol: Any, atol: Any, max_steps: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Check the arguments that all iterative methods share and make them leaves.

    As Python numbers they would be static, and each new value would compile again.
    """
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not is_traced(value) and not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name}: expected a finite number that is not negative, got {value}")
    if not is_traced(max_steps) and not 0 <= max_steps < 2**31:
        raise ValueError(f"max_steps: expected an integer from 0 to 2³¹ − 1, got {max_steps}")
    return jnp.asarray(rtol, float), jnp.asarray(atol, float), jnp.asarray(max_steps, jnp.int32)


def checks(check_every: int) -> int:
    """Check the argument `check_every`, which is static."""
    if isinstance(check_every, bool) or not isinstance(check_every, int) or check_every < 1:
        raise ValueError(f"check_every: expected a positive integer, got {check_every!r}")
    return check_every


def refuse_options(options: dict[str, Any]) -> None:
    """Raise for options that would be ignored."""
    unknown = set(options) - {"y0"}
    if unknown:
        raise ValueError(
            f"options: expected only 'y0', got {sorted(unknown)}; a preconditioner is an argument of "
            "ConjugateGradient"
        )


def read_vector(operator: Operator, name: str, vector: Any) -> jax.Array:
    """Read a right-hand side or initial guess as one array of unknowns."""
    if isinstance(operator, EllipticOperator):
        return operator.grid.restrict(name, vector)
    return operator.ravel(name, vector)


def volume(operator: Operator) -> float:
    """∏h, or 1 for an operator without a grid."""
    if isinstance(operator, EllipticOperator):
        return operator.grid.cell_volume
    return operator.cell_volume


def without_mean(operator: Operator, u: jax.Array) -> jax.Array:
    """Project onto the range of a singular operator; the identity for a regular one."""
    return u - jnp.mean(u) if operator.is_singular else u


def fixed_steps(method: AbstractIteration, setup: Any, r: jax.Array, steps: int) -> jax.Array:
    """Do `steps` steps from zero, without looking at the residual."""
    carry = method.start(setup, r, jnp.zeros_like(r))
    carry = jax.lax.fori_loop(0, steps, lambda _, c: method.step(setup, r, c), carry)
    return method.current(setup, carry)


def as_preconditioner(
    method: AbstractIteration, operator: lx.AbstractLinearOperator, *, steps: int = 1
) -> lx.FunctionLinearOperator:
    """Give `steps` steps of a method, from zero, as a symmetric positive definite operator ≈ A⁻¹.

    A fixed number of steps is a linear operator; a tolerance would not be. Gradients do not pass: a
    preconditioner changes the way to the solution and not the solution.

    Args:
        method: `Jacobi`, or `GaussSeidel`, of which a step is then a sweep and its reverse.
        operator: A.
        steps: how many.

    Example:
        >>> from solvers import GaussSeidel, Grid, Poisson
        >>> problem = Poisson(Grid((32, 32)), source=1.0)
        >>> half = as_preconditioner(GaussSeidel(), problem.operator)
        >>> cg = lx.CG(rtol=1e-8, atol=1e-8 * float(abs(problem.rhs).max()))
        >>> options = {"preconditioner": half}
        >>> lx.linear_solve(problem.operator, problem.rhs, cg, options=options).result
        RESULTS<>
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps: expected a positive integer, got {steps!r}")
    arrays, static = eqx.partition(operator, eqx.is_array)
    frozen = eqx.combine(jax.lax.stop_gradient(arrays), static)
    ours, setup = method.init(frozen, {})

    def apply(r: Any) -> Any:
        flat = without_mean(ours, read_vector(ours, "vector", r))
        u = without_mean(ours, method.precondition(setup, flat, steps))
        return ours.unravel(u) if isinstance(ours, RaveledOperator) else u

    tags = frozenset({lx.positive_semidefinite_tag, lx.symmetric_tag})
    return lx.FunctionLinearOperator(apply, frozen.in_structure(), tags)


class _History(NamedTuple):
    """Residual norms at most `HISTORY` long: when full, every other one goes."""

    norms: jax.Array
    steps: jax.Array
    count: jax.Array
    stride: jax.Array


class _Loop(NamedTuple):
    carry: Any
    step: jax.Array
    checked: jax.Array
    norm: jax.Array
    best: jax.Array
    stalled: jax.Array
    reason: Any
    done: jax.Array
    history: _History


def iterate(
    method: AbstractIteration, operator: Operator, setup: Any, b: jax.Array, u: jax.Array
) -> tuple[jax.Array, Any, dict[str, Any]]:
    """Run `method` on A u = b from `u` until it has converged or cannot.

    Returns:
        u, the `Reason`, and the statistics `num_steps`, `max_steps`, `reason`, `residual_norms` and
        `residual_steps` (both `HISTORY` long, −1 where unused, the last used one final).
    """
    dtype = b.dtype
    b = without_mean(operator, b)
    # A power of two brings b near 1, so that its square neither over- nor underflows.
    _, exponent = jnp.frexp(jnp.max(jnp.abs(b)))
    unit = jnp.ldexp(jnp.ones((), dtype), jnp.clip(exponent, -120, 120))
    b, u = b / unit, u / unit
    root = jnp.asarray(np.sqrt(volume(operator)), dtype)

    def norm_of(v: jax.Array) -> jax.Array:
        return root * jnp.sqrt(jnp.sum(v * v))

    b_norm = norm_of(b)
    target = jnp.maximum(method.rtol.astype(dtype) * b_norm, method.atol.astype(dtype) / unit)
    u = without_mean(operator, jnp.where(b_norm == 0, 0, u))
    eps = jnp.asarray(100 * jnp.finfo(dtype).eps, dtype)
    size_of_a = 2 * jnp.max(operator.diagonal())
    check_every = jnp.asarray(method.check_every, jnp.int32)

    def judge(loop: _Loop, v: jax.Array, start_norm: jax.Array) -> _Loop:
        floor = eps * (b_norm + size_of_a * norm_of(v))
        stagnated = (loop.stalled >= PATIENCE) & (loop.norm <= floor)
        diverged = ~(loop.norm * jnp.finfo(dtype).eps <= jnp.maximum(b_norm, start_norm))
        reason = Reason.where(stagnated, Reason.stagnated, Reason.max_steps)
        reason = Reason.where(diverged, Reason.diverged, reason)
        reason = Reason.where(~jnp.isfinite(start_norm), Reason.nonfinite_input, reason)
        reason = Reason.where(loop.norm <= target, Reason.converged, reason)
        done = (reason != Reason.max_steps) | (loop.step >= method.max_steps)
        return loop._replace(reason=reason, done=done)

    def body(loop: _Loop) -> _Loop:
        count = jnp.minimum(check_every, method.max_steps - loop.step)
        if method.check_every == 1:
            carry = method.step(setup, b, loop.carry)
        else:
            carry = jax.lax.fori_loop(0, count, lambda _, c: method.step(setup, b, c), loop.carry)
        v = method.current(setup, carry)
        norm = norm_of(b - operator.mv(v))
        step, checked = loop.step + count, loop.checked + 1
        is_best = norm < loop.best
        loop = loop._replace(
            carry=carry,
            step=step,
            checked=checked,
            norm=norm,
            best=jnp.where(is_best, norm, loop.best),
            stalled=jnp.where(is_best, 0, loop.stalled + 1),
            history=_record(loop.history, checked, step, norm),
        )
        return judge(loop, v, first_norm)

    zero = jnp.zeros((), jnp.int32)
    first_norm = norm_of(b - operator.mv(u))
    empty = jnp.full(HISTORY, -1, jnp.int32)
    history = _History(empty.astype(dtype), empty, zero, zero + 1)
    loop = _Loop(
        carry=method.start(setup, b, u),
        step=zero,
        checked=zero,
        norm=first_norm,
        best=first_norm,
        stalled=zero,
        reason=Reason.max_steps,
        done=jnp.zeros((), bool),
        history=_record(history, zero, zero, first_norm),
    )
    loop = judge(loop, u, first_norm)
    loop = jax.lax.while_loop(lambda loop: ~loop.done, body, loop)
    norms, steps = _finish(loop.history, loop.step, loop.norm)
    stats = {
        "num_steps": loop.step,
        "max_steps": method.max_steps,
        "reason": loop.reason,
        "residual_norms": jnp.where(steps >= 0, norms * unit, -1),
        "residual_steps": steps,
    }
    u = method.current(setup, loop.carry) * unit
    return without_mean(operator, u), loop.reason, stats


def _record(history: _History, checked: jax.Array, step: jax.Array, norm: jax.Array) -> _History:
    keep = checked % history.stride == 0
    at = history.count
    norms = history.norms.at[at].set(jnp.where(keep, norm, history.norms[at]))
    steps = history.steps.at[at].set(jnp.where(keep, step, history.steps[at]))
    history = _History(norms, steps, at + keep.astype(jnp.int32), history.stride)
    # One place stays free for the final residual.
    return jax.lax.cond(history.count == HISTORY - 1, _thin, lambda h: h, history)


def _thin(history: _History) -> _History:
    def every_other(values: jax.Array) -> jax.Array:
        kept = values[: HISTORY - 1 : 2]
        return jnp.full_like(values, -1).at[: HISTORY // 2].set(kept)

    norms, steps = every_other(history.norms), every_other(history.steps)
    return _History(norms, steps, jnp.full_like(history.count, HISTORY // 2), history.stride * 2)


def _finish(history: _History, step: jax.Array, norm: jax.Array) -> tuple[jax.Array, jax.Array]:
    is_new = history.steps[history.count - 1] != step
    at = jnp.where(is_new, history.count, history.count - 1)
    return history.norms.at[at].set(norm), history.steps.at[at].set(step)


def _raveled(operator: lx.AbstractLinearOperator) -> RaveledOperator:
    shapes = operator.in_structure(), operator.out_structure()
    if jax.tree.map(lambda s: s.shape, shapes[0]) != jax.tree.map(lambda s: s.shape, shapes[1]):
        raise ValueError(f"operator: expected a square one, got {shapes[0]} to {shapes[1]}")
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(shapes)}
    if len(dtypes) != 1 or not jnp.issubdtype(*dtypes, jnp.floating):
        raise ValueError(f"operator: expected one real precision, got {dtypes}")
    return RaveledOperator(lx.linearise(operator))
