"""How a graph of TensorFlow 1 begins: a GraphDef, binary or as text, or the MetaGraphDef of a .meta file.

Imports nothing: the hook runs this on every staged file that begins like one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BINARY, TEXT, META = "graph-def", "graph-def-text", "meta-graph"
HEAD = 512  # bytes of a beginning that are looked at

_NAME, _OP, _INPUT, _DEVICE, _ATTR = 0x0A, 0x12, 0x1A, 0x22, 0x2A  # the fields of a node
_NODES, _GRAPH = 0x0A, 0x12  # fields of a GraphDef and of a MetaGraphDef
_IN_META_INFO = frozenset((0x0A, 0x12, 0x1A, 0x22, 0x2A, 0x32, 0x38))
_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_IN_OP = _LETTERS | frozenset(b"0123456789>")
_IN_NAME = _IN_OP | frozenset(b"./-\\")
_BLANK = b" \t\r\n"


def form(head: bytes, read: Callable[[int], bytes]) -> str:
    """Return which of the three begins with `head`, "" for none; `read` gives the bytes at a place of the file."""
    if _is_graph(head):
        return BINARY
    if _is_text(head):
        return TEXT
    return META if _is_meta_graph(head, read) else ""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number and the place behind it; -1 where the data end within it or it is over 35 bits."""
    value = shift = 0
    while at < len(data) and shift < 35:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at
    return -1, at


def _is_graph(head: bytes) -> bool:
    """Whether the first node is whole as far as it is seen: a name, an operation, inputs, a device and an attribute.

    Others begin with a name and another too: ONNX's nodes with their inputs and outputs, MediaPipe's with a name and
    a class. None of them has an attribute of such a form, which nearly all operations have: where the first node has
    none, the next one must begin as a node does.
    """
    at, nodes = 0, 0
    while head[at : at + 1] == b"\n" and nodes < 3:
        size, at = _varint(head, at + 1)
        if size < 0:
            return False
        end = at + size
        seen = _node(head[:end], at, end)
        if seen is not None:
            return seen
        at, nodes = end, nodes + 1
    return False


def _node(head: bytes, at: int, end: int) -> bool | None:
    """Return whether a node is in head[at:end]; None where it is one as far as can be told, without an attribute."""
    for tag, letters in ((_NAME, _IN_NAME), (_OP, _IN_OP)):
        size, begin = _varint(head, at + 1)
        text = head[begin : begin + size]
        if head[at : at + 1] != bytes((tag,)) or not 0 < size == len(text) or not letters.issuperset(text):
            return False
        at = begin + size
    if text[0] not in _LETTERS:
        return False
    while at < len(head):
        tag = head[at]
        size, begin = _varint(head, at + 1)
        if size < 0 or begin + size > end:
            return False
        if tag == _ATTR:
            return _is_entry(head[begin : begin + size])
        if tag not in (_INPUT, _DEVICE):
            return False
        at = begin + size
    return None if at == end else False


def _is_entry(entry: bytes) -> bool:
    """Whether these bytes, which may be cut off, begin as an attribute does: a key that is a word, and a value."""
    size, begin = _varint(entry, 1)
    key = entry[begin : begin + size] if size > 0 else b""
    behind = entry[begin + size : begin + size + 1] if size > 0 else b""
    return entry[:1] == b"\n" and 0 < size == len(key) and _IN_OP.issuperset(key) and behind == b"\x12"


def _is_meta_graph(head: bytes, read: Callable[[int], bytes]) -> bool:
    """Whether behind what a MetaGraphDef says of itself there is a graph."""
    if head[:1] != b"\n":
        return False
    size, at = _varint(head, 1)
    if size <= 0 or at >= len(head) or head[at] not in _IN_META_INFO:
        return False
    inner, begin = _varint(head, at + 1)
    if inner < 0 or (head[at] != 0x38 and begin + inner > at + size):
        return False
    graph = read(at + size)
    if not graph or graph[0] != _GRAPH:
        return False
    size, at = _varint(graph, 1)
    return size > 0 and _is_graph(graph[at : at + size])


def _is_text(head: bytes) -> bool:
    """Whether this begins as `node { name: "..." op: "..."`, with comments before it and other texts among these."""
    at = _blank(head, 0)
    if not head.startswith(b"node", at):
        return False
    at = _blank(head, at + 4)
    if head.startswith(b":", at):
        at = _blank(head, at + 1)
    if head[at : at + 1] not in (b"{", b"<"):
        return False
    at += 1
    seen: dict[bytes, bytes] = {}
    while len(seen) < 4:
        at = _blank(head, at)
        start = at
        while at < len(head) and head[at] in _LETTERS:
            at += 1
        key = head[start:at]
        at = _blank(head, at)
        if key not in (b"name", b"op", b"input", b"device") or not head.startswith(b":", at):
            break
        at = _blank(head, at + 1)
        end = head.find(head[at : at + 1], at + 1) if head[at : at + 1] in (b'"', b"'") else -1
        if end < 0:
            break
        seen[key] = head[at + 1 : end]
        if b"name" in seen and b"op" in seen:
            name, op = seen[b"name"], seen[b"op"]
            return bool(name and op) and _IN_NAME.issuperset(name) and _IN_OP.issuperset(op) and op[0] in _LETTERS
        at = _blank(head, end + 1)
        at += head[at : at + 1] in (b",", b";")
    return False


def _blank(head: bytes, at: int) -> int:
    """Return the place behind the blanks and comments at `at`."""
    while at < len(head):
        if head[at] in _BLANK:
            at += 1
        elif head[at] == 0x23:
            end = head.find(b"\n", at)
            at = len(head) if end < 0 else end
        else:
            break
    return at
