"""The main job from end to end on a small grid, and the parts that its numbers rest on."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import paper, poisson_hybrid, scaling, sweep
from benchmarks.race import DISCRETIZATION, Track, reference, relax
from benchmarks.results import write_json
from benchmarks.rows import speedup
from solvers import Jacobi, gallery

ROWS = {
    "network",
    "jacobi",
    "gauss_seidel",
    "gauss_seidel_over_relaxed",
    "conjugate_gradient",
    "direct",
    "hybrid_early",
    "hybrid_good",
    "hybrid_late",
    "hybrid_scheduler",
    "hybrid_gauss_seidel",
}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("poisson_hybrid")
    arguments = ["--quick", "--intervals", "200", "--seed", "1", "--output", str(folder)]
    assert poisson_hybrid.main(arguments) == 0
    return folder


@pytest.fixture(scope="module")
def results(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


def test_every_row_has_what_was_promised(results: dict[str, Any]) -> None:
    assert set(results["methods"]) == ROWS
    for row in results["methods"].values():
        assert {"seconds_to", "final_error", "steps", "compile_seconds"} <= set(row)
        assert set(row["seconds_to"]) == {"1e-01", "1e-02", "1e-03", "1e-04", DISCRETIZATION}
    assert {"step", "seconds", "reason", "predicted_seconds"} <= set(results["handoff"])
    assert {"device", "precision", "versions"} <= set(results["environment"])
    assert "scaling" in results


def test_times_grow_with_accuracy_and_stay_within_the_limit(results: dict[str, Any]) -> None:
    limit = results["row_ends_at_seconds"]
    for row in results["methods"].values():
        times = [t for t in list(row["seconds_to"].values())[:4] if t is not None]
        assert times == sorted(times)
        assert all(t <= limit for t in times)


def test_the_hybrid_starts_from_what_was_handed_over_and_when(results: dict[str, Any]) -> None:
    # Whether this machine trains for 200 intervals is a matter of some milliseconds.
    handoff, curve = results["handoff"], results["curves"]["hybrid_scheduler"]
    assert handoff["reason"]
    assert curve["seconds"][0] >= handoff["seconds"]
    assert (curve["error"][0] < 1) == handoff["trained"]


def test_the_direct_solver_leaves_the_discretisation_error(results: dict[str, Any]) -> None:
    direct = results["methods"]["direct"]
    expected = results["problem"]["discretization_error"]
    assert direct["final_error"] == pytest.approx(expected, rel=1e-6)
    assert direct["seconds_to"][DISCRETIZATION] is not None


def test_all_figures_are_written_and_none_is_left_half_done(output: Path) -> None:
    names = {path.name for path in output.iterdir()}
    assert names == {
        "results.json",
        "a_solution.png",
        "b_network_by_frequency.png",
        "c_jacobi_by_frequency.png",
        "d_error_against_seconds.png",
    }
    assert all(path.stat().st_size > 1000 for path in output.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--intervals", "3"], "--intervals"),
        (["--intervals", "many"], "--intervals"),
        (["--problem", "unknown"], "--problem"),
        (["--relaxation", "sor"], "--relaxation"),
        (["--seed", "-1"], "--seed"),
        (["--quick", "--full"], "--full"),
        (["--paper", "--intervals", "100"], "--paper"),
        (["--platform", "abacus"], "--platform"),
        (["--output", __file__], "--output"),
        (["--output", f"{__file__}/below"], "--output"),
    ],
)
def test_an_impossible_option_is_one_line_and_exit_code_two(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        poisson_hybrid.parse(arguments)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert told in message


def test_a_missing_platform_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none_here(platform: str) -> list[Any]:
        raise RuntimeError(f"Unknown backend: {platform}")

    monkeypatch.setattr("jax.devices", none_here)
    with pytest.raises(SystemExit) as stopped:
        poisson_hybrid.parse(["--platform", "tpu"])
    assert stopped.value.code == 2
    assert "JAX finds no tpu here" in capsys.readouterr().err


def test_published_checkpoints_of_jacobi_hold_at_500_intervals() -> None:
    table = paper.checkpoints(500)
    assert [row[-1] for row in table["rows"]] == ["yes"] * 3
    # The text's 1000 intervals do not give the figure's numbers.
    assert "no" in [row[-1] for row in paper.checkpoints(1000)["rows"]]


def test_a_row_counts_its_sweeps_and_stops_at_the_discretisation_error() -> None:
    ref = reference(gallery.published(400))
    track = relax(ref, Jacobi(), Track("Jacobi"), jnp.zeros_like(ref.exact), cap=60.0)
    limit = ref.discretization / ref.scale
    assert track.algebraic[-1] <= limit < track.algebraic[-2]
    # Mode 2 alone is left at the end: cos(2π/400) a sweep.
    ratio = track.algebraic[-1] / track.algebraic[-2]
    sweeps = track.steps[-1] - track.steps[-2]
    assert ratio == pytest.approx(np.cos(2 * np.pi / 400) ** sweeps, rel=0.05)


def test_first_times_are_first_and_missing_ones_are_none() -> None:
    ref = reference(gallery.published(64))
    track = Track("made up")
    for seconds, error in ((1.0, 0.5), (2.0, 0.05), (3.0, 0.2), (4.0, 0.005)):
        track.add(seconds, 1, (error, error))
    found = track.seconds_to(ref, cap=3.5)
    assert found["1e-01"] == 2.0
    assert found["1e-02"] is None
    assert track.seconds_to(ref)["1e-02"] == 4.0


def test_speedups_are_ratios_with_and_without_compiling() -> None:
    jacobi = {"seconds_to": {"1e-04": 8.0, DISCRETIZATION: 9.0}, "compile_seconds": 2.0}
    hybrid = {"seconds_to": {"1e-04": 1.0, DISCRETIZATION: None}, "compile_seconds": 4.0}
    found = speedup(jacobi, hybrid)
    assert found["to_1e-04"] == 8.0
    assert found["to_1e-04_with_compiling"] == 2.0
    assert found["to_discretization"] is None


def test_the_growth_exponent_is_the_slope() -> None:
    assert scaling.growth_exponent((10, 20, 40), [1.0, 8.0, 64.0]) == pytest.approx(3)
    assert scaling.growth_exponent((10, 20, 40), [1.0, None, 64.0]) is None


def test_results_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, {"a": np.float64(1), "b": jnp.ones(2), "c": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1.0, "b": [1.0, 1.0], "c": None}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text(encoding="utf-8"))["a"] == 1.0
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_the_sweep_benchmark_writes_its_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "RUNS", 1)
    assert sweep.main(["--sizes", "32", "--output", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))
    assert [row["dtype"] for row in written["rows"]] == ["float32", "float64"]
    for row in written["rows"]:
        assert row["ratio"] == pytest.approx(row["copy_seconds"] / row["sweep_seconds"], rel=1e-6)
    assert (tmp_path / "sweep.png").exists()
