"""JSON text with less in it: what stays keeps every byte, so that numbers, order and layout are the writer's still."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Child:
    """One element of a list or object: its `key`, "" in a list, and places in the text.

    It begins at `start`, with its key if it has one, its value at `value`, and both end at `end`.
    """

    key: str
    start: int
    value: int
    end: int


def root(text: str) -> int:
    """Return where the value begins of a text that jsontext has parsed; a byte order mark may stand before it."""
    return _skip(text, 1 if text.startswith("\ufeff") else 0)


def children(text: str, at: int) -> list[Child]:
    """Return the elements of the list or object that begins at `at`, in order, of a text that jsontext has parsed."""
    found = []
    place = _skip(text, at + 1)
    while text[place] not in "]}":
        key, begin = "", place
        if text[at] == "{":
            key, colon = _DECODER.raw_decode(text, place)
            begin = _skip(text, _skip(text, colon) + 1)
        _, end = _DECODER.raw_decode(text, begin)
        found.append(Child(key, place, begin, end))
        place = _skip(text, end)
        if text[place] == ",":
            place = _skip(text, place + 1)
    return found


def value(text: str, child: Child) -> str:
    """Return the text of a child's value."""
    return text[child.value : child.end]


def edited(text: str, at: int, change: Callable[[int, Child], str | None]) -> str:
    """Return the list or object that begins at `at` with each value as `change(position, child)` gives it.

    None takes the child away, with what separates it from the one before it.
    """
    found = children(text, at)
    if not found:
        return text[at : _skip(text, at + 1) + 1]
    out, before = [text[at : found[0].start]], found[0].start
    empty = True
    for number, child in enumerate(found):
        new = change(number, child)
        if new is not None:
            out += ["" if empty else text[before : child.start], text[child.start : child.value], new]
            empty = False
        before = child.end
    end = _skip(text, before) + 1
    out.append(text[before:end])
    return "".join(out)


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
