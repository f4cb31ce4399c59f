"""When a training is handed over, and whether to train at all."""

import dataclasses
import math
from numbers import Real
from typing import Any, NamedTuple, Protocol

import numpy as np

from solvers.arguments import expect
from solvers.hybrid.price import check_target
from solvers.hybrid.session import Look, Session
from solvers.hybrid.timing import zero_guess
from solvers.snapshots import Snapshot, TrainingError
from solvers.solution import Problem

COOL_DOWN_STEPS = 250
# Scatter of the smooth modes from which an optimiser only stirs them.
STIRRING = 0.5
# Share of the seconds of relaxing from zero, or of a limit, that training may lose.
STAKE = 0.25
# Of the seconds spent, from where on the pace at which the price falls is trusted.
SPENT = 2 / 3
INTERRUPTED = "interrupted by the user"
NOTHING_CAME = "training: expected at least one snapshot, it gave none"


class Handoff(NamedTuple):
    """A decision and its reasons.

    Attributes:
        step: of the training whose state was handed over; 0 with `initial` None for no network.
        seconds: charged until the decision, cool-down included.
        reason: in words.
        predicted_seconds: the relaxation's share that is to come; infinite where it would not end.
        initial: the smoothed guess at the unknowns, or None for zero; `Placed` on a mesh.
        snapshot: that it was made of, or the last of those, if any.
        combined: snapshots that it was made of.
    """

    step: int
    seconds: float
    reason: str
    predicted_seconds: float
    initial: Any
    snapshot: Snapshot | None = None
    combined: int = 1

    def explain(self) -> str:
        """Tell what was handed over, when and why, in a sentence."""
        start = "zero" if self.initial is None else f"the network of step {self.step}"
        if self.combined > 1:
            start += f", combined with {self.combined - 1} before it,"
        return f"Handed over {start} at {self.seconds:.3f} s: {self.reason}."

    def start(self, problem: Problem) -> Any:
        """The initial guess as an array, also where it is zero: the same compiled program."""
        return zero_guess(problem) if self.initial is None else self.initial


class Scheduler(Protocol):
    """Anything that drives a `Session` to a `Handoff`."""

    @property
    def target(self) -> float | None:
        """What to price: None for the solver's own rule, or an error relative to max|u|."""
        ...

    def decide(self, session: Session) -> Handoff: ...


@dataclasses.dataclass(frozen=True)
class FixedHandoff:
    """Hand over at the first snapshot of at least `step` steps, as it is.

    Args:
        step: optimiser steps, at least 0.
        target: as for `SpectralHandoff`; only for the prediction.
    """

    step: int
    target: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.step, bool) or not isinstance(self.step, int) or self.step < 0:
            raise ValueError(f"step: expected an integer of at least 0, got {self.step!r}")
        check_target(self.target)

    def decide(self, session: Session) -> Handoff:
        last, reason = self._watch(session)
        if last is None and (session.is_interrupted or session.trouble):
            return Handoff(0, session.seconds, reason, session.zero.seconds, None)
        if last is None:
            raise ValueError(NOTHING_CAME)
        look, guess = session.look(last)
        if not _is_finite(look):
            reason += "; its output is not finite, so zero it is"
            return Handoff(0, session.seconds, reason, session.zero.seconds, None)
        return Handoff(last.step, session.seconds, reason, look.remaining_seconds, guess, last)

    def _watch(self, session: Session) -> tuple[Snapshot | None, str]:
        last = None
        try:
            for snapshot in session.snapshots():
                last = snapshot
                if snapshot.step >= self.step:
                    return last, f"fixed handoff at step {self.step}"
                if session.is_out_of_time(0.0):
                    return last, f"the limit of {session.max_seconds:.3g} s is reached"
        except KeyboardInterrupt:
            session.is_interrupted = True
            return last, INTERRUPTED
        step = 0 if last is None else last.step
        return last, _end(session, f" at step {step}, before the fixed {self.step}")


class _Candidate(NamedTuple):
    look: Look
    guess: Any
    snapshot: Snapshot
    is_calm: bool = False  # whether a cool-down from it has been tried


@dataclasses.dataclass(frozen=True)
class SpectralHandoff:
    """Watch the smooth modes of the output; hand over when relaxing is the better use of a second.

    R is the price of handing over the best snapshot so far, t what has been charged. Hand over

    - when R, but for what a call costs anyway, is less than another chunk and a look take;
    - when R ≤ 2t/3, unless at the pace of the later half another chunk and a look would lower R by
      more than they take;
    - when R has not fallen for min(R, t)/2;
    - once t is a quarter of what relaxing from zero costs, unless the pace at which R falls
      promises to beat that.

    Snapshots that have been looked at are combined: the errors of the last eight, and of zero, in
    the smooth modes are known, and there is a combination in which those cancel that relaxing is
    slowest at. It is handed over. Between snapshots these errors change by any factor, in either
    direction, so that one alone costs up to a thousand times the sweeps.

    Without that, a training with noise that can be cooled down is, from the best snapshot, where R
    is twice what that costs; the cheaper of the two states is taken. That is done on the way, too,
    when R is no longer falling and the smooth modes of the last five looks scatter by more than
    half of their size, and again not before t has doubled: if R is then t/4 or less it is handed
    over. There is no training where relaxing from zero costs less than `least_steps` steps and the
    cool-down; one that does not say how long a step takes is timed for a chunk, and what that gave
    is looked at. So is the last snapshot of a training that ends, be it of step 0: a network that
    there was before. A guess dearer than zero is not used. Nothing is trained for methods of which
    the price does not know the guess, all but `Jacobi`, `GaussSeidel` and `Multigrid`: to hand over
    to conjugate gradients take `FixedHandoff`.

    Args:
        target: None to price the solver's own rule (rtol·‖b‖), or an algebraic error relative to
            max|u|, in (0, 1).
        least_steps: optimiser steps before which the output is hardly worth handing over; None for
            what the training says of itself, 250 if it says nothing.
        cool_down: whether to let the optimiser come to rest before the handover; None for where
            the training says that it has noise and snapshots are not combined.
        combine: whether to combine snapshots, at the cost of their memory. Starts that keep a
            promise, as that of Galerkin, are not combined.
    """

    target: float | None = None
    least_steps: int | None = None
    cool_down: bool | None = None
    combine: bool = True

    def __post_init__(self) -> None:
        check_target(self.target)
        expect("combine", self.combine, bool | np.bool_, "True or False")
        expect("cool_down", self.cool_down, bool | np.bool_ | None, "True, False or None")
        if self.least_steps is not None:
            expect("least_steps", self.least_steps, Real, "a number of steps, or None")
            if not self.least_steps >= 0:
                raise ValueError(f"least_steps: expected at least 0, got {self.least_steps!r}")

    def decide(self, session: Session) -> Handoff:
        if not session.guess_matters:
            reason = "no training: what this method takes is priced whatever it starts from"
            return Handoff(0, session.seconds, reason, session.zero.seconds, None)
        pace = session.step_seconds
        refusal = None if pace is None else self._refuse(session, pace)
        if refusal is None:
            best, step, reason = self._watch(session)
        else:
            best, step, reason = None, 0, f"no training: {refusal}"
        if best is None:
            return Handoff(step, session.seconds, reason, session.zero.seconds, None)
        if self._cools(session) and not best.is_calm and not session.is_interrupted:
            try:
                best, more = _cool_down(session, best, combine=self.combine)
            except KeyboardInterrupt:
                session.is_interrupted, more = True, f"; the cool-down was {INTERRUPTED}"
            reason += more
        remaining = best.look.remaining_seconds
        if remaining >= session.zero.seconds:
            reason += _not_finite(session.trace)
            reason += f"; that is no better than zero ({session.zero.seconds:.3g} s), so zero it is"
            return Handoff(0, session.seconds, reason, session.zero.seconds, None)
        step, seconds, count = best.look.step, session.seconds, best.look.combined
        return Handoff(step, seconds, reason, remaining, best.guess, best.snapshot, count)

    def _watch(self, session: Session) -> tuple[_Candidate | None, int, str]:
        """Train until it is enough: the best snapshot, the last step, the reason."""
        best: _Candidate | None = None
        unseen: Snapshot | None = None
        step, gained_at, calm_until = 0, 0.0, 0.0
        try:
            for snapshot in session.snapshots():
                step, unseen = snapshot.step, snapshot
                if step == 0:
                    continue
                if best is None:
                    refusal = self._refuse(session, snapshot.seconds / step)
                    if refusal is not None:
                        last = self._last(session, None, unseen)
                        words = "no training" if last is None else "no more training"
                        return last, 0, f"{words}: {refusal}"
                if not session.is_due(snapshot):
                    continue
                look, guess = session.look(snapshot, combine=self.combine)
                unseen = None
                now = session.seconds
                if best is None or look.remaining_seconds < best.look.remaining_seconds:
                    best, gained_at = _Candidate(look, guess, snapshot), now
                verdict = self._enough(session, best.look.remaining_seconds, now - gained_at)
                if verdict is not None:
                    return best, step, verdict
                if now > max(gained_at, calm_until) and self._is_stirred(session):
                    cooled, words = _cool_down(session, best, combine=self.combine)
                    calm_until = 2 * session.seconds
                    if cooled.look is not best.look:
                        gained_at = session.seconds
                    best = cooled
                    if cooled.look.remaining_seconds <= session.seconds / 4:
                        return cooled, step, f"the optimiser only stirs the smooth modes{words}"
            if best is None and unseen is None and session.trouble is None:
                raise ValueError(NOTHING_CAME)
            return self._last(session, best, unseen), step, _end(session)
        except KeyboardInterrupt:
            session.is_interrupted = True
            return best, step, INTERRUPTED

    def _last(
        self, session: Session, best: _Candidate | None, unseen: Snapshot | None
    ) -> _Candidate | None:
        """The better of `best` and a snapshot that is paid for, if it may be worth a look."""
        # Planning has looked, too.
        if unseen is None or session.zero.seconds <= session.planning_seconds:
            return best
        look, guess = session.look(unseen, combine=self.combine)
        if best is not None and look.remaining_seconds >= best.look.remaining_seconds:
            return best
        return _Candidate(look, guess, unseen, is_calm=best is None)

    def _is_stirred(self, session: Session) -> bool:
        return self._cools(session) and session.scatter > STIRRING

    def _cools(self, session: Session) -> bool:
        is_combined = self.combine and session.can_combine
        return session.can_cool_down and (
            not is_combined if self.cool_down is None else self.cool_down
        )

    def _refuse(self, session: Session, step_seconds: float) -> str | None:
        steps = session.least_steps if self.least_steps is None else self.least_steps
        steps += COOL_DOWN_STEPS if self._cools(session) else 0
        least = steps * step_seconds
        zero, left = session.zero.seconds, session.max_seconds - session.planning_seconds
        if min(zero, left) > least:
            return None
        why = f"the limit leaves {left:.3g} s"
        if zero <= left:
            why = f"relaxing from zero takes {zero:.3g} s"
        return f"{why}, and {steps} steps, the least that training needs, {least:.3g} s"

    def _enough(self, session: Session, remaining: float, waited: float) -> str | None:
        now, zero = session.seconds, session.zero.seconds
        if _is_too_late(session, min(remaining, zero)):
            return f"the limit of {session.max_seconds:.3g} s leaves no more for training"
        if remaining - session.call_seconds <= session.least_wait:
            return f"{remaining:.3g} s remain, less than another chunk and a look would take"
        wait, tau = session.least_wait, _time_constant(session.trace)
        saved = (remaining - session.call_seconds) * -math.expm1(-wait / tau)
        if remaining <= SPENT * now and saved <= wait:
            return (
                f"{remaining:.3g} s remain, of which another chunk and a look would save "
                f"{saved:.3g} s in {wait:.3g} s"
            )
        if waited >= min(remaining, now) / 2 > 0 and math.isfinite(remaining):
            return f"{remaining:.3g} s remain, and training takes longer than it saves"
        if now >= STAKE * zero and now + _still_needed(session.trace) >= zero:
            return (
                f"{now:.3g} s are spent, and at this pace training will not beat relaxing from "
                f"zero ({zero:.3g} s)"
            )
        return None


def _end(session: Session, where: str = "") -> str:
    """Words for the end of a training."""
    if session.trouble is not None:
        return f"the training ended early ({session.trouble})"
    return f"the training ended{where}"


def _is_finite(look: Look) -> bool:
    return bool(np.isfinite(look.amplitudes).all())


def _not_finite(trace: list[Look]) -> str:
    """Words for outputs that are not finite, if any."""
    count = sum(not _is_finite(look) for look in trace)
    return f"; of {len(trace)} outputs {count} were not finite" if count else ""


def _is_too_late(session: Session, remaining: float) -> bool:
    """Whether a limit of seconds forbids another chunk.

    What fits the limit now must not be lost; what does not fit is trained on while the pace at
    which the price falls promises that it will; the first quarter of the limit says little of that.
    """
    left, wait = session.max_seconds - session.seconds, session.least_wait
    if math.isinf(left) or left <= wait:
        return left <= wait
    if remaining <= left:
        return remaining + wait > left
    is_early = session.seconds < STAKE * session.max_seconds
    return not is_early and _still_needed(session.trace) >= left


def _still_needed(trace: list[Look]) -> float:
    """Seconds until the end, of training on and relaxing, if the price goes on falling as it does.

    Over the later half of the time R fell as e^(−t/τ). It is worth waiting until R is τ, which
    takes τ ln(R/τ), and then relaxing takes τ.
    """
    low, tau = _best(trace), _time_constant(trace)
    return tau * (1 + math.log(low / tau)) if low > tau else low


def _time_constant(trace: list[Look]) -> float:
    """The τ with which the price fell as e^(−t/τ) over the later half of the time, or infinity."""
    now = trace[-1].seconds
    index = next(i for i, look in enumerate(trace) if 2 * look.seconds >= now)
    index = max(min(index, len(trace) - 2), 0)  # one that came late has one to be compared with
    low, high = _best(trace), _best(trace[: index + 1])
    if not 0 < low < high or math.isinf(high):
        return math.inf
    # By a clock that has not moved it falls as fast as can be.
    return max(now - trace[index].seconds, 1e-9) / math.log(high / low)


def _best(trace: list[Look]) -> float:
    """The lowest price so far: from look to look it may rise by much, and the best is kept."""
    return min(look.remaining_seconds for look in trace)


def _cool_down(session: Session, best: _Candidate, *, combine: bool) -> tuple[_Candidate, str]:
    """The better of `best` and what it cools down to, and words for the reason."""
    before = best.look.remaining_seconds
    best = best._replace(is_calm=True)
    cost = COOL_DOWN_STEPS * best.snapshot.seconds / best.snapshot.step
    if before <= 2 * cost:
        return best, f"; a cool-down would cost {cost:.3g} s, more than it is likely to save"
    if session.is_out_of_time(cost + before):
        return best, "; the limit leaves no time for a cool-down"
    try:
        cooled = session.cool_down(best.snapshot, COOL_DOWN_STEPS)
    except TrainingError:
        return best, "; the cool-down diverged"
    look, guess = session.look(cooled, combine=combine)
    after = look.remaining_seconds
    chosen = _Candidate(look, guess, cooled, is_calm=True) if after < before else best
    return chosen, f"; the cool-down took what remains from {before:.3g} s to {after:.3g} s"
