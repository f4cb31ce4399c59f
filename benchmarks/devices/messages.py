"""What devices send each other, read from the text of a compiled program."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("collective-permute", "all-gather", "all-reduce", "all-to-all", "reduce-scatter")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8,
         "u64": 8, "f64": 8, "c64": 8, "c128": 16}  # fmt: skip


class Message(NamedTuple):
    """One collective operation.

    Attributes:
        kind: of `KINDS`.
        shapes: of the arrays that it gives on one device.
        size: of these in bytes, together.
    """

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    size: int

    @property
    def largest(self) -> int:
        """Numbers in the largest of the arrays."""
        return max((math.prod(shape) for shape in self.shapes), default=0)


def messages(program: str) -> Iterator[Message]:
    """Every collective operation in the text of a compiled program, once, in loops too."""
    for types, kind in re.findall(rf"= (.*?) ({'|'.join(KINDS)})(?:-start)?\(", program):
        arrays = re.findall(r"(\w+)\[([\d,]*)\]", types)
        shapes = tuple(tuple(int(n) for n in dims.split(",") if n) for _, dims in arrays)
        sizes = [
            BYTES.get(name, 0) * math.prod(shape)
            for (name, _), shape in zip(arrays, shapes, strict=True)
        ]
        yield Message(kind, shapes, sum(sizes))


def sent_bytes(message: Message, devices: int) -> float:
    """Bytes that a device sends for it: rings for what is gathered or summed, straight otherwise.

    An all-gather to S bytes sends (p − 1)/p S from each of p devices, a sum of S bytes twice that.
    """
    share = (devices - 1) / devices
    factor = {"collective-permute": 1.0, "all-reduce": 2 * share}.get(message.kind, share)
    return factor * message.size
