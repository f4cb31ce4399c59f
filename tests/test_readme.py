"""The README's code runs, and its numbers are those of the kept results."""

import json
import re
from pathlib import Path

import jax
import pytest

from benchmarks import readme

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 11
    # As a reader would run it: with JAX's own promotion rules.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in blocks:
            exec(block, names)
    printed = capsys.readouterr().out
    assert "The residual meets the tolerance." in printed
    assert "Handed over" in printed


@pytest.mark.parametrize("name", readme.TABLES)
def test_the_numbers_are_those_of_the_kept_results(name: str) -> None:
    kept = readme.KEPT / f"{name}.json"
    results = json.loads(kept.read_text(encoding="utf-8"))
    assert readme.renewed(TEXT, name, results) == TEXT


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!http)([^)]+)\)", TEXT)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
