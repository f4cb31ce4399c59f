"""The experiments on frequencies, each at a tiny size, and what they claim on made-up curves."""

from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from flax import nnx

from benchmarks.data import Labelled, mnist_sample
from benchmarks.figures import STYLE, save_all
from benchmarks.frequency import depth, fit, image, projection, rdf
from benchmarks.frequency.experiment import Claim, Settings
from benchmarks.frequency.watching import geometric_steps, median, settled, watch
from benchmarks.report import plain_table
from benchmarks.results import write_json
from nets import MLP, Fit

TINY: dict[ModuleType, dict[str, Any]] = {
    fit: {"QUICK": fit.Setting(width=20, rate=1e-2, steps=100, looks=10)},
    image: {"QUICK": image.Setting(widths=(16, 16), rate=1e-2, steps=60, looks=6)},
    depth: {
        "QUICK": depth.Setting(
            depths=(1, 2), frequencies=(1, 5), width=20, rate=1e-2, loss=0.05, steps=200, every=50
        )
    },
    projection: {"QUICK": projection.Setting(300, rate=1e-3, batch=100, steps=8, every=2)},
    rdf: {"SETTING": rdf.Setting(variances=50, samples=401, line_samples=801)},
}
FIGURES = {
    fit: {"fit"},
    image: {"frames", "spectrum"},
    depth: {"depth"},
    projection: {"projection"},
    rdf: {"rdf"},
}


def few_images() -> Labelled:
    """300 images of all classes."""
    images, labels = mnist_sample()
    chosen = np.arange(0, len(labels), len(labels) // 300)[:300]
    return Labelled(images[chosen], labels[chosen])


@pytest.fixture
def shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, constants in TINY.items():
        for name, value in constants.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(projection, "mnist_sample", few_images)


def settings(folder: Path, seeds: int = 2) -> Settings:
    return Settings(is_full=False, seeds=seeds, data=None, checkpoints=folder / "checkpoints")


@pytest.mark.parametrize("module", TINY, ids=lambda module: module.NAME)
@pytest.mark.usefixtures("shrunk")
def test_an_experiment_gives_numbers_figures_and_verdicts(
    module: ModuleType, tmp_path: Path
) -> None:
    shares: list[float] = []
    results = module.run(settings(tmp_path), shares.append)
    assert shares[-1] == pytest.approx(1)
    assert np.all(np.diff(shares) >= -1e-12)
    claims = results.pop("claims")
    assert claims
    for claim in claims:
        counts = claim.counted != "seeds" or len(claim.holds) == 2
        assert counts, claim
        assert all(isinstance(outcome, bool) for outcome in claim.holds)
    assert plain_table(results["table"]).row_count == len(results["table"]["rows"])
    write_json(tmp_path / "results.json", results)
    with plt.rc_context(STYLE):
        figures = save_all(module.draw(results), tmp_path)
    assert {path.stem for path in figures} == FIGURES[module]
    assert all(path.stat().st_size > 1000 for path in figures)


class StopError(Exception):
    """Stands for an interruption."""


@pytest.mark.usefixtures("shrunk")
def test_an_interrupted_run_ends_with_the_same_numbers(tmp_path: Path) -> None:
    def stop(share: float) -> None:
        if share > 0.7:
            raise StopError

    def keep_on(share: float) -> None:
        del share

    whole = fit.run(settings(tmp_path / "whole"), keep_on)
    with pytest.raises(StopError):
        fit.run(settings(tmp_path / "broken"), stop)
    kept = tmp_path / "broken" / "checkpoints" / "fit_0"
    assert any(kept.iterdir())
    assert fit.run(settings(tmp_path / "broken"), keep_on) == whole


def test_notes_are_those_of_the_steps_asked_for() -> None:
    x = np.linspace(-1, 1, 9)[:, None]
    training = Fit(MLP(1, (4,), rngs=nnx.Rngs(0)), x, x[:, 0], every=5, max_steps=40)
    notes = watch(
        training, lambda snapshot: {"seen": snapshot.step}, lambda share: None, steps=[10, 40]
    )
    assert [note["step"] for note in notes] == [note["seen"] for note in notes] == [0, 10, 40]
    # Of all samples, so the loss before the step.
    assert notes[1]["loss"] == pytest.approx(training.losses[10])


@pytest.mark.parametrize(("every", "last", "count"), [(10, 2000, 60), (2, 400, 40), (1, 1, 5)])
def test_steps_are_multiples_and_reach_the_last(every: int, last: int, count: int) -> None:
    steps = geometric_steps(every, last, count)
    assert steps[-1] == last
    assert all(step % every == 0 and step > 0 for step in steps)
    assert steps == sorted(set(steps))


def test_an_error_that_comes_back_has_not_settled() -> None:
    assert settled([0, 1, 2, 3], [1, 0.05, 0.05, 0.2], 0.1) is None
    assert settled([0, 1, 2, 3], [1, 0.05, 0.2, 0.05], 0.1) == 3
    assert settled([0, 1], [0.01, 0.01], 0.1) == 0
    assert settled([0, 1], [1, float("nan")], 0.1) is None


@pytest.mark.parametrize("module", [fit, image, projection], ids=lambda module: module.NAME)
@pytest.mark.parametrize(
    ("ends", "holds"),
    [
        ([10, 50, 300, 900], True),
        ([10, 300, 50, 900], False),
        ([10, 50, 50, 900], False),
        ([10, 50, 300, None], False),
    ],
)
def test_low_before_high_is_found_and_missed(
    module: ModuleType, ends: list[int | None], holds: bool
) -> None:
    runs = [{"settled": ends}, {"settled": [1, 2, 3, 4]}]
    (claim,) = module.claims(runs)
    assert claim.holds == (holds, True)


def test_medians_and_seeds_of_depth_are_judged_apart() -> None:
    falling = [[100, 110, 90], [50, 60, 55], [20, 70, 30]]  # seed 1 rises at the end
    rising = [[5, 6, 7], [10, 12, 11], [40, None, None]]
    by_layers, in_seeds, by_frequencies, in_their_seeds = depth.claims(falling, rising)
    assert by_layers.holds == (True, True)
    assert in_seeds.holds == (True, False, True)
    assert by_frequencies.holds == (True, True)
    assert in_their_seeds.holds == (True, True, True)
    assert by_layers.verdict.endswith("holds (2 of 2 layers added).")


def test_depth_claims_fail_on_the_opposite() -> None:
    assert not any(any(claim.holds) for claim in depth.claims([[1, 2], [3, 4]], [[3, 4], [1, 2]]))
    # Two kinds that never got there say nothing about which is faster.
    assert not any(any(claim.holds) for claim in depth.claims([[None], [None]], [[None], [None]]))


def test_a_training_that_does_not_end_is_longer_than_those_that_do() -> None:
    assert median([10, None, 20]) == 20
    assert median([10, None, None]) is None
    assert median([10, 20]) == 15


def test_peaks_are_judged_to_a_tenth() -> None:
    row = {"expected": 100.0, "line_difference": 0.001}
    near, far = row | {"peak": 109.0}, row | {"peak": 111.0, "line_difference": 0.03}
    peaks, line = rdf.claims([near, far])
    assert peaks.holds == (True, False)
    assert line.holds == (True, False)
    assert peaks.verdict.endswith("holds in part (1 of 2 frequencies).")


def test_band_errors_see_a_wave_in_its_band_only() -> None:
    pattern = np.random.default_rng(0).normal(size=image.SHAPE)
    rows = np.arange(image.SHAPE[0]) + 0.5
    wave = np.cos(np.pi * 12 * rows / image.SHAPE[0])[:, None]  # 12/150 cycles per pixel
    errors = image.band_errors(pattern + wave, pattern)
    assert errors[3] > 0.1
    assert np.max(np.delete(errors, 3)) < 1e-12
    assert image.band_errors(np.zeros(image.SHAPE), pattern) == pytest.approx([1, 1, 1, 1])


def test_ring_energies_add_up_to_the_variance_of_a_smooth_image() -> None:
    rows = (np.arange(image.SHAPE[0]) + 0.5) / image.SHAPE[0]
    smooth = 0.4 + np.cos(2 * np.pi * rows)[:, None] * np.ones(image.SHAPE[1])
    assert np.sum(image.ring_energies(smooth)) == pytest.approx(np.var(smooth))


def test_the_marked_heat_map_has_room_for_peaks_that_never_settle() -> None:
    run = {"steps": [0, 10, 20], "errors": [[1, 0.5, 0.2]] * 3, "settled": [None] * 3}
    results = {"runs": [run], "fits": []}
    (figure,) = fit.draw(results).values()
    plt.close(figure)


@pytest.mark.parametrize(
    ("holds", "said"),
    [((True, True), "holds (2 of 2 seeds)"), ((False, False), "does not hold (0 of 2 seeds)")],
)
def test_a_verdict_counts(holds: tuple[bool, ...], said: str) -> None:
    assert said in Claim("it is so", holds).verdict
