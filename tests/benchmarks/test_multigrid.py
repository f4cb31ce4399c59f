"""The multigrid benchmark from end to end on tiny grids: what it promises is there and fits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse.linalg import spsolve

from benchmarks.multigrid import cases, checks
from benchmarks.multigrid.__main__ import main
from benchmarks.multigrid.contenders import sparse_matrix
from benchmarks.multigrid.rows import discretization_error
from benchmarks.multigrid.verdict import verdict

SIZE = 15


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multigrid")
    arguments = ["--quick", "--sizes", str(SIZE), "--sizes-3d", "7", "--output", str(folder)]
    few = ("multigrid", "direct", "pyamg", "sine_1", "sine_2")
    with pytest.MonkeyPatch.context() as patch:  # each of the others is seconds of compilation
        patch.setattr("benchmarks.multigrid.__main__.QUICK", few)
        patch.setattr("benchmarks.multigrid.curves.LINES", few)
        assert main(arguments) == 0
    return folder


@pytest.fixture(scope="module")
def results(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


def test_every_row_meets_the_tolerance_and_has_what_was_promised(results: dict[str, Any]) -> None:
    assert {row["case"] for row in results["rows"]} >= {"rough_2d", "smooth_2d", "rough_3d"}
    promised = {"status", "steps", "residual", "error", "discretization_error", "seconds"}
    promised |= {"unknowns_per_second", "setup_seconds", "compile_seconds", "factor"}
    for row in results["rows"]:
        assert promised <= set(row)
        assert row["status"] == "converged", row
        assert row["residual"] <= 1.01e-8  # pyamg tests a residual of its own
    assert {"device", "precision", "versions"} <= set(results["environment"])


def test_verdict_is_computed_from_the_rows(results: dict[str, Any]) -> None:
    parts = [results[part] for part in ("rows", "full_multigrid", "factors", "contrast")]
    assert verdict(*parts) == results["verdict"]
    seconds = {r["solver"]: r["seconds"] for r in parts[0] if r["case"] == "rough_2d"}
    line = next(line for line in results["verdict"] if "pyamg" in line["demand"])
    assert line["number"] == pytest.approx(seconds["pyamg"] / seconds["multigrid"])
    assert line["met"] is None  # the bound is for 1023², not for this size


def test_a_bound_is_judged_at_its_size() -> None:
    rows = [
        {
            "case": "rough_2d",
            "solver": name,
            "size": 1023,
            "seconds": s,
            "compile_seconds": 5.0,
            "status": "converged",
        }
        for name, s in (("multigrid", 0.1), ("pyamg", 2.0), ("sine", 0.01))
    ]
    met = {line["demand"]: line["met"] for line in verdict(rows, [], [], [])}
    assert list(met.values()) == [True, False, False]
    rows[0]["status"] = "stagnated"
    assert all(line["met"] is None for line in verdict(rows, [], [], [])[1:])


def test_figures_are_written(output: Path) -> None:
    names = {path.name for path in output.iterdir()}
    figures = {"error_against_seconds.png", "seconds_against_unknowns.png"}
    assert names == {"results.json"} | figures


@pytest.mark.parametrize("make_case", [cases.smooth, cases.varying])
def test_manufactured_cases_are_of_second_order(make_case: Any) -> None:
    errors = []
    for case in (make_case(15), make_case(31)):
        u = spsolve(sparse_matrix(case).tocsc(), np.asarray(case.b).ravel())
        errors.append(case.error(u.reshape(case.b.shape)))
    assert 3.4 < errors[0] / errors[1] < 4.6  # h is halved


def test_the_neumann_case_is_of_second_order() -> None:
    coarse, fine = (discretization_error(cases.neumann(n)) for n in (16, 31))
    assert coarse is not None
    assert fine is not None
    assert 3.4 < coarse / fine < 4.6


@pytest.mark.parametrize("make_case", [cases.varying, cases.neumann, cases.discs])
def test_sparse_matrix_is_the_operator(make_case: Any) -> None:
    case = make_case(7)
    u = np.random.default_rng(1).standard_normal(case.b.shape)
    expected = np.asarray(case.operator.mv(u))
    actual = (sparse_matrix(case) @ u.ravel()).reshape(u.shape)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_first_below_finds_the_least_number_of_steps() -> None:
    errors = [1.0, 0.5, 0.1, 0.01, 0.001]
    assert checks.first_below(lambda k: errors[k], 0.1, 4) == 2
    assert checks.first_below(lambda k: errors[k], 1e-4, 4) is None


def test_ctrl_c_ends_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.multigrid.__main__.run", interrupted)
    assert main(["--quick", "--output", str(tmp_path)]) == 130
    assert "Interrupted." in capsys.readouterr().out
