"""Strict numerics for every test and every doctest."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from hypothesis import settings

os.environ["MPLBACKEND"] = "Agg"
# Most of the suite's time is compilation. It takes a third as long without LLVM's optimiser and,
# where jaxlib still knows these flags, without the fusion emitters, which build each kernel by way
# of MLIR, and with all kernels of a program in one piece; the numbers are the same to rounding.
flags = [os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0"]
if jax.__version_info__ < (0, 11):
    flags += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
os.environ["XLA_FLAGS"] = " ".join(flags)

# What is traced makes so much garbage for a collector to look through that this takes a tenth of
# the time, and little of it is in cycles. It is collected between files.
gc.disable()

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

settings.register_profile("ritzrelax", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("ritzrelax")

# optax's Adam mixes integer counts with floats, which strict promotion refuses.
FOLDERS_THAT_TRAIN = {"nets", "benchmarks", "examples"}


# A process may map 65 530 pieces of memory on Linux, of which a compiled program takes nine: where
# there are no more of them, XLA crashes.
MOST_MAPS = 20_000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Run a test, with its fixtures of every scope, under strict dtype promotion.

    Between files garbage is collected, and compiled programs are dropped where there are too many.
    """
    folders = set(item.path.relative_to(item.config.rootpath).parts)
    promotion = "standard" if folders & FOLDERS_THAT_TRAIN else "strict"
    with jax.numpy_dtype_promotion(promotion):
        result = yield
    if nextitem is not None and nextitem.path != item.path:
        gc.collect()
        if _maps() > MOST_MAPS:
            from solvers.hybrid.timing import forget  # after the flags, and where they are needed

            forget()
    return result


def _maps() -> int:
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0
