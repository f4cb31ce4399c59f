"""The handoff benchmark from end to end on a tiny problem, and the parts its numbers rest on."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.handoff import __main__ as command
from benchmarks.handoff import ways
from benchmarks.handoff.verdict import number, summary, verdict
from benchmarks.replay import Goal, Replay, run_to
from benchmarks.suite import QUICK, SUITE, Entry, Recipe
from solvers import ConjugateGradient, Jacobi, gallery, solve

TINY = Entry("smooth", Recipe((6,), 3.0, 4), dict.fromkeys(("quick", "default", "full"), 48))


def goal_of(case: gallery.Case, target: float) -> Goal:
    return Goal(case.problem, solve(case.problem).value, target, 1.0)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("handoff")
    chosen = {"jacobi": ("guess", "galerkin", "galerkin_untrained", "deflation_modes")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SUITE, "smooth", TINY)
        patch.setattr(ways, "CHOSEN", chosen)
        patch.setattr("benchmarks.handoff.rows.CHOSEN", chosen)
        patch.setattr("benchmarks.handoff.tables.CHOSEN", chosen)
        arguments = ["--quick", "--problems", "smooth", "--seeds", "2", "--output", str(folder)]
        assert command.main(arguments) == 0
        # A run that was cut off goes on: what it finished is kept as it is.
        path = folder / "results.json"
        results = json.loads(path.read_text(encoding="utf-8"))
        cut = {name: value for name, value in results.items() if name != "summary"}
        cut["problems"][0]["wall"] = 123.0
        path.write_text(json.dumps(cut), encoding="utf-8")
        assert command.main(arguments) == 0
    return folder


@pytest.fixture(scope="module")
def results(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


def test_what_was_finished_is_kept(results: dict[str, Any]) -> None:
    assert results["problems"][0]["wall"] == 123.0


def test_every_seed_is_held_against_zero_and_fixed_handoffs(results: dict[str, Any]) -> None:
    (row,) = results["problems"]
    assert [seed["seed"] for seed in row["seeds"]] == [0, 1]
    for seed in row["seeds"]:
        best = min([seed["zero"], *map(number, seed["fixed"].values())])
        assert seed["regret"] == pytest.approx(max(seed["scheduler"] / best, 1.0))
        assert seed["scheduler"] >= seed["costs"]["planning"] > 0
        assert set(seed["ways"]["jacobi"]) == {
            "guess", "galerkin", "galerkin_untrained", "deflation_modes"
        }  # fmt: skip
    assert row["seeds"][0]["ways"]["jacobi"]["galerkin_untrained"]["training"] == 0
    assert {"jacobi", "gauss_seidel", "cg", "multigrid", "sor", "direct"} <= set(row["zero"])


def test_the_verdict_says_who_wins(results: dict[str, Any]) -> None:
    (row,) = results["problems"]
    assert row["verdict"] == verdict(row)
    assert ("The hybrid loses" in row["verdict"]) or ("The hybrid wins" in row["verdict"])
    assert "2 trainings on 1 problems" in summary([row])


def test_figures_are_written(output: Path) -> None:
    names = {path.name for path in output.iterdir()}
    assert names == {"results.json", "error_against_seconds.png", "regret_and_ways.png"}


def test_a_run_counts_steps_to_the_goal_and_keeps_its_way() -> None:
    case = gallery.published(200)
    goal = goal_of(case, 1e-3)
    run = run_to(goal, Jacobi(check_every=10), jnp.zeros_like(goal.discrete))
    # Mode 2 is the slowest that this odd solution has.
    assert np.isfinite(run.steps)
    assert run.errors[0] == pytest.approx(float(jnp.max(jnp.abs(goal.discrete))))
    assert (np.diff(run.counts) > 0).all()
    late = run.errors[-1] / run.errors[-4]
    assert late == pytest.approx(np.cos(np.pi / 100) ** (run.counts[-1] - run.counts[-4]), rel=0.05)
    assert run_to(goal, Jacobi(), jnp.zeros_like(goal.discrete), most=100).steps == np.inf
    assert run_to(goal, ConjugateGradient(check_every=1), goal.discrete).steps == 0


def test_a_replay_goes_at_one_speed_and_as_far_as_asked() -> None:
    case = TINY.case(32)
    training = TINY.training(case, 0, max_steps=60)
    replay = Replay(training)
    steps = [s.step for s in replay]
    assert steps == list(range(len(steps)))
    seconds = [s.seconds for s in replay]
    np.testing.assert_allclose(seconds, replay.step_seconds * np.array(steps))
    found = replay.at(10)
    assert found is not None
    assert found.step == 10
    assert replay.at(61) is None


def test_the_suite_is_what_was_asked_for() -> None:
    cases = {name: entry.case(16) for name, entry in SUITE.items()}
    assert len(cases) >= 12
    assert {case.problem.grid.ndim for case in cases.values()} == {1, 2, 3}
    assert set(QUICK) <= set(SUITE) <= set(gallery.CASES)
    assert any(not case.problem.operator.is_constant for case in cases.values())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--seeds", "0"], "--seeds"), (["--problems", "none"], "--problems"),
     (["--output", __file__], "--output")],
)  # fmt: skip
def test_an_impossible_option_is_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.parse(arguments)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err
