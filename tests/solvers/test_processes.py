"""Several processes on the loopback: they agree with one, and none outlives another for long."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from solvers import Grid, Multigrid, Poisson, solve
from solvers.processes import run, variables
from solvers.processes.__main__ import main
from solvers.processes.joining import from_environment
from solvers.processes.starting import free_port

ROOT = Path(__file__).parents[2]
# Every process of a job has to have ended by then when one has died.
LIMIT = 60

Start = Callable[[int, int], dict[str, str]]

# What a process runs: it joins the others,
JOIN = """
import sys
import time

import jax
from solvers.processes import initialize

initialize()
print(jax.device_count(), "devices", flush=True)
"""
# solves with them, where the size divides over no mesh,
SOLVE = """
import jax.numpy as jnp
import numpy as np
from solvers import Grid, Multigrid, Poisson, place, solve

jax.config.update("jax_enable_x64", True)
mesh = jax.make_mesh((jax.device_count(),), ("x",))
problem = place(lambda: Poisson(Grid((75, 50)), lambda x, y: jnp.exp(x * y)), mesh)
while True:
    solution = solve(problem, Multigrid(rtol=1e-12)).collect()
    print("solved", flush=True)
    if sys.argv[1:]:
        np.save(f"{sys.argv[1]}/{jax.process_index()}.npy", solution.field)
        break
"""
# or does nothing for the time being.
IDLE = "time.sleep(1000)"


def test_two_processes_agree_with_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(2, ["-c", JOIN + SOLVE, str(tmp_path)]) == 0
    printed = sorted(capfd.readouterr().out.splitlines())
    assert printed == ["[0] 2 devices", "[0] solved", "[1] 2 devices", "[1] solved"]
    problem = Poisson(Grid((75, 50)), lambda x, y: jnp.exp(x * y))
    alone = np.asarray(solve(problem, Multigrid(rtol=1e-12)).field)
    for number in range(2):
        field = np.load(tmp_path / f"{number}.npy")
        # Cycles are in single precision; what they leave is as small as the tolerance.
        np.testing.assert_allclose(field, alone, rtol=0, atol=1e-12 * np.abs(alone).max())


def loopback(port: int, number: int) -> dict[str, str]:
    return variables(f"127.0.0.1:{port}", 2, number)


def slurm(port: int, number: int) -> dict[str, str]:
    return {
        "JAX_PLATFORMS": "cpu",
        "JAX_COORDINATOR_PORT": str(port),
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(number),
    }


def open_mpi(port: int, number: int) -> dict[str, str]:
    return {
        "JAX_PLATFORMS": "cpu",
        "JAX_COORDINATOR_PORT": str(port),
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(number),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(number),
    }


class Pair:
    """Two processes as a cluster would start them, without the command that watches over them."""

    def __init__(self, code: str, folder: Path, start: Start = loopback):
        port = free_port()
        self.outputs = [folder / f"{number}.txt" for number in range(2)]
        self.copies = []
        for number, output in enumerate(self.outputs):
            with output.open("w") as file:
                copy = subprocess.Popen(
                    [sys.executable, "-c", code],
                    cwd=ROOT,
                    env=os.environ | start(port, number),
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            self.copies.append(copy)

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *_: object) -> None:
        for copy in self.copies:
            copy.kill()
            copy.wait()

    def text(self, number: int) -> str:
        return self.outputs[number].read_text(errors="replace")

    def wait_for(self, word: str) -> None:
        """Wait until both have printed a word."""
        end = time.monotonic() + 120
        while not all(word in self.text(number) for number in range(2)):
            assert time.monotonic() < end, [self.text(number) for number in range(2)]
            assert [copy.poll() for copy in self.copies] == [None, None], self.text(0)
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("code", "word", "victim", "by"),
    [
        (JOIN + SOLVE, "solved", 0, signal.SIGKILL),
        (JOIN + SOLVE, "solved", 1, signal.SIGKILL),
        (JOIN + IDLE, "devices", 0, signal.SIGTERM),
        (JOIN + IDLE, "devices", 1, signal.SIGKILL),
    ],
    ids=["solving-0", "solving-1", "idle-0", "idle-1"],
)
def test_killing_one_ends_the_other(
    code: str, word: str, victim: int, by: signal.Signals, tmp_path: Path
) -> None:
    with Pair(code, tmp_path) as pair:
        pair.wait_for(word)
        pair.copies[victim].send_signal(by)
        assert pair.copies[victim].wait(timeout=LIMIT) == -by
        assert pair.copies[1 - victim].wait(timeout=LIMIT) != 0
        said = pair.text(1 - victim)
    assert re.search("another (process has|task) died", said), said


@pytest.mark.parametrize("start", [slurm, open_mpi])
def test_a_cluster_is_found_by_its_variables(start: Start, tmp_path: Path) -> None:
    with Pair(JOIN, tmp_path, start) as pair:
        assert [copy.wait(timeout=LIMIT) for copy in pair.copies] == [0, 0]
        assert all("2 devices" in pair.text(number) for number in range(2))


@pytest.mark.parametrize("victim", [0, 1])
def test_an_exception_in_one_ends_both(victim: int, tmp_path: Path) -> None:
    code = f"""{JOIN}
from jax.experimental.multihost_utils import sync_global_devices
sync_global_devices("both are there")
if jax.process_index() == {victim}:
    raise RuntimeError("no more memory")
sync_global_devices("never")
"""
    with Pair(code, tmp_path) as pair:
        statuses = [copy.wait(timeout=LIMIT) for copy in pair.copies]
        assert 0 not in statuses
        assert "no more memory" in pair.text(victim)
        said = pair.text(1 - victim)
    assert re.search("another (process has|task) died", said), said


# The command, with programs that do not need JAX.


def test_output_is_passed_on_with_numbers(capfd: pytest.CaptureFixture[str]) -> None:
    code = """
import os, sys
print(sys.argv, os.environ["JAX_PROCESS_ID"])
print("é", file=sys.stderr)
"""
    assert run(2, ["-c", code, "--some", "b c"]) == 0
    out, err = capfd.readouterr()
    assert sorted(out.splitlines()) == [f"[{i}] ['-c', '--some', 'b c'] {i}" for i in "01"]
    assert sorted(err.splitlines()) == ["[0] é", "[1] é"]


@pytest.mark.parametrize(
    ("ending", "status", "how"),
    [
        ("sys.exit(3)", 3, "ended with status 3"),
        ("raise ValueError", 1, "ended with status 1"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "was killed by SIGKILL"),
    ],
)
def test_when_one_fails_all_are_ended(
    ending: str, status: int, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code = f"""
import os, signal, sys, time
if os.environ["JAX_PROCESS_ID"] == "1":
    {ending}
time.sleep(1000)
"""
    assert run(3, ["-c", code]) == status
    last = capfd.readouterr().err.splitlines()[-1]
    assert last == f"processes: number 1 of 3 {how}, and so all end"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "count"),
        (["two", "script.py"], "invalid int value: 'two'"),
        (["0", "-c", "pass"], "at least one process"),
        (["--devices", "0", "2", "-c", "pass"], "at least one"),
        (["2"], "expected a script"),
        (["2", "no_such_script.py"], "there is no script no_such_script.py"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_machine_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(RuntimeError, match=r"add the line '127\.0\.0\.1 "):
        run(2, ["-c", "pass"])


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://10.255.255.1:9")
    assert variables("127.0.0.1:9", 2, 0)["no_grpc_proxy"] == "127.0.0.1"


def test_a_number_that_is_none() -> None:
    with pytest.raises(ValueError, match="JAX_PROCESS_ID: expected a number such as 2, got 'two'"):
        from_environment({"JAX_PROCESS_ID": "two"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "Does every process have JAX_COORD"),
        ({"JAX_COORDINATOR_ADDRESS": "127.0.0.1:9"}, "Does every process have JAX_COORD"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE is 2, but JAX does not find"),
    ],
)
def test_variables_that_are_missing(given: dict[str, str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", JOIN],
        cwd=ROOT,
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert message in done.stderr
