"""How a process joins the others of its program, and ends with them."""

import functools
import os
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import jax

# A process that is silent for so long has died; JAX's own default is 100 seconds.
HEARTBEAT_SECONDS = 20
VARIABLES = "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
# How many processes `mpirun` has started: that of Open MPI, and the others.
MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def initialize() -> None:
    """Join the other processes of this program; one that runs alone goes on alone.

    Call it before anything else that uses JAX. `jax.devices()` are then those of all processes.

    When a process dies all others end too, with a message and a status other than 0: at once where
    they wait for it, otherwise after `HEARTBEAT_SECONDS`. An exception that nobody catches ends a
    process at once; `sys.exit` in only one of them leaves the others waiting for five minutes.

    Raises:
        ValueError: environment variables that are missing or no numbers.
        RuntimeError: JAX has been used before, or the others cannot be reached or found.
    """
    given = from_environment(os.environ)
    try:
        jax.distributed.initialize(**given, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except ValueError as error:
        if given or "coordinator_address should be defined" not in str(error):
            error.add_note(f"Does every process have {VARIABLES}?")
            raise
        _refuse_mpi(os.environ)
        return
    sys.excepthook = functools.partial(_end_at_once, sys.excepthook)


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of `jax.distributed.initialize` that environment variables give.

    Example:
        >>> from_environment({"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "0"})
        {'num_processes': 4, 'process_id': 0}
    """
    given: dict[str, Any] = {}
    for name, argument in (
        ("JAX_COORDINATOR_ADDRESS", "coordinator_address"),
        ("JAX_NUM_PROCESSES", "num_processes"),
        ("JAX_PROCESS_ID", "process_id"),
    ):
        value = environment.get(name)
        if not value:
            continue
        if argument != "coordinator_address" and not value.isdecimal():
            raise ValueError(f"{name}: expected a number such as 2, got {value!r}")
        given[argument] = value if argument == "coordinator_address" else int(value)
    return given


def _refuse_mpi(environment: Mapping[str, str]) -> None:
    """Do not solve the same problem many times over because JAX does not know this `mpirun`."""
    for name in MPI_SIZES:
        if int(environment.get(name, 1)) > 1:
            raise RuntimeError(
                f"{name} is {environment[name]}, but JAX does not find the other processes: "
                f"set {VARIABLES} for each"
            )


def _end_at_once(
    show: Callable[..., Any],
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
) -> None:
    """Show an exception and end at once: JAX would first wait for the others, as they for this."""
    show(kind, error, trace)
    if hasattr(sys, "ps1"):
        return  # at the prompt an exception is no end
    text = "this process ends by an exception, and so do all others"
    if "Gloo context initialization" in str(error):
        text = "another process did not come to the first exchange within 30 seconds"
    elif "Gloo" in str(error):
        text = "another process has died, and so this one ends; what the other printed says why"
    print(f"processes: {text}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
