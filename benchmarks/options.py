"""How the benchmarks read their options."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that tells an impossible option in one line, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")
