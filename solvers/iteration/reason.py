"""Why a solve ended, and how lineax calls that."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx


class Reason(eqx.Enumeration):
    """Why a solve ended, in words that say what to do; found in `stats["reason"]`."""

    converged = "The residual meets the tolerance."
    discretization = (
        "The estimated algebraic error is below the given fraction of the estimated discretization "
        "error: more cycles would not bring the solution nearer to the continuous one."
    )
    max_steps = (
        "The residual is still above the tolerance after max_steps steps. Raise max_steps, start "
        "from a better initial guess, or take a faster method: FastDiagonalization where the "
        "coefficients are constant, ConjugateGradient(preconditioner=Multigrid()) anywhere."
    )
    interrupted = (
        "It was stopped, by the limit of seconds or by the user, before the residual met the "
        "tolerance. This is as far as it came; it goes on from initial=solution.field."
    )
    diverged = (
        "The residual grew beyond all bounds. Lower the method's damping or over-relaxation; "
        "ConjugateGradient needs a symmetric positive definite operator and preconditioner."
    )
    stagnated = (
        "The residual stopped falling at the rounding error of this precision, above the "
        "tolerance. Ask for a larger rtol, solve in double precision (jax_enable_x64), or take "
        "Refined(method), which carries twice the digits."
    )
    unmet = (
        "The method says that it has converged, but the residual is above ten times its tolerance. "
        "lineax's conjugate gradients hold each component of the residual against its own of the "
        "right-hand side: give them an atol of rtol·max|b|, or take ConjugateGradient."
    )
    nonfinite_input = (
        "The right-hand side, a coefficient or the initial guess has a NaN or an infinity in it. "
        "Traced values that would have been refused count as NaN: a ≤ 0, c < 0, α < 0, an empty "
        "domain, or pieces that nothing holds. Make the problem outside jit to see which."
    )
    singular = (
        "The solution is not finite: the operator is singular. Is the diffusion positive, and if "
        "there is no Dirichlet side, the reaction too?"
    )
    incompatible = (
        "Without a Dirichlet side or a reaction there is a solution only if ∫f + ∮q = 0, and these "
        "data do not balance. Subtract the mean of the source, or correct the flux."
    )
    direct = "It was solved directly, to rounding; no tolerance was asked for."


# lineax's results that say no more than one of ours, and what of ours lineax has no name for.
_PAIRS = (
    (Reason.max_steps, lx.RESULTS.max_steps_reached),
    (Reason.diverged, lx.RESULTS.breakdown),
    (Reason.stagnated, lx.RESULTS.stagnation),
    (Reason.nonfinite_input, lx.RESULTS.nonfinite_input),
    (Reason.singular, lx.RESULTS.singular),
)
_FINER = (
    (Reason.incompatible, lx.RESULTS.singular),
    (Reason.unmet, lx.RESULTS.stagnation),
    (Reason.interrupted, lx.RESULTS.max_steps_reached),
)


def has_succeeded(reason: Any) -> jax.Array:
    """Say whether a solve reached what it was asked for."""
    met = (reason == Reason.converged) | (reason == Reason.discretization)
    return met | (reason == Reason.direct)


def lineax_result(reason: Any) -> Any:
    """Give the nearest of lineax's results, which is what `lx.linear_solve` reports."""
    result = lx.RESULTS.successful
    for ours, theirs in (*_PAIRS, *_FINER):
        result = lx.RESULTS.where(reason == ours, theirs, result)
    return result


def reason_of(result: Any, *, is_direct: bool) -> Any:
    """Give the reason behind the result of one of lineax's own solvers."""
    success = Reason.direct if is_direct else Reason.converged
    reason = Reason.where(result == lx.RESULTS.successful, success, Reason.max_steps)
    for ours, theirs in _PAIRS:
        reason = Reason.where(result == theirs, ours, reason)
    return reason


def checked_for_gradient(u: jax.Array, reason: Any) -> jax.Array:
    """Give `u`, and raise where the solve for it failed that a gradient needs.

    lineax would raise, too, in words for solvers of its own.
    """
    failures = [ours for ours, _ in (*_PAIRS, *_FINER)]
    index = sum(jnp.where(reason == ours, i, 0) for i, ours in enumerate(failures))
    texts = [f"For a gradient the cotangent was solved for. {message(ours)}" for ours in failures]
    return eqx.branched_error_if(u, ~has_succeeded(reason), index, texts)


def message(reason: Any) -> str:
    """Give the words of a reason that is known."""
    words: Any = Reason
    return words[reason]
