"""How the benchmarks read their options."""

import argparse
import os
from pathlib import Path
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that tells an impossible option in one line, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")

    def expect_writable(self, folder: Path) -> None:
        """Tell of an output folder that cannot be made or written, before anything is measured."""
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            self.error(f"--output: {there} is a file")
        if not os.access(there, os.W_OK):
            self.error(f"--output: {there} cannot be written")
