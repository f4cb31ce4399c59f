"""The comparison of devices from end to end on tiny grids, and how columns come together."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.devices import backends, cases, learning, methods, scaling, solving, tables, timing
from benchmarks.devices.__main__ import main
from benchmarks.devices.merging import column_names, merged
from benchmarks.devices.messages import messages, sent_bytes
from benchmarks.devices.triad import Triad
from benchmarks.devices.verdict import verdict
from benchmarks.suite import Entry, Recipe, adam
from solvers import EllipticOperator, Grid

SIZES = dict.fromkeys(("quick", "default", "full"), 48)
TINY = learning.Training("hybrid", 1, Entry("published", Recipe((6,), 3.0, 4), SIZES))
TRAININGS = {"adam": learning.Training("Adam", 1, Entry("lifted", adam(3.0, 4), SIZES))}
FIGURES = {"solvers.png", "compiling_and_networks.png"}


def refuse(*_: Any) -> Any:
    raise RuntimeError("out of memory\nand a long story")


def few_methods() -> dict[str, methods.Method]:
    """One of each kind, and one that no device can do."""
    few = {name: methods.METHODS[name] for name in ("jacobi", "fused", "multigrid", "direct")}
    return few | {"broken": methods.Method("Broken()", refuse, lambda *_: 1.0)}


def run_tiny(folder: Path, *more: str) -> dict[str, Any]:
    """The command on tiny grids with few methods."""
    arguments = ["--quick", "--sizes", "16", "--sizes-3d", "8", "--output", str(folder), *more]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solving, "METHODS", few_methods())
        patch.setattr("benchmarks.devices.triad.ARRAY_BYTES", 2**12)
        patch.setattr("benchmarks.devices.triad.LEAST_SECONDS", 1e-4)
        patch.setitem(solving.LEAST_SECONDS, "quick", 5e-3)
        patch.setattr(learning, "TRAININGS", TRAININGS)
        patch.setattr(learning, "HYBRID", TINY)
        patch.setitem(learning.CHUNKS, "quick", 2)
        patch.setitem(learning.SEEDS, "quick", 2)
        assert main(arguments) == 0
    return read(folder)


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("devices")
    run_tiny(folder)
    return folder


@pytest.fixture
def results(output: Path) -> dict[str, Any]:
    return read(output)


@pytest.fixture
def elsewhere(results: dict[str, Any], tmp_path: Path) -> Path:
    """What an accelerator of another machine, twice as fast, would have written."""
    other = copy.deepcopy(results)
    (run,) = other["runs"]
    run |= {"id": "elsewhere", "label": "Accelerator", "platform": "gpu"}
    for row in run["rows"]:
        row["seconds"] = row["seconds"] and row["seconds"] / 2
    path = tmp_path / "elsewhere.json"
    path.write_text(json.dumps(other), encoding="utf-8")
    return path


def test_every_row_has_speed_and_accuracy_or_a_reason(results: dict[str, Any]) -> None:
    (run,) = results["runs"]
    kinds = {(row["ndim"], row["precision"]) for row in run["rows"] if row["part"] == "solves"}
    assert kinds == {(2, "float32"), (2, "float64"), (3, "float32"), (3, "float64")}
    for row in run["rows"]:
        if row["method"] == "broken":
            assert (row["status"], row["reason"]) == ("failed", "RuntimeError: out of memory")
            continue
        if row["method"] == "fused":
            assert (row["status"], row["reason"]) == ("not supported", "only a tpu has it")
            continue
        assert row["status"] in ("measured", "converged"), row
        low, high = row["seconds_spread"]
        assert 0 < low <= row["seconds"] <= high
        assert 0 <= row["error"] < 2
        if row["part"] in ("sweeps", "solves"):
            assert row["unknowns_per_second"] == row["unknowns"] / row["seconds"]
            bandwidth = run["precisions"][row["precision"]]["bandwidth"]
            moved = row["least_bytes"] / row["seconds"]
            assert row["bandwidth_fraction"] == pytest.approx(moved / bandwidth)
        if row["tolerance"] is not None:
            # That of float32 is met by a residual in float32; here it is formed in float64.
            assert row["residual"] <= 1.5 * row["tolerance"]


def test_all_parts_are_there(results: dict[str, Any]) -> None:
    (run,) = results["runs"]
    by_part = {row["part"]: row for row in run["rows"]}
    assert set(by_part) == {"sweeps", "solves", "training", "hybrid"}
    assert by_part["training"]["steps_per_second"] == 1 / by_part["training"]["seconds"]
    hybrid = by_part["hybrid"]
    assert len(hybrid["all_seconds"]) == 2
    assert hybrid["seconds"] == pytest.approx(np.median(hybrid["all_seconds"]))
    assert {"device", "precision", "versions"} <= set(run["environment"])


def test_one_backend_is_one_column_and_is_said(results: dict[str, Any], output: Path) -> None:
    assert len(results["columns"]) == 1
    assert results["verdict"][0].startswith("JAX finds one backend here, cpu, but no gpu or tpu. "
                                            "So there is one column, ")  # fmt: skip
    assert {path.name for path in output.iterdir()} == {"results.json"} | FIGURES


def test_two_files_make_two_columns(output: Path, elsewhere: Path, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    files = [str(output / "results.json"), str(elsewhere)]
    assert main(["--only-added", "--add", *files, "--output", str(folder)]) == 0
    both = read(folder)
    here = read(output)["columns"][0]
    assert both["columns"] == [here, "Accelerator"]
    assert f"Accelerator against {here}: 2-D, 16 intervals, float32: 2 (" in both["verdict"][-1]
    assert {path.name for path in folder.iterdir()} == {"results.json"} | FIGURES
    table = tables.side_by_side(both["runs"], both["columns"])
    for row in table["rows"]:
        words = dict(zip(table["columns"], row, strict=True))
        missing = {"Broken()": "failed", "Jacobi, one of 4 fused sweeps": "not supported"}
        is_missing = words["method"] in missing
        assert words["times as fast"] == (None if is_missing else pytest.approx(2))
        assert is_missing is (words["Accelerator"] == missing.get(words["method"]))
    # What has been merged can be added again, beside what it was made of.
    again = [*files, str(folder / "results.json")]
    assert main(["--only-added", "--add", *again, "--output", str(folder)]) == 0
    assert read(folder) == both


def test_a_run_here_stands_before_what_is_added(elsewhere: Path, tmp_path: Path) -> None:
    results = run_tiny(tmp_path / "here", "--label", "desk", "--add", str(elsewhere))
    assert results["columns"] == ["desk", "Accelerator"]
    assert results["verdict"][0].endswith("no gpu or tpu. 1 column is from added files.")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_text("{"), "not a whole JSON file"),
        (lambda path: path.write_bytes(b"\xff\xfe\xff"), "not a whole JSON file"),
        (lambda path: path.write_text('{"rows": []}'), "not the results.json"),
        (lambda path: change(path, lambda found: found.update(format=2)), "another version"),
        (lambda path: change(path, lambda found: found["runs"][0].pop("rows")), "'rows'"),
        (lambda path: change(path, lambda found: found["runs"][0]["rows"][0].update(seconds="1")),
         "'seconds' of a row"),
        (lambda path: change(path, lambda found: found["runs"][0]["rows"][0].pop("error")),
         "'error' of a row"),
        (lambda path: change(path, lambda found: found["runs"][0]["rows"][0].update(part="x")),
         "'part' of a row"),
    ],
)  # fmt: skip
def test_a_broken_file_is_told_in_one_line(
    spoil: Callable[[Path], Any], told: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(elsewhere)
    with pytest.raises(SystemExit) as stopped:
        main(["--add", str(elsewhere)])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"--add: {elsewhere}: " in error
    assert told in error


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    edit(found)
    path.write_text(json.dumps(found), encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--sizes", "3"], "--sizes: expected at least 4"),
        (["--sizes-3d", "0"], "--sizes-3d: expected at least 4"),
        (["--output", __file__], "--output"),
        (["--only-added"], "--only-added: needs --add"),
        (["--platform", "tpu"], "--platform: JAX finds no tpu here"),
        (["--add", "."], "--add: ."),
    ],
)
def test_an_impossible_option_is_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


def test_columns_of_one_name_are_kept_apart() -> None:
    dates = ["2026-01-01T10:00:00+00:00", "2026-01-02T10:00:00+00:00", "2026-01-02T11:00:00+00:00"]
    runs = [{"label": "A", "date": date} for date in dates]
    assert column_names(runs[:1]) == ["A"]
    assert column_names(runs[:2]) == ["A, 2026-01-01", "A, 2026-01-02"]
    names = ["A, 2026-01-01", "A, 2026-01-02 10:00", "A, 2026-01-02 11:00"]
    assert column_names(runs) == names
    assert column_names([runs[0], runs[0], {"label": "B", "date": dates[0]}]) == [
        "A, 2026-01-01 10:00 (1)", "A, 2026-01-01 10:00 (2)", "B"
    ]  # fmt: skip


def test_a_run_counts_once_however_many_files_have_it() -> None:
    first, second = {"id": "a", "n": 1}, {"id": "b", "n": 2}
    assert merged([first, second, {"id": "a", "n": 3}]) == [first, second]


def test_a_precision_that_a_device_lacks_is_a_row_with_the_reason(tmp_path: Path) -> None:
    def only_single(device: Any, dtype: Any) -> str | None:
        del device
        return "no doubles" if np.dtype(dtype) == np.float64 else None

    measured: set[str] = set()

    def note(*_: Any, methods: dict[str, methods.Method]) -> list[Any]:
        measured.update(methods)
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solving, "why_not", only_single)
        patch.setattr(learning, "why_not", only_single)
        patch.setattr(solving, "measure_grid", note)
        results = run_tiny(tmp_path)
    assert measured == {*few_methods(), "pairs"}
    (run,) = results["runs"]
    double = [row for row in run["rows"] if row["precision"] == "float64"]
    assert len(double) == 2 * len(few_methods()) + 1  # and the hybrid
    assert {(row["status"], row["reason"]) for row in double} == {("not supported", "no doubles")}
    assert any("no doubles" in line for line in tables.failures(run))
    assert "failure" in verdict(results["runs"], results["columns"], 1)[1]


def test_pairs_of_singles_reach_the_tolerance_of_doubles() -> None:
    effort = solving.Effort(1, 1e-4)
    (row,) = solving.measure_grid(
        2, 32, np.float32, effort, None, lambda _: None, methods=methods.PAIRS
    )
    assert row["status"] == "converged", row["reason"]
    assert row["residual"] <= row["tolerance"] == cases.TOLERANCE


def test_the_processor_has_both_precisions_and_not_more() -> None:
    (device,) = jax.devices("cpu")[:1]
    assert [backends.why_not(device, dtype) for dtype in backends.PRECISIONS] == [None, None]
    assert backends.why_not(device, "complex256") is not None


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_judge_agrees_with_the_operator(ndim: int) -> None:
    case = cases.make(ndim, 9, jnp.float64)
    u = np.random.default_rng(0).standard_normal(case.b.shape)
    r = np.asarray(case.b - case.operator.mv(jnp.asarray(u)))
    expected = np.linalg.norm(r) / np.linalg.norm(np.asarray(case.b))
    assert case.residual(u) == pytest.approx(expected, rel=1e-12)
    assert case.error(2 * case.exact) == pytest.approx(1)


def test_the_tolerance_is_what_the_precision_can_reach() -> None:
    single, double = (cases.make(2, 64, dtype).tolerance for dtype in (jnp.float32, jnp.float64))
    assert double == cases.TOLERANCE
    assert single > cases.TOLERANCE
    operator, n = EllipticOperator(Grid((64, 64))), 63
    ones = np.ones((n, n))
    floor = np.finfo(np.float64).eps * 8 * 64**2  # ε·2 max D, of 4/h²
    found = cases.reachable(operator, jnp.asarray(ones * 1e-9), ones)
    assert floor * 1e9 <= found <= 2 * floor * 1e9


def test_least_traffic_counts_each_array_once() -> None:
    traffic = {name: method.traffic for name, method in methods.METHODS.items()}
    assert traffic["jacobi"](2, 8) == 3 * 8
    assert traffic["fused"](2, 4) == 3  # once for four sweeps
    assert traffic["chebyshev"](3, 4) == 13 * 4  # 4 arrays at first, 5 between, 4 at last
    assert traffic["lines"](3, 8) == 9 * 8
    assert traffic["multigrid"](2, 8) == 3 * 3 / (1 - 1 / 4) * 4 + 3 * 8  # V(1,1) in float32


def test_a_sweep_is_what_more_sweeps_take_longer() -> None:
    case = cases.make(2, 16, jnp.float64)
    own = timing.prepare(methods.METHODS["jacobi"], case, 1e-4)
    assert own.outcome().steps == timing.JUDGED_SWEEPS
    with pytest.raises(RuntimeError, match="clock"):
        timing.summary([0.0, -1.0, 1.0])


def test_samples_are_taken_in_turn_and_errors_kept() -> None:
    order: list[str] = []

    def ready(name: str) -> timing.Ready:
        def sample() -> float:
            order.append(name)
            if name == "bad" and len(order) > 2:
                refuse()
            return 1.0

        return timing.Ready(sample, refuse, 0.0)

    own = {name: ready(name) for name in ("good", "bad")}
    samples, errors = timing.in_turn(own, 2, 0.0, lambda: order.append("triad"))
    assert order == ["triad", "good", "bad", "triad", "good"]
    assert samples == {"good": [1.0, 1.0], "bad": []}
    assert list(errors) == ["bad"]


def test_the_triad_is_a_triad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.devices.triad.ARRAY_BYTES", 80)
    triad = Triad(jnp.float64)
    assert triad.bytes == 3 * 80
    assert triad.bandwidth is None
    triad.again()
    assert triad.bandwidth == triad.bytes / triad.seconds[0]
    np.testing.assert_array_equal(triad._v, np.full(10, 2.0))  # 1 + ½·2


PROGRAM = """
  %a = f32[1,64]{1,0} collective-permute(%x), channel_id=1
  %b = (f64[], f64[3]{0}) all-reduce(%y, %z), to_apply=%add
  %c = f32[8,4]{1,0} all-gather-start(%w), dimensions={0}
  %d = f32[8,4]{1,0} add(%w, %w)
"""


def test_messages_are_read_from_a_program() -> None:
    found = list(messages(PROGRAM))
    assert [m.kind for m in found] == ["collective-permute", "all-reduce", "all-gather"]
    assert [m.size for m in found] == [256, 32, 128]
    assert [m.largest for m in found] == [64, 3, 32]
    assert [sent_bytes(m, 4) for m in found] == [256, 48, 96]


def test_what_a_cycle_sends_is_counted(on_devices: Callable[..., str], tmp_path: Path) -> None:
    source = """
import json
from benchmarks.devices.counting import Case, count
print(json.dumps([count(Case("weak", 2, along, 160 * along)) for along in (1, 2)]))
"""
    one, four = json.loads(on_devices(source, 4))
    assert one["messages"] == 0
    assert four["unknowns"] == 319**2
    # A sweep of each colour and a residual send the four sides, on levels that halve.
    assert four["surface_bytes"] < four["halo_bytes"] < 10 * four["surface_bytes"]
    rows = [one, four, one | {"ndim": 3}, four | {"ndim": 3, "part": "strong"}]
    assert len(scaling.table(rows)["rows"]) == 4
    assert "64 devices" in scaling.verdict(rows)
    scaling.draw(rows).savefig(tmp_path / "scaling.png")
