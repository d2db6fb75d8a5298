"""CRC-32C as TensorFlow stores it: rotated and shifted, so that a checksum of data with checksums in it stays good."""

from __future__ import annotations

from google_crc32c import extend as _extend

_DELTA = 0xA282EAD8


def extend(crc: int, data: bytes) -> int:
    """Return the CRC-32C of what `crc` was of (0 for nothing) followed by `data`."""
    value: int = _extend(crc, data)
    return value


def mask(crc: int) -> int:
    """Return a CRC-32C in the form in which files hold it, 32 bits."""
    return ((crc >> 15 | crc << 17) + _DELTA) & 0xFFFFFFFF


def masked(data: bytes) -> int:
    """Return the masked CRC-32C of `data`."""
    return mask(extend(0, data))
