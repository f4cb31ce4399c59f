"""Fixtures of the multigrid tests."""

import pytest

from solvers.multigrid import coarsest, hierarchy


@pytest.fixture
def deep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels down to 31² or 7³ unknowns, or to 256 of a Galerkin operator, and not to far more.

    Compiled solves are kept by grid and method, and do not know of this: a test that asks for it
    has a grid of its own.
    """
    monkeypatch.setattr(coarsest, "TENSOR_WORK", 2**16)
    monkeypatch.setattr(hierarchy, "DENSE_SIZE", 2**8)
