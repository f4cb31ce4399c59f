"""A program as several processes of this machine, started, watched and ended together."""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO

LOOPBACK = "127.0.0.1"
# Where gRPC finds a proxy, which it would also ask for this very machine.
PROXIES = {"grpc_proxy", "https_proxy", "http_proxy"}
WRITING = threading.Lock()


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
    address = f"{LOOPBACK}:{free_port()}"
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


def free_port() -> int:
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
                        with WRITING:  # print writes a line and its end apart
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
