"""Keys of the parts of a partitioned variable: name and slice in TensorFlow's ordered code."""

from __future__ import annotations

WHOLE = -1  # the length of a slice that takes all of a dimension

Slice = tuple[tuple[int, int], ...]  # start and length for each dimension


def encode(name: bytes, extents: Slice) -> bytes:
    """Return the key under which the part of variable `name` that `extents` cuts out is stored."""
    escaped = name.replace(b"\0", b"\0\xff") if b"\xff" not in name else _escape(name)
    numbers = b"".join(_signed(number) for extent in extents for number in extent)
    return b"\0" + escaped + b"\0\x01" + _unsigned(len(extents)) + numbers


def _escape(name: bytes) -> bytes:
    return b"".join({0: b"\0\xff", 0xFF: b"\xff\0"}.get(byte, bytes([byte])) for byte in name)


def _unsigned(value: int) -> bytes:
    """Return a byte with the length, then the number's bytes from the highest on."""
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def _signed(value: int) -> bytes:
    """Return as many leading ones (zeros for a negative number) as there are bytes, then the number."""
    bits = (value if value >= 0 else ~value).bit_length()
    size = bits // 7 + 1  # of every seven bits one byte; one bit is the sign's
    header = ((1 << size) - 1) << (7 * size)
    return ((value & (1 << 8 * size) - 1) ^ header).to_bytes(size, "big")


def shape_of(extents: Slice, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of a part of a variable of `shape`, in elements; None where it does not lie in it."""
    if len(extents) != len(shape):
        return None
    part = []
    for (start, length), size in zip(extents, shape, strict=True):
        length = size if length == WHOLE else length  # noqa: PLW2901
        if start < 0 or length < 0 or start + length > size:
            return None
        part.append(length)
    return tuple(part)
