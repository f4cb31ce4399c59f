"""Weak and strong scaling on paper: what a V-cycle sends on up to 64 devices.

Times on forced host devices that share a few cores mean nothing. The compiled program says what
each of them sends, wherever it runs.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from benchmarks.devices.counting import cases

DEVICES = 64
COLUMNS = {
    "part": "scaling",
    "size": "grid",
    "devices": "devices",
    "messages": "messages",
    "halo_kb": "to neighbours, kB",
    "other_kb": "gathered and summed, kB",
    "sides_kb": "sides of a part, kB",
    "ratio": "all, in those",
}
MARKS = {2: ("#0072B2", "o"), 3: ("#D55E00", "s")}


def measure(report: Callable[[float], None]) -> list[dict[str, Any]]:
    """Count in a process of its own, whose CPU shows as `DEVICES` devices.

    Raises:
        RuntimeError: if that process fails.
    """
    flags = f"--xla_force_host_platform_device_count={DEVICES} --xla_backend_optimization_level=0"
    settings = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "benchmarks.devices.counting"]
    rows: list[dict[str, Any]] = []
    with subprocess.Popen(
        command,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            rows.append(json.loads(line))
            report(len(rows) / len(list(cases())))
        trouble = process.stderr.read()
    if process.returncode != 0:
        raise RuntimeError(f"counting messages failed: {trouble.strip().splitlines()[-1:]}")
    return rows


def table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Bytes that each device sends in a V-cycle in single precision."""
    body = [[_cell(row, key) for key in COLUMNS] for row in rows]
    title = "What each device sends in one V-cycle, float32, from the compiled program"
    return {"title": title, "columns": list(COLUMNS.values()), "rows": body}


def _cell(row: dict[str, Any], key: str) -> Any:
    sent = row["halo_bytes"] + row["other_bytes"]
    made: dict[str, Any] = {
        "size": f"{row['intervals']}{'¹²³'[row['ndim'] - 1]}",
        "halo_kb": row["halo_bytes"] / 1e3,
        "other_kb": row["other_bytes"] / 1e3,
        "sides_kb": row["surface_bytes"] / 1e3,
        "ratio": sent / row["surface_bytes"],
    }
    return made.get(key, row.get(key))


def verdict(rows: list[dict[str, Any]]) -> str:
    """Whether what a device sends stays bounded while the grid grows with the devices."""
    words = []
    for ndim in (2, 3):
        weak = [row for row in rows if (row["part"], row["ndim"]) == ("weak", ndim)]
        ratios = [_cell(row, "ratio") for row in weak]
        halos = [row["halo_bytes"] / row["surface_bytes"] for row in weak]
        words.append(
            f"in {ndim}-D at most {max(ratios):.3g} times the sides of its part, of which to "
            f"neighbours {max(halos):.2g}"
        )
    return (
        f"From 1 to {DEVICES} devices with a part of constant size each, a device sends in a "
        f"V-cycle {'; '.join(words)}; the rest gathers the coarsest level, of constant size."
    )


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Bytes against devices, to neighbours and in all."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for panel, part in zip(panels, ("weak", "strong"), strict=True):
        for ndim, (colour, mark) in MARKS.items():
            own = [r for r in rows if (r["part"], r["ndim"]) == (part, ndim) and r["devices"] > 1]
            devices = [row["devices"] for row in own]
            sent = [(row["halo_bytes"] + row["other_bytes"]) / 1e3 for row in own]
            halo = [row["halo_bytes"] / 1e3 for row in own]
            panel.plot(devices, sent, color=colour, marker=mark, label=f"{ndim}-D, all")
            panel.plot(devices, halo, color=colour, marker=mark, ls=":", mfc="white",
                       label=f"{ndim}-D, to neighbours")  # fmt: skip
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xlabel("devices")
        panel.set_title({"weak": "a part of constant size for each device",
                         "strong": "one grid shared by all"}[part], fontsize=10)  # fmt: skip
    panels[0].set_ylabel("kB that a device sends in a V-cycle")
    panels[0].legend(fontsize=8)
    return figure
