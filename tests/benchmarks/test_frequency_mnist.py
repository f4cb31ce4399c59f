"""The experiments on images at a tiny setting, their claims on made-up records, and a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from benchmarks.frequency import filtering, mnist, resnet
from benchmarks.frequency.experiment import Experiment, Settings
from benchmarks.report import plain_table
from benchmarks.results import write_json

pytest.importorskip("mlxtend")
pytest.importorskip("orbax.checkpoint")

FILTER = filtering.Sizes(60, 40, (8,), 1e-3, 20, 1.0, 2.0, 4)
LAYERS = mnist.Sizes(60, 40, (8, 6), 1e-3, 20, 3, 12, 1e-3)
RESNET = resnet.Sizes((2, 4), 32, 16, 24, 2, (6, 5), 16, ((1e-2, 1), (1e-3, 1)), 0.5, (0, 2), 0.3)


def settings(folder: Path, seeds: int = 2) -> Settings:
    return Settings(False, seeds, None, folder)


def done(
    module: Experiment, sizes: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Run a module at a tiny setting, see that its results can be shown, and give them."""
    monkeypatch.setattr(module, "QUICK", sizes)
    shares: list[float] = []
    results = module.run(settings(folder / "checkpoints"), shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    for claim in results["claims"]:
        assert len(claim.holds) == 2
        assert claim.words in claim.verdict
    plain_table(results["table"])
    write_json(folder / "results.json", results | {"claims": []})
    figures = module.draw(json.loads((folder / "results.json").read_text(encoding="utf-8")))
    assert figures
    for figure in figures.values():
        figure.canvas.draw()
        plt.close(figure)
    return results


def test_filter_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = done(filtering, FILTER, tmp_path, monkeypatch)
    assert [run["epochs"] for run in results["runs"]] == [[0, 1, 2, 3, 4]] * 2
    shares = results["high_shares"]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] < 1
    first, other = (run["records"] for run in results["runs"])
    assert first[0]["low"] != other[0]["low"]
    assert all(a["loss"] != b["loss"] for a, b in zip(first, other, strict=True))


def test_mnist_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = done(mnist, LAYERS, tmp_path, monkeypatch)
    for run in results["runs"]:
        assert [record["step"] for record in run["records"]] == [0, 3, 6, 9, 12]
        for record in run["records"]:
            assert len(record["layers"]) == 2
            ratios = np.array(record["layers"][0]["ratios"])
            assert len(ratios) == len(results["variances"]) >= 50
            # Variances ascend, and LFR falls from nearly 1 to the share of the mean.
            assert ratios[0] > 0.7
            assert ratios[-1] == pytest.approx(0.1, abs=0.05)
    assert [row[0] for row in results["table"]["rows"]] == ["hidden layer 1", "hidden layer 2"]


def test_resnet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = done(resnet, RESNET, tmp_path, monkeypatch)
    assert [variant["blocks"] for variant in results["variants"]] == [2, 0]
    for variant in results["variants"]:
        for run in variant["runs"]:
            assert [record["epoch"] for record in run["records"]] == [0, 0.5, 1, 1.5, 2]
            assert [bool(record["layers"]) for record in run["records"]] == [1, 0, 0, 0, 1]
    assert results["setting"]["data"] == "MNIST"


def test_the_second_dense_layer_is_what_a_full_pass_gives() -> None:
    from flax import nnx

    from nets import layer_outputs

    network = resnet._network(3, (28, 28, 1), RESNET, nnx.Rngs(0))
    network.eval()
    x = np.random.default_rng(0).random((5, 28, 28, 1), np.float32)
    (_, second), outputs = resnet._dense_layers(network, x)
    expected = nnx.relu(layer_outputs(network, "hidden.1", x))
    np.testing.assert_allclose(second, expected, atol=1e-6)
    np.testing.assert_allclose(outputs, network(jnp.asarray(x)), atol=1e-5)


def record(step: int, *halves: float | None) -> dict[str, Any]:
    layers = [{"half": half} for half in halves]
    return {"step": step, "epoch": step, "layers": layers}


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ((3.0, 4.0, 5.0), (2.0, 1.5, 1.0), (True, True, True)),
        ((3.0, 4.0, 5.0), (2.0, 1.0, 1.5), (False, True, True)),
        ((5.0, 4.0, 3.0), (2.0, 1.5, 1.0), (True, False, True)),
        ((3.0, 4.0, 5.0), (3.5, 1.5, 1.0), (True, True, False)),
        ((3.0, None, 5.0), (2.0, None, 1.0), (False, True, False)),
    ],
)
def test_claims_about_layers(start: Any, end: Any, expected: tuple[bool, ...]) -> None:
    runs = [{"records": [record(0, *start), record(1, 9.0, 9.0, 9.0), record(2, *end)]}]
    assert [claim.holds for claim in mnist.judge(runs)] == [(holds,) for holds in expected]


def test_claims_about_errors_begin_after_the_first_epochs() -> None:
    def run(low: list[float], high: list[float]) -> dict[str, Any]:
        pairs = zip(low, high, strict=True)
        records = [{"low": [a, a, b], "high": [b, b, a]} for a, b in pairs]
        return {"epochs": [0, 1, 2], "records": records}

    runs = [run([1.2, 0.5, 0.3], [1.0, 0.9, 0.8]), run([1.0, 0.9, 0.3], [1.0, 0.8, 0.7])]
    claims = filtering.judge(runs, 1.0)
    assert [claim.holds for claim in claims] == [(True, False), (True, False), (False, False)]
    assert "holds in part (1 of 2 seeds)" in claims[0].verdict
    assert filtering.judge(runs, 2.0)[0].holds == (True, True)


def variant(number: int, half: float, accuracies: list[float]) -> dict[str, Any]:
    records = [record(i, half, 2 * half) for i in range(len(accuracies))]
    for own, accuracy in zip(records, accuracies, strict=True):
        own["accuracy"] = accuracy
    return {"variant": number, "runs": [{"records": records}]}


@pytest.mark.parametrize(
    ("halves", "accuracies", "expected"),
    [
        ((1.0, 2.0, 3.0), (0.9, 0.85, 0.8), (True, True, True, True, True)),
        ((2.0, 1.0, 3.0), (0.9, 0.85, 0.8), (False, False, True, True, True)),
        ((3.0, 2.0, 1.0), (0.9, 0.9, 0.8), (False, False, False, False, True)),
        ((1.0, 2.0, 3.0), (0.8, 0.85, 0.7), (True, True, True, False, True)),
        ((1.0, 2.0, 3.0), (0.7, 0.7, 0.7), (True, True, True, False, False)),
        ((1.0, 2.0, 3.0), (0.7, 0.7, 0.9), (True, True, True, False, False)),
    ],
)
def test_claims_about_blocks(halves: Any, accuracies: Any, expected: tuple[bool, ...]) -> None:
    variants = [
        variant(number, half, [0.1, 0.5, accuracy])
        for number, half, accuracy in zip((1, 2, 4), halves, accuracies, strict=True)
    ]
    claims = resnet.judge(variants, 0.75)
    assert [claim.holds for claim in claims] == [(holds,) for holds in expected]


def test_epochs_to_an_accuracy_are_between_looks() -> None:
    records = variant(2, 1.0, [0.1, 0.5, 0.9])["runs"][0]["records"]
    assert resnet.epochs_to(records, 0.7) == pytest.approx(1.5)
    assert resnet.epochs_to(records, 0.95) is None


SCRIPT = """
import json, sys
from pathlib import Path
from benchmarks.frequency import mnist
from test_frequency_mnist import LAYERS, settings

mnist.QUICK = LAYERS._replace(max_steps=60)
fits = mnist.fits
mnist.fits = lambda *arguments, **options: fits(*arguments, **options | {"save_seconds": 0.0})
found = mnist.run(settings(Path(sys.argv[1])), lambda share: print(share, flush=True))
print("done", json.dumps(found["runs"]), flush=True)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[list[Any], list[float]]:
    """Records of all runs, without the seconds, and the shares that were reported."""
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    *shares, last = output.splitlines()
    runs = json.loads(last.removeprefix("done "))
    for run in runs:
        for own in run["records"]:
            assert own.pop("seconds") >= 0
    return runs, [float(share) for share in shares]


def kill_at(share: float, folder: Path) -> None:
    """Start it, and end it without a chance to say goodbye where so much is done."""
    with start(folder) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if float(line) >= share:
                break
        time.sleep(0.02)  # into whatever it is doing
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_a_killed_experiment_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    """Killed in the first network, and again in the second one, when the first one is done."""
    for share in (0.3, 0.8):
        kill_at(share, tmp_path / "killed")
    runs, shares = finished(start(tmp_path / "killed"))
    expected, all_shares = finished(start(tmp_path / "whole"))
    assert len(shares) < len(all_shares) / 2, "it went on"
    assert runs == expected
