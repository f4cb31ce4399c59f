"""Programs of several processes: how a process joins the others, and a command that starts them.

`initialize()` makes a program one of several. On one machine its copies are started by

    python -m solvers.processes 2 examples/many_processes.py

and on a cluster by what starts programs there. Slurm, Open MPI 4, Kubernetes and TPU pods tell JAX
all it has to know; where nothing does, set for each copy `JAX_COORDINATOR_ADDRESS` (address and
port of the first), `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` (from 0).
"""

import argparse
import functools
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import jax

# A process that is silent for so long has died; JAX's own default is 100 seconds.
HEARTBEAT_SECONDS = 20
# JAX reads the first by itself.
VARIABLES = "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
# How many processes `mpirun` has started, by Open MPI and by all others.
LOOPBACK = "127.0.0.1"
PROXIES = {"grpc_proxy", "https_proxy", "http_proxy"}
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


def run(count: int, command: Sequence[str], *, devices: int = 1) -> int:
    """Run `python COMMAND` as several processes of this machine, joined over the loopback.

    Their output is passed on line by line, the number of the process before it. When one of them
    fails the others are killed.

    Args:
        count: how many processes.
        command: what stands behind `python`: a script or -m and a module, and their arguments.
        devices: CPU devices of each process.

    Returns:
        The status of the first that failed, for one that a signal killed 128 more than that, or 0.

    Raises:
        RuntimeError: gloo could not listen under the name of this machine.
    """
    _require_hostname()
    address = f"{LOOPBACK}:{_free_port()}"
    copies: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []
    ends: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    try:
        for number in range(count):
            copies.append(_start(command, variables(address, count, number, devices)))
            readers += _watch(copies[-1], number, ends)
        number, status = _first_failure(ends, count)
    finally:
        for copy in copies:
            copy.kill()
            copy.wait()
        for reader in readers:
            reader.join(timeout=5)  # a program that a copy has started may hold its output open
    if status == 0:
        return 0
    how = f"ended with status {status}"
    if status < 0:
        how = f"was killed by {signal.Signals(-status).name}"
    print(f"processes: number {number} of {count} {how}, and so all end", file=sys.stderr)
    return status if status > 0 else 128 - status


def variables(address: str, count: int, number: int, devices: int = 1) -> dict[str, str]:
    """Environment variables that make a process one of several on this machine."""
    return {
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_COORDINATOR_BIND_ADDRESS": address,  # by default it listens on all interfaces
        "JAX_NUM_PROCESSES": str(count),
        "JAX_PROCESS_ID": str(number),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        # With it a process only takes note of SIGTERM, and runs on.
        "JAX_ENABLE_PREEMPTION_SERVICE": "0",
        "PYTHONUNBUFFERED": "1",
        # gRPC would go through a proxy to this very machine.
        **({"no_grpc_proxy": LOOPBACK} if PROXIES & set(os.environ) else {}),
    }


def _require_hostname() -> None:
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        raise RuntimeError(
            f"the name of this machine, {name}, has no address, and gloo listens there: "
            f"add the line '{LOOPBACK} {name}' to /etc/hosts"
        ) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )


def _first_failure(ends: queue.SimpleQueue[tuple[int, int]], count: int) -> tuple[int, int]:
    """Wait for all, or for one that fails; return its number and status."""
    for _ in range(count):
        number, status = ends.get()
        if status != 0:
            return number, status
    return 0, 0


def _watch(
    copy: subprocess.Popen[str], number: int, ends: queue.SimpleQueue[tuple[int, int]]
) -> list[threading.Thread]:
    """Pass on what a process prints, and put its end into a queue; return the threads that read."""

    def pass_on(source: IO[str], target: IO[str]) -> None:
        try:
            with source:
                for line in source:
                    if not line.startswith("[Gloo] Rank "):  # it reports every connection
                        print(f"[{number}] {line.rstrip()}", file=target, flush=True)
        except BrokenPipeError:  # as in `| head`
            ends.put((number, -signal.SIGPIPE))

    assert copy.stdout is not None
    assert copy.stderr is not None
    readers = [
        threading.Thread(target=pass_on, args=(copy.stdout, sys.stdout), daemon=True),
        threading.Thread(target=pass_on, args=(copy.stderr, sys.stderr), daemon=True),
    ]
    waiter = threading.Thread(target=lambda: ends.put((number, copy.wait())), daemon=True)
    for thread in (*readers, waiter):
        thread.start()
    return readers


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m solvers.processes",
        description="Run a program as several processes of this machine, on the CPU.",
    )
    parser.add_argument("--devices", type=int, default=1, help="CPU devices of each process")
    parser.add_argument("count", type=int, help="how many processes")
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        help="a script or -m and a module, and their arguments",
    )
    options = parser.parse_args(argv)
    count, command, devices = options.count, options.command, options.devices
    if min(count, devices) < 1:
        parser.error(f"expected at least one process and device, got {count} and {devices}")
    if not command:
        parser.error("expected a script, or -m and a module")
    if not command[0].startswith("-") and not Path(command[0]).exists():
        parser.error(f"there is no script {command[0]}")
    # Else this command alone would end, and what it has started go on.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        return run(count, command, devices=devices)
    except RuntimeError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
