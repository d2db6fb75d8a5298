"""JSON that came out of a file: parsed within bounds."""

from __future__ import annotations

import json
from typing import Any

from tfstrip_core.errors import Refused, Unreadable

MAX_BYTES = 256 << 20
MAX_DEPTH = 200


def parse(text: bytes | str, what: str) -> Any:
    """Return the value of the JSON `text` of the thing called `what`.

    Raises Refused where it is larger than 256 MiB or nested deeper than 200 levels, far beyond what Keras
    writes, or gives one key twice, which two readers could take in two ways; Unreadable where it is no JSON.
    """
    if len(text) > MAX_BYTES:
        raise Refused(f"{what} is {len(text):,} bytes of JSON", "no model needs that much; do not load this file")
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise _too_deep(what) from None
    except (ValueError, UnicodeDecodeError) as error:
        raise Unreadable(f"{what} is not valid JSON ({error})", "save the model again") from None
    if depth_over(value, MAX_DEPTH):
        raise _too_deep(what)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise Refused("its JSON gives one key twice", "no framework writes that; do not load it")
    return value


def _too_deep(what: str) -> Refused:
    return Refused(f"{what} is nested deeper than {MAX_DEPTH} levels", "no framework writes that; do not load it")


def depth_over(value: Any, limit: int) -> bool:
    """Return whether `value` nests lists and objects deeper than `limit` (no recursion: the value is hostile)."""
    level = [value]
    for _ in range(limit + 1):
        inner = [item for item in level if isinstance(item, (dict, list))]
        if not inner:
            return False
        level = [child for item in inner for child in (item.values() if isinstance(item, dict) else item)]
    return True


def dump(value: Any) -> bytes:
    """Return `value` as the JSON text that Keras itself would write (ASCII, default separators)."""
    return json.dumps(value).encode("ascii")
