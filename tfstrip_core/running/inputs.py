"""What a function is run on: arrays that a user gives, or such as its specification asks for, the same every time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tfstrip_core.running.values import Array

Shape = tuple[int | None, ...]
_WORDS = (b"a tree", b"two old trees", b"", b"tree")
# What is left open: rows, every other size, what integers stay below, texts. Models ask for all of these.
_ATTEMPTS: tuple[tuple[int, int, int, tuple[bytes, ...]], ...] = (
    (8, 8, 10, _WORDS), (8, 8, 2, _WORDS), (8, 32, 2, _WORDS), (8, 64, 2, _WORDS), (8, 128, 2, _WORDS),
    (1, 8, 2, _WORDS), (1, 64, 2, _WORDS), (1, 1, 2, _WORDS), (2, 8, 1, (b"1", b"2")), (2, 8, 2, (b"",)),
    (4, 224, 1, (b"",)),
)  # fmt: skip
_SPREAD = 3.0
_RANKS: tuple[Shape, ...] = ((None,), (None, None), (), (None, None, None, 3))  # where not even that is said


@dataclass(frozen=True, slots=True)
class Want:
    """What one input of a function must be: `shape` has None for open sizes, and is None where even the rank is."""

    name: str
    dtype: str
    shape: Shape | None

    def __str__(self) -> str:
        sizes = "?" if self.shape is None else ",".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype}[{sizes}]"

    def takes(self, array: Array) -> bool:
        """Whether an array may be this input."""
        dtype = "string" if array.dtype.kind in "OSU" else array.dtype.name
        if dtype != self.dtype:
            return False
        return self.shape is None or (
            len(self.shape) == array.ndim
            and all(size in (None, have) for size, have in zip(self.shape, array.shape, strict=True))
        )


class Misfit(Exception):
    """Arrays that a user gave are not what a function takes: the message says what that is."""


def wanted(wants: Sequence[Want]) -> str:
    """Return what a function takes, for a message."""
    return ", ".join(map(str, wants)) or "nothing"


def given(function: str, wants: Sequence[Want], arrays: Mapping[str, Array]) -> dict[str, Array] | None:
    """Return those of a user's arrays that are for this function, by its names for them; None where none is.

    They are called by their input, by FUNCTION/INPUT, or, in order, arr_0, arr_1 and so on. Raises Misfit.
    """
    names = [want.name for want in wants]
    found = {}
    for name in names:
        for key in (f"{function}/{name}", name):
            if key in arrays:
                found[name] = arrays[key]
                break
    ordered = [arrays[f"arr_{number}"] for number in range(len(arrays)) if f"arr_{number}" in arrays]
    if not found and ordered:
        if len(ordered) != len(names):
            raise Misfit(f"{function} takes {len(names)} inputs ({wanted(wants)}), and there are {len(ordered)}")
        found = dict(zip(names, ordered, strict=True))
    if not found:
        return None
    for want in wants:
        if want.name not in found:
            raise Misfit(f"{function} takes {wanted(wants)}, and there is no {want.name}")
        array = found[want.name]
        if not want.takes(array):
            have = Want(want.name, "string" if array.dtype.kind in "OSU" else array.dtype.name, array.shape)
            raise Misfit(f"{function} takes {wanted(wants)}, and not {have}")
    return found


def attempts(wants: Sequence[Want]) -> Iterator[dict[str, Array]]:
    """Yield inputs to try one after the other. Raises TypeError for a dtype that no values can be made of."""
    ranks = _RANKS if any(want.shape is None for want in wants) else _RANKS[:1]
    seen = set()
    for rank in ranks:
        shapes = [rank if want.shape is None else want.shape for want in wants]
        for rows, others, below, words in _ATTEMPTS:
            sizes = tuple(_sizes(shape, rows, others) for shape in shapes)
            ints = below if any("int" in want.dtype for want in wants) else 0
            texts = words if any(want.dtype == "string" for want in wants) else ()
            if (sizes, ints, texts) not in seen:
                seen.add((sizes, ints, texts))
                yield {want.name: _made(want, size, below, words) for want, size in zip(wants, sizes, strict=True)}


def _sizes(shape: Shape, rows: int, others: int) -> tuple[int, ...]:
    return tuple((others if place else rows) if size is None else size for place, size in enumerate(shape))


def _made(want: Want, sizes: tuple[int, ...], below: int, words: Sequence[bytes]) -> Array:
    import numpy as np

    random = np.random.RandomState(zlib.crc32(f"{want.name} {want.dtype}".encode()) & 0x7FFFFFFF)
    dtype: Any = want.dtype
    if dtype == "string":
        count = int(np.prod(sizes))
        return np.array([*(words[number % len(words)] for number in range(count)), None], object)[:-1].reshape(sizes)
    if dtype == "bool":
        return np.asarray(random.randint(0, 2, sizes), bool)
    if dtype == "uint8" and below > 1:
        return np.asarray(random.randint(0, 256, sizes), dtype)
    if dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        return np.asarray(random.randint(0, below, sizes), dtype)
    if dtype == "bfloat16":
        import ml_dtypes  # type: ignore[import-not-found,import-untyped,unused-ignore]

        dtype = ml_dtypes.bfloat16
    elif dtype not in ("float16", "float32", "float64", "complex64", "complex128"):
        raise TypeError(f"no values can be made for {want}")
    made = np.asarray(random.random_sample(sizes))
    if sizes and sizes[0] > 1:  # some rows as pictures are, and some on both sides of zero, so that no unit is idle
        made[1::2] = _SPREAD * random.standard_normal(made[1::2].shape)
    return made.astype(dtype)


def pair(wants: Sequence[Want], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return another model's inputs by this one's names: by name, or where those differ in the only way that they fit.

    Raises Misfit where there is none, or more than one.
    """
    names = {want.name for want in wants}
    if names == arrays.keys():
        return dict(arrays)
    if len(names) == len(arrays):
        left = {name: array for name, array in arrays.items() if name not in names}
        found = {name: array for name, array in arrays.items() if name in names}
        for want in wants:
            if want.name not in found:
                fitting = [name for name, array in left.items() if want.takes(array)]
                if len(fitting) != 1:
                    break
                found[want.name] = left.pop(fitting[0])
        else:
            return found
    had = ", ".join(str(Want(name, array.dtype.name, array.shape)) for name, array in arrays.items())
    raise Misfit(f"its inputs ({wanted(wants)}) cannot be told to be those of the original ({had})")
