"""When, whether and how: schedulers on trainings of known course, with a clock that is told."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from solvers import (
    ConjugateGradient,
    Deflation,
    FixedHandoff,
    Galerkin,
    Grid,
    Hybrid,
    Jacobi,
    Multigrid,
    Poisson,
    Reason,
    Refined,
    ScaledGuess,
    SolveError,
    SpectralHandoff,
    advise,
    gallery,
    solve,
)
from solvers.hybrid.handover import smoothed
from solvers.hybrid.picture import draw
from solvers.hybrid.price import Price, Seen
from solvers.hybrid.relaxing import Limit, relax
from solvers.hybrid.scheduler import Handoff
from solvers.hybrid.session import Session
from solvers.hybrid.timing import doubt, is_first_call, step_time
from solvers.snapshots import CoolableTraining, Snapshot, TrainingError

CASE = gallery.published(128)
PROBLEM = CASE.problem
EXACT = PROBLEM.field(solve(PROBLEM).value)


class Clock:
    """Seconds that pass only when told."""

    def __init__(self, tick: float = 0.0):
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


class ToldPrice:
    """Prices by the size of the guess's first unknown, which the made-up trainings set."""

    compile_seconds = start_seconds = 0.0
    tolerance = 1e-3

    def __init__(self, zero: float):
        self.zero = Price(zero, 1.0, np.zeros(0), energy=1.0)

    def remaining(self, u: jax.Array) -> Price:
        return Price(float(jnp.max(jnp.abs(u))), 1.0, np.zeros(0))

    def combined(self, u: jax.Array, earlier: Sequence[Seen]) -> tuple[Price, jax.Array, Seen]:
        price = self.remaining(u)
        return price, u, Seen(u, jnp.asarray(price.amplitudes), jnp.zeros(()))


def training_of(prices: list[float], seconds: float = 0.1, every: int = 50) -> list[Snapshot]:
    """Snapshots every `every` steps and `seconds` seconds, to be priced as `prices` say."""

    def constant(value: float) -> Any:
        return lambda grid: jnp.full(grid.full_shape, value)

    return [Snapshot(i * every, i * seconds, constant(p)) for i, p in enumerate(prices)]


class Cooling:
    """A training that can be cooled down, to a state of a given price."""

    def __init__(self, prices: list[float], after: float):
        self.prices, self.after, self.cooled_from = prices, after, -1

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(training_of(self.prices))

    def cool_down(self, snapshot: Snapshot, steps: int) -> Snapshot:
        self.cooled_from = snapshot.step
        field = jnp.full(PROBLEM.grid.full_shape, self.after)
        return Snapshot(snapshot.step + steps, snapshot.seconds + 0.5, lambda grid: field)


@pytest.fixture
def session_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sessions with told prices; smoothing is left out so that a guess keeps its number."""
    monkeypatch.setattr(
        "solvers.hybrid.handover.smoothed",
        lambda problem, field: problem.grid.restrict("u", field),
    )

    def make(training: Any, zero: float = 100.0) -> Session:
        price: Any = ToldPrice(zero)
        return Session(PROBLEM, price, training, Clock())

    return make


def test_it_hands_over_once_another_chunk_saves_less_than_it_takes(session_of: Any) -> None:
    prices = [9.0, 5.0, 3.0, 2.0, 1.0, 0.16, 0.15, 0.01]
    handoff = SpectralHandoff().decide(session_of(training_of(prices)))
    # From 0.3 s on R fell from 2 to 0.16 s in 0.2 s: another 0.1 s would save 0.115 s of it. In
    # 0.3 s it fell to 0.15 s: now they would save 0.087 s.
    assert handoff.step == 300
    assert "would save 0.0867 s in 0.1 s" in handoff.reason
    assert handoff.predicted_seconds == pytest.approx(0.15)


def test_it_hands_over_when_the_next_chunk_costs_more_than_relaxing(session_of: Any) -> None:
    handoff = SpectralHandoff().decide(session_of(training_of([9.0, 5.0, 0.09, 0.01])))
    assert handoff.step == 100
    assert "another chunk" in handoff.reason


def test_a_price_that_jumps_is_judged_by_the_best_so_far(session_of: Any) -> None:
    handoff = SpectralHandoff().decide(session_of(training_of([9.0, 3.0, 0.8, 4.0, 0.01])))
    assert handoff.step == 200


@pytest.mark.parametrize(
    ("drop", "first"),
    [(1.0, 4), (1e-6, 1), (None, 1)],  # √drop is 125, 0.125 of the 8 tolerances; unknown
    ids=["far", "near", "unknown"],
)
def test_the_energy_says_when_to_look_first(
    session_of: Any, drop: float | None, first: int
) -> None:
    session = session_of([x._replace(energy_drop=drop) for x in training_of([1.0] * 6)])
    session.planning_seconds = 0.175
    _, *snapshots = session.snapshots()
    session.training_seconds = 0.0
    for snapshot in snapshots:
        session.training_seconds = snapshot.seconds
        if session.is_due(snapshot):
            break
    assert snapshot.step == 50 * first


def test_it_hands_over_the_best_snapshot_after_no_gain(session_of: Any) -> None:
    prices = [9.0, 5.0, 1.0, *[2.0] * 20]
    handoff = SpectralHandoff().decide(session_of(training_of(prices)))
    assert handoff.step == 100
    assert "takes longer than it saves" in handoff.reason
    assert handoff.seconds == pytest.approx(0.4)  # half of it without a gain


def test_the_last_snapshot_is_looked_at(session_of: Any) -> None:
    """It was skipped where it came sooner after the one before than a look takes."""
    session = session_of(training_of([9.0, 5.0, 0.01], seconds=0.001))
    session._clock = Clock(tick=0.1)
    handoff = SpectralHandoff(least_steps=0).decide(session)
    assert handoff.step == 100
    assert "the training ended" in handoff.reason


@pytest.mark.parametrize("step", [0, 1])
def test_a_network_that_there_was_before_is_looked_at(step: int) -> None:
    """At step 0 it was passed over, and at 1 its pace promised too long a training."""
    problem = gallery.published(1000).problem
    exact = problem.field(solve(problem).value)
    stream = [Snapshot(step, 1.0 * step, lambda grid: exact)]
    hybrid = Hybrid(Jacobi(rtol=1e-6)).solve(problem, stream)
    assert hybrid.handoff.step == step
    assert hybrid.solution.num_steps == 0


def test_a_decision_without_a_look_is_drawn() -> None:
    class Slow(list[Snapshot]):
        step_seconds = 3600.0

    plan = Hybrid(Jacobi(rtol=1e-4)).plan(PROBLEM, Slow([Snapshot(1, 3600.0, lambda grid: EXACT)]))
    assert plan.trace == []
    assert plan.plot().axes[0].get_title() == "Price of handing over now"


def test_it_does_not_train_where_zero_is_cheaper_than_the_least_training(session_of: Any) -> None:
    session = session_of(training_of([9.0, 5.0, 0.001]), zero=0.4)  # 250 steps cost 0.5 s
    handoff = SpectralHandoff().decide(session)
    assert (handoff.step, handoff.initial) == (0, None)
    assert "no more training" in handoff.reason
    assert handoff.seconds == pytest.approx(0.1)  # the one chunk that timed it is charged
    assert [look.step for look in session.trace] == [50]  # what is paid for is looked at


def test_it_stakes_a_quarter_of_zero_on_a_training_that_promises_nothing(session_of: Any) -> None:
    prices = [50.0 - i for i in range(40)]
    handoff = SpectralHandoff().decide(session_of(training_of(prices), zero=1.15))
    assert handoff.initial is None  # dearer than zero: zero it is
    assert "relaxing from zero" in handoff.reason
    assert handoff.predicted_seconds == pytest.approx(1.15)
    assert handoff.seconds == pytest.approx(0.3)


def test_a_training_whose_pace_promises_to_beat_zero_goes_on(session_of: Any) -> None:
    # R falls by half every 0.1 s: τ = 0.14, and from R = 5 half a second more would do.
    prices = [50 / 2**i for i in range(40)]
    handoff = SpectralHandoff().decide(session_of(training_of(prices), zero=2.0))
    assert handoff.initial is not None
    assert 0.5 < handoff.seconds < 1.1


@pytest.mark.parametrize(("after", "taken"), [(0.01, 0.01), (3.0, 1.2)])
def test_a_cool_down_is_charged_and_used_only_if_it_helps(
    session_of: Any, after: float, taken: float
) -> None:
    training = Cooling([9.0, 5.0, 1.2, *[2.0] * 20], after)
    assert isinstance(training, CoolableTraining)
    handoff = SpectralHandoff(combine=False).decide(session_of(training))
    assert training.cooled_from == 100
    assert handoff.predicted_seconds == pytest.approx(taken)
    assert handoff.seconds == pytest.approx(0.9)  # 0.4 s until the decision, 0.5 s of cool-down
    assert "cool-down" in handoff.reason


class NoisyPrice(ToldPrice):
    """Smooth modes that change their sign from look to look."""

    def remaining(self, u: jax.Array) -> Price:
        self.sign = -getattr(self, "sign", 1.0)
        return super().remaining(u)._replace(amplitudes=np.full(3, self.sign))


@pytest.mark.parametrize(("after", "taken", "told"), [(0.05, 0.05, "stirs"), (3.9, 3.9, "longer")])
def test_what_only_stirs_is_cooled_down_on_the_way(
    session_of: Any, after: float, taken: float, told: str
) -> None:
    training = Cooling([9.0, 5.0, 4.5, 4.3, 4.1, *[4.0] * 40], after)
    session = session_of(training)
    session._price = NoisyPrice(100.0)
    handoff = SpectralHandoff(combine=False).decide(session)
    assert handoff.predicted_seconds == pytest.approx(taken)
    assert told in handoff.reason
    assert training.cooled_from == 250


def test_a_cool_down_that_costs_more_than_it_could_save_is_left_out(session_of: Any) -> None:
    training = Cooling([9.0, 5.0, *[0.4] * 20], 0.01)  # 250 steps take 0.5 s
    handoff = SpectralHandoff(combine=False).decide(session_of(training))
    assert training.cooled_from == -1
    assert handoff.predicted_seconds == pytest.approx(0.4)
    assert "would cost" in handoff.reason


def test_what_is_combined_is_not_cooled_down_unless_asked(session_of: Any) -> None:
    for wanted, cooled_from in ((None, -1), (True, 100)):
        training = Cooling([9.0, 5.0, 1.2, *[2.0] * 20], 0.01)
        SpectralHandoff(cool_down=wanted).decide(session_of(training))
        assert training.cooled_from == cooled_from


def test_without_cool_down_none_happens(session_of: Any) -> None:
    training = Cooling([9.0, 1.0, *[2.0] * 20], 0.01)
    SpectralHandoff(cool_down=False, combine=False).decide(session_of(training))
    assert training.cooled_from == -1


def test_looks_come_as_rarely_as_wastes_least(session_of: Any) -> None:
    session = session_of(training_of([100 - 1.5 * i for i in range(60)]), zero=1e4)
    session._clock.tick = 0.01  # a look is then 0.01 s, a chunk 0.1 s
    SpectralHandoff().decide(session)
    # Every √(ct/2) seconds: until t that is 2√(2t/c) looks, at t = 6 s 70, or less by whole chunks.
    assert 30 <= len(session.trace) <= 60
    gaps = np.diff([look.seconds for look in session.trace])
    assert gaps[-1] == pytest.approx(np.sqrt(0.01 * session.trace[-1].seconds / 2), abs=0.11)


def test_a_training_that_knows_its_pace_is_refused_before_it_begins(session_of: Any) -> None:
    class Known(Cooling):
        step_seconds, has_noise, least_steps = 0.002, False, 40

        def __iter__(self) -> Iterator[Snapshot]:
            raise AssertionError("it was started")

    handoff = SpectralHandoff().decide(session_of(Known([9.0], 0.1), zero=0.07))
    assert handoff.initial is None
    assert handoff.seconds == 0
    assert "40 steps, the least that training needs, 0.08 s" in handoff.reason


def test_a_training_without_noise_is_not_cooled_down(session_of: Any) -> None:
    training = Cooling([9.0, 1.0, *[2.0] * 20], 0.01)
    training.has_noise = False  # type: ignore
    SpectralHandoff(combine=False).decide(session_of(training))
    assert training.cooled_from == -1


def test_a_price_that_falls_faster_than_time_passes_is_waited_for(session_of: Any) -> None:
    # At step 150 0.9 s have become 0.04 in 10 ms, and so it may go on.
    prices = [9.0, 5.0, 0.9, 0.04, 0.02, 0.015, 0.01]
    training = training_of(prices, seconds=0.01)
    training = [s._replace(seconds=s.seconds + (s.step > 0)) for s in training]
    handoff = SpectralHandoff().decide(session_of(training))
    assert handoff.step >= 200


@pytest.mark.parametrize(("step", "expected"), [(0, 0), (70, 100), (100, 100), (10**6, 200)])
def test_a_fixed_handoff_takes_the_first_snapshot_of_its_step(
    session_of: Any, step: int, expected: int
) -> None:
    handoff = FixedHandoff(step).decide(session_of(training_of([5.0, 4.0, 3.0, 2.0, 1.0])))
    assert handoff.step == expected
    assert ("training ended" in handoff.reason) == (step > 200)


def test_an_empty_training_is_an_error(session_of: Any) -> None:
    with pytest.raises(ValueError, match="training"):
        FixedHandoff(0).decide(session_of([]))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: FixedHandoff(-1), "step"),
        (lambda: FixedHandoff(1.5), "step"),  # type: ignore
        (lambda: FixedHandoff(1, target="x"), "target"),  # type: ignore
        (lambda: SpectralHandoff("x"), "target"),  # type: ignore
        (lambda: SpectralHandoff(target=2.0), "target"),
        (lambda: SpectralHandoff(least_steps="x"), "least_steps"),  # type: ignore
        (lambda: SpectralHandoff(least_steps=-1), "least_steps"),
        (lambda: SpectralHandoff(combine="no"), "combine"),  # type: ignore
        (lambda: SpectralHandoff(cool_down="no"), "cool_down"),  # type: ignore
        (lambda: Hybrid("jacobi"), "method"),  # type: ignore
        (lambda: Hybrid(Jacobi(), "spectral"), "scheduler"),  # type: ignore
        (lambda: Hybrid(Jacobi(), SpectralHandoff), "scheduler"),  # type: ignore
        (lambda: Hybrid(Jacobi(), handover=Galerkin), "handover"),  # type: ignore
        (lambda: Hybrid(Jacobi()).solve(PROBLEM, None), "training"),  # type: ignore
        (lambda: Hybrid(Jacobi()).solve(PROBLEM, []), "training"),
        (lambda: Hybrid(Jacobi()).solve(PROBLEM, [EXACT]), "training"),  # type: ignore
        (lambda: advise(PROBLEM.grid), "problem"),  # type: ignore
    ],
)
def test_impossible_arguments_are_named(make: Any, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make()


def converging(steps: int = 40) -> Iterator[Snapshot]:
    """A training of which the error falls tenfold every 50 steps, at all frequencies alike."""
    for i in range(steps):
        field = EXACT * (1 - 0.1 ** (i + 1))
        yield Snapshot(50 * i, 1e-4 * i, lambda grid, field=field: field)


def test_the_hybrid_ends_at_the_tolerance_from_the_guess_it_took() -> None:
    outcome = Hybrid(Jacobi(rtol=1e-6), SpectralHandoff(least_steps=0)).solve(PROBLEM, converging())
    assert outcome.handoff.initial is not None
    norm = PROBLEM.grid.norm(PROBLEM.rhs)
    assert outcome.solution.residual_norms[0] < 0.1 * norm  # zero would begin at the norm itself
    residual = PROBLEM.grid.norm(PROBLEM.residual(outcome.solution.value))
    assert residual <= 1.0001e-6 * norm
    told = outcome.explain()
    assert outcome.handoff.reason in told
    assert len(told.splitlines()) == len(outcome.trace) + 3


def test_every_second_is_charged() -> None:
    clock = Clock(tick=0.001)
    outcome = Hybrid(Jacobi(rtol=1e-6), FixedHandoff(100), clock=clock).solve(PROBLEM, converging())
    costs = outcome.costs
    assert costs.training == pytest.approx(2e-4)  # as the snapshot says
    assert costs.looking == pytest.approx(0.002)  # one look, and the choice of the solver
    assert costs.relaxing == pytest.approx(0.001)
    assert costs.charged == pytest.approx(costs.planning + 0.0032)
    # All the ticks are somewhere: planned, looked, relaxed, or compiled; one is between the parts.
    parts = costs.planning + costs.looking + costs.relaxing + costs.compiling
    assert parts == pytest.approx(clock.now, abs=0.0091)


def test_a_plan_relaxes_nothing() -> None:
    plan = Hybrid(Jacobi(), FixedHandoff(100), clock=Clock(0.001)).plan(PROBLEM, converging())
    assert plan.handoff.step == 100
    assert plan.costs.relaxing == 0
    assert "fixed handoff at step 100" in plan.explain()


def interrupting(steps: int = 6) -> Iterator[Snapshot]:
    """A training at which the user loses patience."""
    yield from converging(steps)
    raise KeyboardInterrupt


def test_ctrl_c_in_training_gives_the_best_so_far(session_of: Any) -> None:
    def interrupted() -> Iterator[Snapshot]:
        yield from training_of([9.0, 5.0, 3.0, 4.0])
        raise KeyboardInterrupt

    session = session_of(interrupted())
    handoff = SpectralHandoff().decide(session)
    assert session.is_interrupted
    assert (handoff.step, handoff.reason) == (100, "interrupted by the user")


def test_after_ctrl_c_next_to_nothing_is_relaxed() -> None:
    method = Jacobi(rtol=1e-13, max_steps=10**7)
    outcome = Hybrid(method, FixedHandoff(10**6)).solve(PROBLEM, interrupting(3))
    assert outcome.handoff.step == 100
    assert "interrupted" in outcome.handoff.reason
    assert bool(outcome.solution.reason == Reason.interrupted)
    assert int(outcome.solution.num_steps) <= method.check_every
    assert float(jnp.max(jnp.abs(outcome.solution.field - EXACT))) < 2e-3


def test_ctrl_c_in_relaxing_gives_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def impatient(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return solve(*args, **options)

    monkeypatch.setattr("solvers.hybrid.relaxing.solve", impatient)
    method = Jacobi(rtol=1e-13, max_steps=10**9)
    start = jnp.zeros(PROBLEM.grid.shape)
    found = relax(PROBLEM, method, start, Limit(np.inf, np.inf), Clock(0.1))
    assert bool(found.reason == Reason.interrupted)
    steps, norms = found.history()
    assert steps[-1] == int(found.num_steps) > 100
    assert (np.diff(steps) > 0).all()
    residual = PROBLEM.grid.norm(PROBLEM.residual(found.value))
    assert norms[-1] == pytest.approx(float(residual), rel=1e-6)


@pytest.mark.parametrize(
    ("method", "tick"),
    [(Jacobi(rtol=1e-6, max_steps=10**7), 0.1), (Refined(Jacobi(), every=2000, rtol=1e-18), 1.0)],
    ids=["plain", "pairs"],
)
def test_rounds_of_a_watched_solve_are_one_solve(method: Any, tick: float) -> None:
    start = jnp.zeros(PROBLEM.grid.shape)
    # A clock that runs fast keeps the rounds short.
    watched = relax(PROBLEM, method, start, Limit(np.inf, np.inf), Clock(tick))
    plain = solve(PROBLEM, method)
    assert int(watched.num_steps) == int(plain.num_steps)
    np.testing.assert_array_equal(watched.value, plain.value)
    assert watched.history()[1][-1] == pytest.approx(float(plain.history()[1][-1]), rel=1e-9)


def test_a_limit_of_seconds_ends_the_training(session_of: Any) -> None:
    """At first nothing fits it; training has to go on while it may, and no longer."""
    for limit, expected in ((2.25, 100), (1.2, 150)):
        session = session_of(training_of([9.0, 3.0, 2.0, 1.95, 1.9, 1.85, 1.8]))
        session.max_seconds = limit
        handoff = SpectralHandoff().decide(session)
        assert f"limit of {limit} s" in handoff.reason
        assert handoff.step == expected


def test_a_limit_above_what_is_needed_changes_nothing(session_of: Any) -> None:
    """The first looks ask for more than the limit: the end of training is no way out of that."""
    session = session_of(training_of([9.0, 5.0, 3.0, 2.0, 1.0, 0.16, 0.15, 0.01]))
    session.max_seconds = 1.6
    handoff = SpectralHandoff().decide(session)
    assert handoff.step == 300
    assert "limit" not in handoff.reason


def test_a_solver_made_for_the_handover_is_compiled_before_it_is_charged() -> None:
    problem = Poisson(Grid((18, 14)), 1.0, diffusion=lambda x, y: 1 + x * y)
    stream = [Snapshot(0, 0.0, lambda grid: jnp.ones(grid.full_shape))]
    handover = Deflation(modes=3, features=False)
    plan = Hybrid(Multigrid(), FixedHandoff(0), handover=handover).plan(problem, stream)
    assert type(plan.method).__name__ == "Deflated"
    assert not is_first_call(problem, plan.method)


def test_ctrl_c_before_the_first_snapshot_leaves_zero() -> None:
    outcome = Hybrid(Jacobi(max_steps=10**7), FixedHandoff(10)).plan(PROBLEM, interrupting(0))
    assert outcome.is_interrupted
    assert outcome.handoff.initial is None


def test_a_plan_without_a_look_is_drawn(tmp_path: Any) -> None:
    draw([], Handoff(0, 0.1, "no training", 1.0, None)).savefig(tmp_path / "trace.png")


def test_a_limit_of_seconds_ends_the_relaxation() -> None:
    method = Jacobi(rtol=1e-13, max_steps=10**9)
    start = jnp.zeros(PROBLEM.grid.shape)
    found = relax(PROBLEM, method, start, Limit(0.35, np.inf), Clock(0.1))
    assert bool(found.reason == Reason.interrupted)
    assert not bool(found.result == lx.RESULTS.successful)
    with pytest.raises(ValueError, match="max_seconds"):
        Hybrid(Jacobi()).solve(PROBLEM, converging(), max_seconds=0)


def test_a_relaxation_that_fails_of_itself_raises() -> None:
    hybrid = Hybrid(Jacobi(rtol=1e-12, max_steps=3), FixedHandoff(0))
    with pytest.raises(SolveError, match=r"after 3 steps.* Handed over the network of step 0 at"):
        hybrid.solve(PROBLEM, converging())
    found = hybrid.solve(PROBLEM, converging(), throw=False)
    assert bool(found.solution.reason == Reason.max_steps)


def test_a_trace_draws_itself() -> None:
    plan = Hybrid(Jacobi(rtol=1e-8), SpectralHandoff(least_steps=0)).plan(PROBLEM, converging())
    left, right = plan.plot().axes
    assert np.size(left.get_lines()[0].get_xdata()) == len(plan.trace)
    assert len(right.get_lines()) == 7  # six modes and the handover


def test_handover_removes_the_rough_error_that_rounding_leaves() -> None:
    grid = Grid(128, -1.0, 1.0)
    rounded = EXACT.astype(jnp.float32).astype(grid.dtype)
    error = smoothed(PROBLEM, rounded) - EXACT[grid.unknowns]
    modes = jnp.abs(
        jnp.fft.rfft(jnp.concatenate([jnp.zeros(1), error, jnp.zeros(1), -error[::-1]]))
    )
    before = rounded[grid.unknowns] - EXACT[grid.unknowns]
    rough = jnp.abs(
        jnp.fft.rfft(jnp.concatenate([jnp.zeros(1), before, jnp.zeros(1), -before[::-1]]))
    )
    theta = np.pi * np.arange(1, 128) / 128
    # cos⁴(θ/2) for each mode; the tolerance is rounding in double precision.
    np.testing.assert_allclose(modes[1:-1], rough[1:-1] * np.cos(theta / 2) ** 4, atol=1e-14)


def test_a_cool_down_on_the_way_stays_charged(session_of: Any) -> None:
    session = session_of(Cooling([9.0, 8.0, 7.0], after=6.0))
    stream = session.snapshots()
    next(stream)
    session.cool_down(next(stream), 250)
    assert session.seconds == pytest.approx(0.1 + 0.5)
    next(stream)
    assert session.seconds == pytest.approx(0.2 + 0.5)
    assert session.least_wait == pytest.approx(0.1)


@pytest.mark.parametrize("seconds", [-0.1, 0.05, np.nan, np.inf])
def test_seconds_that_do_not_grow_are_refused(session_of: Any, seconds: float) -> None:
    first, second, third = training_of([9.0, 8.0, 7.0])
    session = session_of([first, second, third._replace(seconds=seconds)])
    with pytest.raises(ValueError, match="training: expected seconds that grow"):
        list(session.snapshots())


def diverging(after: int) -> Iterator[Snapshot]:
    """Snapshots that get better, until there are no more."""
    yield from training_of([9.0, 5.0, 4.0, 3.0][:after])
    raise TrainingError("the training diverged: a smaller rate")


@pytest.mark.parametrize(
    ("scheduler", "after", "step"),
    [
        (SpectralHandoff(), 4, 150),
        (SpectralHandoff(), 1, 0),
        (SpectralHandoff(), 0, 0),
        (FixedHandoff(10**6), 4, 150),
        (FixedHandoff(10**6), 0, 0),
    ],
)
def test_what_came_before_a_training_diverged_is_handed_over(
    session_of: Any, scheduler: Any, after: int, step: int
) -> None:
    handoff = scheduler.decide(session_of(diverging(after)))
    assert handoff.step == step
    assert (handoff.initial is None) == (after == 0)
    assert "ended early (the training diverged: a smaller rate)" in handoff.reason


def test_a_cool_down_that_diverges_leaves_what_there_was(session_of: Any) -> None:
    class Breaking(Cooling):
        def cool_down(self, snapshot: Snapshot, steps: int) -> Snapshot:
            raise TrainingError(f"in the {steps} steps from {snapshot.step}")

    session = session_of(Breaking([50.0, 40.0, 30.0, 20.0, 10.0], after=0.0))
    handoff = SpectralHandoff(cool_down=True, least_steps=0).decide(session)
    assert handoff.step == 200
    assert "the cool-down diverged" in handoff.reason


@pytest.mark.parametrize("scheduler", [SpectralHandoff(least_steps=0), FixedHandoff(2)])
def test_outputs_that_are_not_finite_are_told_of(scheduler: Any) -> None:
    def training() -> Iterator[Snapshot]:
        for step in range(6):
            yield Snapshot(step, 1e-6 * step, lambda grid: jnp.full(grid.full_shape, jnp.nan))

    found = Hybrid(Jacobi(), scheduler).solve(PROBLEM, training())
    assert found.handoff.initial is None
    assert "not finite" in found.handoff.reason


def test_a_limit_below_the_least_training_trains_nothing(session_of: Any) -> None:
    """A chunk that is under way cannot be stopped: 50 steps took ten times the limit."""
    session = session_of(training_of([9.0, 8.0, 7.0], seconds=5.0))
    session.max_seconds = 0.5
    session._training = type("Known", (list,), {"step_seconds": 0.1})(session._training)
    handoff = SpectralHandoff(least_steps=10).decide(session)
    assert handoff.initial is None
    assert session.seconds == 0
    assert "the limit leaves 0.5 s, and 10 steps" in handoff.reason


def test_a_pace_that_was_far_too_slow_is_measured_again() -> None:
    clock, method = Clock(0.1), Jacobi()
    known = step_time(PROBLEM, method, clock)
    for taken, is_kept in ((0.6, True), (0.4, False)):
        doubt(PROBLEM, method, clock, taken * (known.start + 100 * known.seconds), 100)
        assert (step_time(PROBLEM, method, clock).compiling == 0) == is_kept


def test_a_limit_does_not_end_a_training_of_which_two_looks_lie_far_apart(session_of: Any) -> None:
    """The second look had nothing to be compared with, and that passed for no progress."""
    prices = [9.0, 5.6, 5.0, 4.0, 1.4, 0.8, 0.3, 0.05, 0.01, 0.01]
    training = training_of(prices, seconds=0.01)
    session = session_of(training)
    session.max_seconds = 1.0
    handoff = SpectralHandoff(least_steps=0).decide(session)
    assert handoff.step >= 300
    assert "limit" not in handoff.reason


def test_it_says_where_relaxing_was_cut_short() -> None:
    problem = gallery.published(4000).problem
    zero = Snapshot(0, 0.0, lambda grid: jnp.zeros(grid.full_shape))
    hybrid = Hybrid(Jacobi(rtol=1e-10, max_steps=10**9), FixedHandoff(0))
    found = hybrid.solve(problem, [zero], max_seconds=0.05)
    assert "It was stopped, by the limit" in found.explain()


def test_a_limit_holds_where_a_target_is_priced_and_not_the_solvers_own_rule() -> None:
    """What is left to the target was a millisecond, and what ran took seconds, in one go."""
    problem = gallery.published(1000).problem
    field = 0.99 * problem.field(solve(problem).value)
    hybrid = Hybrid(Jacobi(rtol=1e-12, max_steps=10**8), FixedHandoff(0, target=0.1))
    found = hybrid.solve(problem, [Snapshot(0, 0.0, lambda grid: field)], max_seconds=0.05)
    assert found.solution.reason == Reason.interrupted
    assert "to the method's own tolerance" in found.explain()


def test_a_price_that_does_not_know_the_guess_trains_nothing() -> None:
    found = Hybrid(ConjugateGradient()).plan(PROBLEM, converging())
    assert found.handoff.initial is None
    assert "whatever it starts from" in found.handoff.reason
    assert found.costs.training == 0


def test_the_limit_leaves_no_cool_down(session_of: Any) -> None:
    training = Cooling([9.0, 5.0, 1.2, *[2.0] * 20], 0.1)
    session = session_of(training)
    session.max_seconds = 1.75
    handoff = SpectralHandoff(combine=False).decide(session)
    assert training.cooled_from == -1
    assert handoff.seconds + handoff.predicted_seconds <= session.max_seconds


def test_ctrl_c_in_a_cool_down_leaves_what_there_was(
    session_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> Snapshot:
        raise KeyboardInterrupt

    training = Cooling([9.0, 5.0, 1.2, *[2.0] * 20], 0.1)
    monkeypatch.setattr(training, "cool_down", interrupt)
    session = session_of(training)
    handoff = SpectralHandoff(combine=False).decide(session)
    assert session.is_interrupted
    assert handoff.predicted_seconds == pytest.approx(1.2)


def test_a_clock_that_stands_still_ends_in_no_division(session_of: Any) -> None:
    training = training_of([9.0, 5.0, 3.0, 0.1], seconds=0.0)
    assert SpectralHandoff().decide(session_of(training)).step in (0, 50, 100, 150, 200)


def test_no_relative_tolerance_is_no_division() -> None:
    def energetic() -> Iterator[Snapshot]:
        return (s._replace(energy_drop=1.0) for s in converging())

    method = Jacobi(rtol=0.0, atol=1e-6)
    assert Hybrid(method).plan(PROBLEM, energetic()).handoff.predicted_seconds > 0


def test_a_first_start_is_compiled_before_it_is_charged() -> None:
    jax.clear_caches()
    stream = [Snapshot(i, 1e-3 * i, lambda _: EXACT) for i in range(2)]
    first = Hybrid(Jacobi(), FixedHandoff(1), handover=ScaledGuess()).plan(PROBLEM, stream)
    assert first.costs.looking < first.costs.compiling
