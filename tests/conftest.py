"""What tests of several packages share."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from solvers import compiler

ROOT = Path(__file__).parents[1]
# Programs for processes with more devices than this one, not to be imported here.
collect_ignore_glob = ["*_devices.py"]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run on this CPU what other platforms run."""

    def default_of(*args: Any, default: Callable[..., Any], **others: Any) -> Any:
        del others
        return default(*args)

    jax.clear_caches()
    monkeypatch.setattr(jax.lax, "platform_dependent", default_of)
    monkeypatch.setattr(compiler, "default_platform", lambda: "gpu")
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def on_devices() -> Callable[..., str]:
    """Run Python, a text or a file, in a process with so many CPU devices; give what it prints.

    Numerics are as strict there as here. JAX counts its devices once, hence the process.
    """

    def run(source: str | Path, devices: int = 8, seconds: float = 300.0) -> str:
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
        settings = {
            "XLA_FLAGS": flags,
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_X64": "true",
            "JAX_NUMPY_RANK_PROMOTION": "raise",
            "PYTHONPATH": str(ROOT),
        }
        program = [str(source)] if isinstance(source, Path) else ["-c", source]
        done = subprocess.run(
            [sys.executable, "-W", "error", *program],
            env=os.environ | settings,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        if done.returncode != 0:
            pytest.fail(f"exit status {done.returncode} on {devices} devices:\n{done.stderr}")
        return done.stdout

    return run
