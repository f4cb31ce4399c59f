"""`python -m solvers.processes COUNT SCRIPT`: a program as several processes of this machine."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from solvers.processes.starting import run


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
