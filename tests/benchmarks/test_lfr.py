"""The benchmark of the low-frequency ratio from end to end, on few samples."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import lfr


def test_it_writes_what_it_measured(tmp_path: Path) -> None:
    few = ["--samples", "40", "60", "--coordinates", "5", "--variances", "3", "--runs", "1"]
    assert lfr.main([*few, "--output", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "lfr.json").read_text(encoding="utf-8"))
    assert [row["samples"] for row in results["rows"]] == [40, 60]
    for row in results["rows"]:
        assert row["multiple"] == row["ratio_seconds"] / row["distance_seconds"]
        assert row["megabytes"] is None or 0 < row["megabytes"] < 1024
    assert {"device", "precision", "versions"} <= set(results["environment"])


def test_the_sum_of_distances_is_that_of_all_pairs() -> None:
    x = jax.random.normal(jax.random.key(0), (50, 6))
    expected = np.sum((np.asarray(x)[:, None] - np.asarray(x)[None]) ** 2)
    np.testing.assert_allclose(lfr.sum_of_distances(jnp.asarray(x)), expected, rtol=1e-12)


@pytest.mark.parametrize("arguments", [["--samples", "0"], ["--variances", "-1"]])
def test_an_impossible_option_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        lfr.main(arguments)
    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err
