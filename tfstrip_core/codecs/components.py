"""What of a graph leads to itself: strongly connected components, in one pass however deep the graph is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

K = TypeVar("K")


def components(nodes: Iterable[K], after: Callable[[K], Iterable[K]]) -> list[list[K]]:
    """Return the nodes in groups that lead to each other, each group behind all those that it leads to.

    `after` gives the nodes that a node leads to.
    """
    place: dict[K, int] = {}
    low: dict[K, int] = {}
    found: list[list[K]] = []
    stack: list[K] = []
    waiting: set[K] = set()
    for start in nodes:
        way: list[tuple[K, Iterator[K]]] = []
        todo: list[K] = [] if start in place else [start]
        while todo or way:
            if todo:
                node = todo.pop()
                place[node] = low[node] = len(place)
                stack.append(node)
                waiting.add(node)
                way.append((node, iter(after(node))))
            node, rest = way[-1]
            for other in rest:
                if other not in place:
                    todo.append(other)
                    break
                if other in waiting:
                    low[node] = min(low[node], place[other])
            if todo:
                continue
            way.pop()
            if way:
                low[way[-1][0]] = min(low[way[-1][0]], low[node])
            if low[node] == place[node]:
                at = _at(stack, node)
                found.append(stack[at:])
                waiting.difference_update(stack[at:])
                del stack[at:]
    return found


def _at(stack: list[K], node: K) -> int:
    at = len(stack) - 1
    while stack[at] != node:
        at -= 1
    return at
