"""The memory bandwidth of a device, by the triad v = u + s·b."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Of one array: beyond any cache, also of accelerators.
ARRAY_BYTES = 2**27
LEAST_SECONDS = 0.03


class Triad:
    """Reads u and b and writes v, whose memory is given so that none is asked for under the clock.

    Lives on the default device of the moment.

    Args:
        dtype: precision.
        entries: of an array; by default more than any cache holds.

    Attributes:
        seconds: of one triad, a sample for each call of `again`.
    """

    def __init__(self, dtype: Any, entries: int | None = None):
        dtype = np.dtype(dtype)
        count: int = entries or max(ARRAY_BYTES // dtype.itemsize, 1)
        self.bytes = 3 * count * dtype.itemsize
        self._u, self._b = jnp.ones(count, dtype), jnp.full(count, 2, dtype)
        self._v = jnp.zeros(count, dtype)
        scale = jnp.asarray(0.5, dtype)
        # Kept although unused: it is where the result goes.
        self._run = jax.jit(lambda u, b, v: u + scale * b, donate_argnums=2, keep_unused=True)
        self.seconds: list[float] = []
        self._repeat(1)
        self._count = max(1, int(LEAST_SECONDS / max(self._repeat(1), 1e-6)))

    def again(self) -> None:
        """Take one more sample."""
        self.seconds.append(self._repeat(self._count) / self._count)

    @property
    def bandwidth(self) -> float | None:
        """Bytes per second, by the median of the samples; None before there are any."""
        return self.bytes / float(np.median(self.seconds)) if self.seconds else None

    @property
    def spread(self) -> list[float] | None:
        """Quartiles of the bytes per second."""
        if not self.seconds:
            return None
        return [self.bytes / float(s) for s in np.quantile(self.seconds, [0.75, 0.25])]

    def _repeat(self, count: int) -> float:
        v, begin = self._v, time.perf_counter()
        for _ in range(count):
            v = self._run(self._u, self._b, v)
        self._v = jax.block_until_ready(v)
        return time.perf_counter() - begin
