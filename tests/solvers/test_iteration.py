"""The loop: when it stops, what it says, what it remembers, and how often it compiles."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from solvers import ConjugateGradient, GaussSeidel, Grid, Jacobi, Poisson, Reason, solve
from solvers.iteration import HISTORY, AbstractIteration, history, lineax_result, reason_of
from tests.solvers.cases import N, P

PROBLEM = Poisson(Grid(8), 1.0)
B_NORM = float(PROBLEM.grid.norm(PROBLEM.rhs))


@eqx.filter_jit
def run(
    method: Any, b: jax.Array = PROBLEM.rhs, y0: Any = None, problem: Any = PROBLEM
) -> lx.Solution:
    """What `lx.linear_solve` gives, compiled once for all values of the same shapes."""
    options = {} if y0 is None else {"y0": y0}
    return lx.linear_solve(problem.operator, b, method, options=options, throw=False)


def reason(solved: lx.Solution) -> Any:
    return solved.stats["reason"]


# Stopping


def test_converging_on_the_last_allowed_step_is_success() -> None:
    steps = int(run(Jacobi(rtol=1e-3, check_every=1)).stats["num_steps"])
    enough = run(Jacobi(rtol=1e-3, check_every=1, max_steps=steps))
    assert enough.result == lx.RESULTS.successful
    assert int(enough.stats["num_steps"]) == steps
    short = run(Jacobi(rtol=1e-3, check_every=1, max_steps=steps - 1))
    assert short.result == lx.RESULTS.max_steps_reached
    assert reason(short) == Reason.max_steps
    assert int(short.stats["num_steps"]) == steps - 1


def test_the_tolerance_is_met_with_equality_too() -> None:
    norms = run(Jacobi(rtol=0.0, check_every=1, max_steps=5)).stats["residual_norms"]
    exactly = run(Jacobi(rtol=0.0, atol=norms[3], check_every=1))
    assert int(exactly.stats["num_steps"]) == 3
    below = run(Jacobi(rtol=0.0, atol=norms[3] * (1 - 1e-12), check_every=1))
    assert int(below.stats["num_steps"]) == 4


def test_the_looser_of_the_two_tolerances_counts() -> None:
    by_rtol = run(Jacobi(rtol=1e-2, atol=0.0, check_every=1)).stats["num_steps"]
    by_atol = run(Jacobi(rtol=1e-6, atol=1e-2 * B_NORM, check_every=1)).stats["num_steps"]
    assert by_rtol == by_atol


def test_warm_and_cold_starts_meet_the_same_tolerance() -> None:
    """Relative to ‖b‖ and not to the first residual: from nearby there is less to do."""
    method = Jacobi(rtol=1e-6, check_every=1)
    cold = run(method)
    near = cold.value + 1e-4 * jnp.sin(jnp.pi * PROBLEM.grid.coordinates()[0][1:-1])
    warm = run(method, y0=near)
    for solved in (cold, warm):
        norm = PROBLEM.grid.norm(PROBLEM.residual(solved.value))
        assert 0.5e-6 * B_NORM < norm <= 1e-6 * B_NORM
    assert 0 < warm.stats["num_steps"] < cold.stats["num_steps"]
    assert int(run(method, y0=cold.value).stats["num_steps"]) == 0


def test_the_guess_may_be_a_full_field() -> None:
    full = jnp.linspace(0.0, 1.0, 9)
    method = Jacobi(max_steps=7, check_every=1)
    np.testing.assert_array_equal(run(method, y0=full).value, run(method, y0=full[1:-1]).value)


@pytest.mark.parametrize("y0", [None, 1.0])
def test_zero_gives_zero_at_once(y0: float | None) -> None:
    guess = None if y0 is None else jnp.full(7, y0)
    solved = run(Jacobi(), jnp.zeros(7), guess)
    assert solved.result == lx.RESULTS.successful
    assert int(solved.stats["num_steps"]) == 0
    np.testing.assert_array_equal(solved.value, 0)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e300])
def test_the_size_of_the_data_does_not_matter(scale: float) -> None:
    plain, scaled = run(Jacobi()), run(Jacobi(), scale * PROBLEM.rhs)
    assert reason(scaled) == Reason.converged
    # To rounding: the scale is no power of two.
    np.testing.assert_allclose(scaled.value / scale, plain.value, rtol=1e-12)
    assert scaled.stats["num_steps"] == plain.stats["num_steps"] > 0


@pytest.mark.parametrize("max_steps", [0, 1, 99, 100, 101, 250])
def test_the_budget_is_exact_whatever_the_rhythm_of_looking(max_steps: int) -> None:
    solved = run(Jacobi(rtol=0.0, max_steps=max_steps))
    assert int(solved.stats["num_steps"]) == int(solved.stats["max_steps"]) == max_steps
    looks = [*range(0, max_steps, 100), max_steps]
    steps = solved.stats["residual_steps"]
    np.testing.assert_array_equal(steps[steps >= 0], looks)


# Failures


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", [Jacobi(), GaussSeidel(), ConjugateGradient()])
def test_one_bad_number_is_an_error_and_never_a_zero_solution(method: Any, bad: float) -> None:
    b = PROBLEM.rhs.at[2].set(bad)
    solved = run(method, b)
    assert solved.result == lx.RESULTS.nonfinite_input
    assert reason(solved) == Reason.nonfinite_input
    assert int(solved.stats["num_steps"]) == 0
    guess = jnp.zeros(7).at[2].set(bad)
    assert reason(run(method, y0=guess)) == Reason.nonfinite_input


def test_a_bad_number_raises_from_plain_linear_solve() -> None:
    with pytest.raises(Exception, match=r"nan|NaN|finite"):
        lx.linear_solve(PROBLEM.operator, PROBLEM.rhs.at[2].set(jnp.nan), Jacobi())


def test_divergence_is_said_and_stops_early() -> None:
    solved = run(Jacobi(1.9, max_steps=100_000))
    assert reason(solved) == Reason.diverged
    assert solved.result == lx.RESULTS.breakdown
    assert int(solved.stats["num_steps"]) < 1000


SINGLE = Poisson(Grid(32, dtype="float32"), lambda x: jnp.exp(x))
CLOSED = Poisson(Grid((9, 6), boundary=(N, P), dtype="float32"), lambda x, y: x - 0.5)


@pytest.mark.parametrize(
    "method",
    [
        Jacobi,
        GaussSeidel,
        ConjugateGradient,
        lambda **k: ConjugateGradient(preconditioner=Jacobi(), **k),
    ],
)
@pytest.mark.parametrize("problem", [SINGLE, CLOSED], ids=["regular", "singular"])
def test_the_floor_of_single_precision_is_noticed(method: Any, problem: Poisson) -> None:
    solved = run(method(rtol=0.0, atol=1e-30, max_steps=10**6), problem.rhs, problem=problem)
    assert reason(solved) == Reason.stagnated
    assert solved.result == lx.RESULTS.stagnation
    assert int(solved.stats["num_steps"]) < 20_000
    assert solved.value.dtype == jnp.float32
    # It stops at the rounding error of A u, ‖A‖ ε ‖u‖, not far above.
    u, operator = solved.value, problem.operator
    rounding = 2 * operator.diagonal().max() * jnp.finfo(u.dtype).eps * problem.grid.norm(u)
    norms = solved.stats["residual_norms"]
    assert norms[norms >= 0][-1] < 10 * rounding


class Scripted(AbstractIteration):
    """A method whose residuals of u = ½ are a script, in units of ε/2; a step goes to the next."""

    script: jax.Array
    rtol: jax.Array
    atol: jax.Array
    max_steps: jax.Array
    check_every: int = eqx.field(static=True, default=1)
    works_in_place: ClassVar[bool] = True

    def __init__(self, script: Any, target: float):
        self.script = jnp.asarray(script, float)
        self.rtol, self.atol = jnp.zeros(()), jnp.asarray(target * EPS / 2)
        self.max_steps, self.check_every = jnp.asarray(len(script) - 1, jnp.int32), 1

    def prepare(self, operator: Any) -> None:
        return None

    def start(self, setup: None, b: jax.Array, u: jax.Array) -> jax.Array:
        return jnp.zeros((), jnp.int32)

    def step(self, setup: None, b: jax.Array, carry: jax.Array) -> jax.Array:
        return carry + 1

    def current(self, setup: None, carry: jax.Array) -> jax.Array:
        return (1 - self.script[carry, None] * EPS) / 2

    def precondition(self, setup: None, r: jax.Array, steps: int) -> jax.Array:
        return r


class Unit(NamedTuple):
    """u = b, for one unknown."""

    operator: lx.AbstractLinearOperator


EPS = float(jnp.finfo(float).eps)
UNIT = Unit(lx.MatrixLinearOperator(jnp.ones((1, 1))))
# The loop's idea of rounding errors is 300 of these units: 100 for b, 200 for A u.
LOOKS = np.arange(500)
SCRIPTS = {
    "frozen": (np.full(500, 200), 100, Reason.stagnated, 32),
    "frozen, but far above rounding errors": (np.full(500, 2000), 100, Reason.max_steps, 499),
    "up first, then slowly down": (250 - LOOKS * 0.4, 100, Reason.converged, 375),
    "ever slower, as by the logarithm": (
        250 - np.floor(8 * np.log(LOOKS + 1)),
        250 - 48,
        Reason.converged,
        403,
    ),
    "to and fro": (200 + LOOKS % 2, 100, Reason.stagnated, 32),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_stall_is_a_window_without_progress_over_the_one_before(name: str) -> None:
    script, target, expected, steps = SCRIPTS[name]
    # The guess is better than what follows, and has no say.
    guess = jnp.asarray([(1 - 230 * EPS) / 2])
    solved = run(Scripted(script, target), jnp.full(1, 0.5), guess, problem=UNIT)
    assert reason(solved) == expected
    assert int(solved.stats["num_steps"]) == pytest.approx(steps, abs=1)


@pytest.mark.parametrize("method", [Jacobi, GaussSeidel])
def test_slow_is_not_stagnant(method: Any) -> None:
    """At 600 intervals in float32 all residuals lie below the loop's idea of rounding errors.

    Gauss–Seidel's rises at first, and the smoothest mode loses 3e-3 of itself in a look.
    """
    grid = Grid(600, dtype="float32")
    problem = Poisson(grid, lambda x: jnp.sin(jnp.pi * x) + 0.1)
    solved = run(method(rtol=0.05, max_steps=10**6), problem.rhs, problem=problem)
    assert reason(solved) == Reason.converged
    assert int(solved.stats["num_steps"]) > 50_000


def test_singular_systems_are_solved_as_by_the_pseudo_inverse() -> None:
    """A right-hand side that is a constant is nothing but its mean, rounding errors apart."""
    problem = Poisson(Grid(6, boundary=P), 0.0)
    for constant in (1.0, 0.1, 1 / 3):
        solved = run(Jacobi(), jnp.full(6, constant), problem=problem)
        assert reason(solved) == Reason.converged
        np.testing.assert_array_equal(solved.value, 0)
    b = jnp.sin(2 * jnp.pi * jnp.arange(6.0) / 6)
    plain = run(Jacobi(rtol=1e-10), b, problem=problem)
    # Of 1e-6 b, hidden behind a mean of 1, rounding leaves ten digits.
    hidden = run(Jacobi(rtol=1e-8), 1 + 1e-6 * b, problem=problem)
    assert reason(plain) == reason(hidden) == Reason.converged
    np.testing.assert_allclose(1e6 * hidden.value, plain.value, atol=1e-9)
    shifted = run(Jacobi(rtol=1e-10), b, plain.value + 5.0, problem=problem)
    np.testing.assert_allclose(shifted.value, plain.value, atol=1e-12)
    assert int(shifted.stats["num_steps"]) == 0


# History


def test_the_history_is_the_residuals_own() -> None:
    solved = run(Jacobi(rtol=0.0, max_steps=30, check_every=10))
    steps, norms = solved.stats["residual_steps"], solved.stats["residual_norms"]
    np.testing.assert_array_equal(steps[:4], [0, 10, 20, 30])
    np.testing.assert_array_equal(steps[4:], -1)
    np.testing.assert_array_equal(norms[4:], -1)
    u, A = jnp.zeros(7), PROBLEM.operator
    for step in range(31):
        if step % 10 == 0:
            norm = PROBLEM.grid.norm(PROBLEM.rhs - A.mv(u))
            np.testing.assert_allclose(norms[step // 10], norm, rtol=1e-12)
        u = u + (PROBLEM.rhs - A.mv(u)) / A.diagonal()


@jax.jit
def fill(looks: jax.Array) -> Any:
    """A history of `looks` looks after the first, seven steps apart, with the step as its norm."""

    def enter(look: jax.Array, h: history.History) -> history.History:
        return history.record(h, look, 7 * look, (7 * look).astype(float))

    filled = jax.lax.fori_loop(0, looks + 1, enter, history.empty(float))
    return history.finish(filled, 7 * looks, (7 * looks).astype(float))


@pytest.mark.parametrize("looks", [0, 1, 1021, 1022, 1023, 2044, 2045, 5000])
def test_a_full_history_drops_every_other_entry(looks: int) -> None:
    norms, steps = (np.asarray(x) for x in fill(jnp.asarray(looks, jnp.int32)))
    assert len(norms) == len(steps) == HISTORY
    kept = steps[steps >= 0]
    assert (steps[len(kept) :] == -1).all()
    np.testing.assert_array_equal(norms[: len(kept)], kept)
    assert kept[0] == 0
    assert kept[-1] == 7 * looks
    gaps = np.diff(kept)
    # Evenly spaced, by a power of two, but for the final entry.
    assert len(set(gaps[:-1])) <= 1
    stride = gaps[0] // 7 if len(gaps) > 1 else 1
    assert stride & (stride - 1) == 0
    assert len(kept) > min(looks, HISTORY // 2 - 1)


# Compilations

COMPILED = "/jax/core/compile/backend_compile_duration"
compilations: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: compilations.append(event) if event == COMPILED else None
)

SWEEPS = {
    "rtol": lambda t: (Jacobi(rtol=1e-3 * t), 1.0, 1.0, 1.0),
    "atol": lambda t: (Jacobi(atol=1e-3 * t), 1.0, 1.0, 1.0),
    "max_steps": lambda t: (Jacobi(max_steps=int(500 * t)), 1.0, 1.0, 1.0),
    "damping": lambda t: (Jacobi(0.5 * t), 1.0, 1.0, 1.0),
    "over_relaxation": lambda t: (GaussSeidel(t), 1.0, 1.0, 1.0),
    "preconditioner": lambda t: (ConjugateGradient(preconditioner=Jacobi(0.5 * t)), 1.0, 1.0, 1.0),
    "source": lambda t: (Jacobi(), t, 1.0, 1.0),
    "diffusion": lambda t: (Jacobi(), 1.0, t, 1.0),
    "reaction": lambda t: (Jacobi(), 1.0, 1.0, t),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_a_new_value_does_not_compile_again(name: str) -> None:
    grid = Grid(8)

    def go(t: float) -> None:
        method, f, a, c = SWEEPS[name](t)
        problem = Poisson(grid, f, diffusion=a, reaction=c)
        solve(problem, method, throw=False).value.block_until_ready()

    go(1.1)
    before = len(compilations)
    for t in (1.2, 1.3):
        go(t)
    assert len(compilations) == before
    jax.jit(lambda t: t + 1)(before)
    assert len(compilations) == before + 1, "the counter counts"


# Arguments


@pytest.mark.parametrize("method", [Jacobi, GaussSeidel, ConjugateGradient])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rtol": -1.0}, "rtol: expected a finite number that is not negative, got -1.0"),
        ({"rtol": np.nan}, "rtol: "),
        ({"rtol": None}, "rtol: expected numbers"),
        ({"rtol": "1e-8"}, "rtol: expected numbers"),
        ({"rtol": [1e-3, 1e-4]}, "rtol: expected shape"),
        ({"atol": np.inf}, "atol: expected a finite number"),
        ({"max_steps": -1}, "max_steps: expected an integer from 0"),
        ({"max_steps": 2**31}, "max_steps: expected an integer from 0"),
        ({"max_steps": 10.5}, "max_steps: expected an integer"),
        ({"max_steps": None}, "max_steps: expected an integer"),
        ({"max_steps": True}, "max_steps: expected an integer"),
        ({"check_every": 0}, "check_every: expected a positive integer"),
        ({"check_every": 2.0}, "check_every: expected a positive integer"),
    ],
)
def test_bad_arguments_are_named(method: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(**arguments)


@pytest.mark.parametrize("kind", [int, np.int64, jnp.asarray, float])
def test_counts_may_come_from_anywhere(kind: Any) -> None:
    if kind is float:
        with pytest.raises(ValueError, match="max_steps"):
            Jacobi(max_steps=kind(7))
    else:
        assert int(Jacobi(max_steps=kind(7)).max_steps) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preconditioner": None}, "options: expected only 'y0', got .'preconditioner'."),
        ({"y0": jnp.ones(5)}, r"y0: expected shape \(7,\) or \(9,\), got \(5,\)"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lx.linear_solve(PROBLEM.operator, PROBLEM.rhs, Jacobi(), options=options)


def test_the_set_up_may_be_reused() -> None:
    method = GaussSeidel()
    state = method.init(PROBLEM.operator, {})
    for b in (PROBLEM.rhs, 2 * PROBLEM.rhs):
        again = lx.linear_solve(PROBLEM.operator, b, method, state=state)
        np.testing.assert_array_equal(again.value, run(method, b).value)


def test_every_reason_has_its_result() -> None:
    expected = {
        "converged": "successful",
        "max_steps": "max_steps_reached",
        "diverged": "breakdown",
        "stagnated": "stagnation",
        "nonfinite_input": "nonfinite_input",
        "singular": "singular",
        "incompatible": "singular",
    }
    for ours, theirs in expected.items():
        assert lineax_result(getattr(Reason, ours)) == getattr(lx.RESULTS, theirs), ours
        if ours != "incompatible":
            assert reason_of(getattr(lx.RESULTS, theirs), is_direct=False) == getattr(Reason, ours)
