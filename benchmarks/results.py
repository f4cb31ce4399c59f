"""What every benchmark leaves behind: a JSON file, written whole or not at all."""

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PACKAGES = ("jax", "jaxlib", "lineax", "equinox", "flax", "optax", "numpy")


def environment(precision: str) -> dict[str, Any]:
    """Device, precision and versions."""
    (device,) = jnp.zeros(()).devices()  # the one in use, which need not be the first
    return {
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(device.platform),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        },
        "precision": precision,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def write_json(path: Path, results: dict[str, Any]) -> None:
    """Write `results` beside `path` and rename, so that no half-written file is ever there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_plain(results), indent=1, allow_nan=False)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text + "\n", encoding="utf-8")
    os.replace(beside, path)


def _plain(value: Any) -> Any:
    """Turn arrays and numpy numbers into what JSON knows; NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | jax.Array):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor()
