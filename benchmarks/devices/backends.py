"""The backends that JAX finds here: what they are called and which precisions they have."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Device = Any  # jax.Device, which pyright takes for a variable
PLATFORMS = ("cpu", "gpu", "tpu")
PRECISIONS = (np.dtype(np.float32), np.dtype(np.float64))


def find_devices() -> tuple[list[Device], list[str]]:
    """The first device of each platform, and the platforms of which JAX finds none."""
    found: dict[str, Device] = {}
    missing = []
    for platform in (*PLATFORMS, jax.default_backend()):  # the last may be somebody's plug-in
        try:
            device = jax.devices(platform)[0]
        except RuntimeError:
            missing.append(platform)
        else:
            found[device.platform] = device
    return list(found.values()), missing


def why_not(device: Device, dtype: Any) -> str | None:
    """Why `device` does not compute in `dtype`; None if it does, to the last digit."""
    try:
        with jax.default_device(device):
            one, eps = jnp.ones((), dtype), jnp.asarray(jnp.finfo(dtype).eps, dtype)
            is_kept = bool(jax.jit(jnp.add)(one, eps) > one)
    except Exception as error:  # whatever a backend may say to a precision that it lacks
        return f"{device.platform} does not take it: {in_a_line(error)}"
    return None if is_kept else f"{device.platform} rounds more coarsely than that"


def default_label(described: dict[str, Any]) -> str:
    """What a device is called: the processor and its cores, or the kind of accelerator."""
    if described["platform"] != "cpu":
        return described["kind"]
    name = described["processor"] or described["kind"]
    cores = described["cores"]
    return name if cores is None else f"{name}, {cores} core{'s' if cores > 1 else ''}"


def in_a_line(error: Exception) -> str:
    """Type and first line of an error, as a row tells it."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
