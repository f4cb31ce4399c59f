"""Energy natural gradient, and optimisers that take turns."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from nets.energies import RitzLoss
from solvers.arguments import as_count, as_number

# Damping at which no step is left to be tried, and the least that is.
LARGEST, SMALLEST = 1e6, 1e-15
# Twice the correction of second order, in the length of the step, up to which it is to be trusted.
LONGEST = 0.75


class NaturalGradientState(NamedTuple):
    """What the natural gradient remembers.

    Attributes:
        damping: λ.
        growth: what λ is multiplied with after the next failure.
        has_stalled: whether no trial of the latest step lowered the energy, up to the largest λ.
        energy_drop: by the latest step; NaN before the first.
    """

    damping: jax.Array
    growth: jax.Array
    has_stalled: jax.Array
    energy_drop: jax.Array


def energy_natural_gradient(
    damping: float = 1e-3, *, trials: int = 6
) -> optax.GradientTransformationExtraArgs:
    """Gauss–Newton on the Ritz energy with Levenberg–Marquardt damping, as an optax optimiser.

    With q(θ) the values and derivatives of u at the points of the quadrature, of which the energy
    is E = ½qᵀHq − ℓᵀq, and J = ∂q/∂θ, a step solves

        (JᵀHJ + λ (tr JᵀHJ/P) I) Δ = −Jᵀ(Hq − ℓ)

    for the P parameters, or where these outnumber the numbers in q and all of it is on one device,
    the system of that size which has Jᵀ on its left. Along Δ the path of q bends, by
    q″ = ∂²q/∂Δ²; the same matrix with −½JᵀHq″ on the right gives the correction of second order Δ₂
    (geodesic acceleration), which is added where 2|Δ₂| ≤ ¾|Δ|. The sum is taken if it lowers the
    energy, of which the difference is summed point by point, so that it is right to rounding
    however small; λ follows the ratio ρ of that and the difference predicted for Δ: times
    max(⅓, 1 − (2ρ − 1)³) on success, and on failure times 2, 4, 8, ….

    A step is a whole one: no learning rate. Near the rounding of the precision no trial succeeds
    any more: `has_stalled` says so, and a `RitzTraining` ends. In single precision that is at some
    3e-5 of max|u|.

    Args:
        damping: λ at the start.
        trials: of λ for each linearisation.

    Returns:
        An optimiser that needs `value_fn=` a `RitzLoss`, as `RitzTraining` gives it.

    Raises:
        ValueError: for arguments out of range, or another `value_fn`.

    Cost: the derivatives of N(d + 1) numbers by P parameters, 2N(d + 1)P² operations for the
    matrix, and P³/3 for each trial. On a mesh the devices share all but the last, and sum the
    matrix and some vectors of length P.

    Reference: Müller, Zeinhofer 2023, "Achieving high accuracy with PINNs via energy natural
    gradient descent", ICML, arXiv 2302.13163; Nielsen 1999, "Damping parameter in Marquardt's
    method", IMM-REP-1999-05 (λ); Transtrum, Sethna 2012, "Improvements to the Levenberg–Marquardt
    algorithm for nonlinear least-squares minimization", arXiv 1201.5885, section 5 (Δ₂).

    Example:
        >>> from flax import nnx
        >>> from nets import MLP, RitzTraining
        >>> from solvers import Grid, Poisson
        >>> network = MLP(1, (8,), frequency=4.0, dtype="float64", rngs=nnx.Rngs(0))
        >>> training = RitzTraining(
        ...     Poisson(Grid(64), source=2.0),  # u = x(1 − x), E = −1/6
        ...     network, optimizer=energy_natural_gradient(), every=10, max_steps=20)
        >>> *_, snapshot = training
        >>> bool(abs(training.energies[-1] + 1 / 6) < 1e-8)
        True
    """
    start = as_number(
        "damping", damping, f"above 0, at most {LARGEST:.0e}", lambda x: (x <= 0) | (x > LARGEST)
    )
    trials = as_count("trials", trials)

    def init(params: Any) -> NaturalGradientState:
        flat, _ = ravel_pytree(params)
        number = jnp.asarray(start, _solvable(flat.dtype))
        unknown = jnp.full_like(number, jnp.nan)
        return NaturalGradientState(number, jnp.full_like(number, 2), jnp.zeros((), bool), unknown)

    def update(
        updates: Any,
        state: NaturalGradientState,
        params: Any = None,
        *,
        value_fn: Any = None,
        **others: Any,
    ) -> tuple[Any, NaturalGradientState]:
        del updates, others
        if not isinstance(value_fn, RitzLoss) or params is None:
            raise ValueError("value_fn: the natural gradient needs a RitzLoss, and params")
        return _descend(value_fn, params, state, trials)

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]


def _solvable(dtype: Any) -> Any:
    """Refuse precisions in which no linear system is solved."""
    if dtype in (jnp.float32, jnp.float64):
        return dtype
    raise ValueError(f"params: the natural gradient needs float32 or float64, got {dtype}")


class _Trial(NamedTuple):
    step: jax.Array
    damping: jax.Array
    growth: jax.Array
    energy_drop: jax.Array
    count: jax.Array
    has_succeeded: jax.Array


def _descend(
    loss: RitzLoss, params: Any, state: NaturalGradientState, most: int
) -> tuple[Any, NaturalGradientState]:
    """Linearise once, and try steps until one lowers the energy."""
    energy = loss.energy
    flat, unravel = ravel_pytree(params)

    def features(flat: jax.Array) -> jax.Array:
        return loss.features(unravel(flat))

    q, pull = jax.vjp(features, flat)
    slope = energy.curvature(q) - energy.loads
    # Of both products the trace is the same; the wide one acts from the left of Jᵀ, and joins any
    # two points: where these are on many devices, the other one is what can be summed.
    is_wide = q.size < flat.size and energy.sharding.shares == 1
    matrix = loss.dual(params) if is_wide else loss.gauss_newton(params)
    size = jnp.trace(matrix) / flat.size

    def solver(damping: jax.Array) -> Callable[[jax.Array], jax.Array]:
        """What takes r, of the shape of q, to −(JᵀHJ + λ…)⁻¹Jᵀr."""
        damped = matrix + damping * size * jnp.eye(len(matrix), dtype=matrix.dtype)
        if is_wide:
            factor = jax.scipy.linalg.lu_factor(damped)
            return lambda r: -pull(jax.scipy.linalg.lu_solve(factor, r.ravel()).reshape(r.shape))[0]
        factor = jax.scipy.linalg.cho_factor(damped)
        return lambda r: -jax.scipy.linalg.cho_solve(factor, pull(r)[0])

    def goes_on(trial: _Trial) -> jax.Array:
        return ~trial.has_succeeded & (trial.count < most) & (trial.damping <= LARGEST)

    def attempt(trial: _Trial) -> _Trial:
        solve = solver(trial.damping)
        first = solve(slope)

        def along(x: jax.Array) -> jax.Array:
            return jax.jvp(features, (x,), (first,))[1]

        change, bend = jax.jvp(along, (flat,), (first,))
        second = solve(energy.curvature(bend) / 2)
        is_short = 2 * jnp.linalg.norm(second) <= LONGEST * jnp.linalg.norm(first)
        step = first + jnp.where(is_short, second, 0)
        found = energy.difference(features(flat + step), q)
        predicted = jnp.sum(change * (energy.curvature(change) / 2 + slope))
        has_succeeded = (found < 0) & jnp.all(jnp.isfinite(step))  # false for NaN
        ratio = jnp.where(has_succeeded, found / jnp.where(predicted < 0, predicted, -1), 0)
        shrink = jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3)
        damping = trial.damping * jnp.where(has_succeeded, shrink, trial.growth)
        return _Trial(
            step=jnp.where(has_succeeded, step, 0),
            damping=jnp.maximum(damping, SMALLEST),
            growth=jnp.where(has_succeeded, 2, 2 * trial.growth),
            energy_drop=jnp.where(has_succeeded, -found, 0),
            count=trial.count + 1,
            has_succeeded=has_succeeded,
        )

    none, zero = jnp.zeros((), jnp.int32), jnp.zeros((), flat.dtype)
    start = _Trial(jnp.zeros_like(flat), state.damping, state.growth, zero, none, none > 0)
    last = jax.lax.while_loop(goes_on, attempt, start)
    has_stalled = ~last.has_succeeded & (last.damping > LARGEST)
    kept = NaturalGradientState(last.damping, last.growth, has_stalled, last.energy_drop)
    return unravel(last.step), kept


class InTurnState(NamedTuple):
    """Of two optimisers in turn.

    Attributes:
        step: steps taken.
        steps_of_first: those that are the first one's.
        was_first: whether the latest was.
        has_stalled: whether the second one has; after a first one that has it comes the second.
        first, second: their states.
    """

    step: jax.Array
    steps_of_first: jax.Array
    was_first: jax.Array
    has_stalled: jax.Array
    first: Any
    second: Any


def in_turn(
    first: optax.GradientTransformation, second: optax.GradientTransformation, *, steps: int
) -> optax.GradientTransformationExtraArgs:
    """Take `steps` steps by one optimiser and all others by a second one.

    Args:
        first, second: any optax optimisers, such as Adam and `energy_natural_gradient()`.
        steps: by the first; fewer if it is a natural gradient and no step lowers the energy.

    Raises:
        ValueError: if `steps` is not a positive integer.

    Example:
        >>> optimizer = in_turn(optax.adam(1e-3), optax.sgd(1e-2), steps=200)
        >>> optimizer.init({"w": jnp.zeros(3)}).step
        Array(0, dtype=int32)
    """
    steps = as_count("steps", steps)
    one, two = map(optax.with_extra_args_support, (first, second))

    def init(params: Any) -> InTurnState:
        none = jnp.zeros((), jnp.int32)
        no = none < 0
        return InTurnState(none, none + steps, no, no, one.init(params), two.init(params))

    def update(
        updates: Any, state: InTurnState, params: Any = None, **extra: Any
    ) -> tuple[Any, InTurnState]:
        def by_first(states: tuple[Any, Any]) -> Any:
            change, kept = one.update(updates, states[0], params, **extra)
            return change, (kept, states[1])

        def by_second(states: tuple[Any, Any]) -> Any:
            change, kept = two.update(updates, states[1], params, **extra)
            return change, (states[0], kept)

        is_first = state.step < state.steps_of_first
        for part in _judges(state.first):
            is_first = is_first & ~part.has_stalled
        change, kept = jax.lax.cond(is_first, by_first, by_second, (state.first, state.second))
        stalled = state.step < 0
        for part in _judges(kept[1]):
            stalled = stalled | (part.has_stalled & ~is_first)
        return change, InTurnState(state.step + 1, state.steps_of_first, is_first, stalled, *kept)

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]


def judges_steps(state: Any) -> bool:
    """Whether an optimiser, from its state, takes only steps that lower the energy.

    Of two in turn the second one counts: it is the one that stays.
    """
    return any(not isinstance(p, InTurnState) or judges_steps(p.second) for p in _judges(state))


def _judges(state: Any) -> list[Any]:
    """States of natural gradients and of optimisers in turn within an optimiser's."""

    def is_judge(part: Any) -> bool:
        return isinstance(part, InTurnState | NaturalGradientState)

    return [part for part in jax.tree.leaves(state, is_leaf=is_judge) if is_judge(part)]


def steps_before(state: Any) -> int:
    """Steps that are left to the first of two optimisers in turn; 0 without turns."""
    found = optax.tree_utils.tree_get_all_with_path(state, "steps_of_first")
    return sum(int(steps) for _, steps in found)


def has_stalled(state: Any) -> bool:
    """Whether an optimiser's state says that no step of it lowers the energy any more."""
    return any(bool(part.has_stalled) for part in _judges(state))


def energy_drop(state: Any) -> float | None:
    """By how much the latest step lowered the energy, if an optimiser's state knows.

    A natural gradient knows it of its own steps, not of what others make of them in a chain.
    """
    if isinstance(state, InTurnState):
        return energy_drop(state.first if bool(state.was_first) else state.second)
    if isinstance(state, NaturalGradientState) and math.isfinite(state.energy_drop):
        return float(state.energy_drop)
    return None
