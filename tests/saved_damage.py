"""Damaging SavedModels where it hurts, field by field, with every checksum made right again; and watching what happens.

A case is a seed: `probe` copies a model, damages the copy as the seed says, and names every promise that is broken.
"""

import contextlib
import faulthandler
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from damage import MEMORY, MEMORY_DISK, _is_internal, _main

from tfstrip_core.codecs import object_graph, saved_model, sstable, tensor_bundle, tensor_bundle_write
from tfstrip_core.codecs.protos import bundle_pb2, object_graph_pb2
from tfstrip_core.codecs.protos import saved_model_pb2 as pb

SECONDS = 10  # for all the commands on one case; on small models they take a few hundredths
NASTY = ("", "/", "..", "../../etc/passwd", "/etc/passwd", "a\0b", "a\nb", "\x1b[2J", "^x", "x:0", ":1", "0", "w",
         "_kept", "saver/restore", "__saved_model_init_op", "signatures", "x" * 5000, "\u202e", "loc:@w")  # fmt: skip
NUMBERS = (-1, 0, 1, 2, 7, 20, 21, 255, 1 << 20, (1 << 31) - 1, -(1 << 31))


def several(value: Any) -> bool:
    """Return whether a field's value is a list."""
    return hasattr(value, "extend")


def sites(message: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return every (message, field that is set) in a message, at all depths."""
    for field, value in message.ListFields():
        found.append((message, field))
        if field.message_type:
            for inner in value if several(value) else [value]:
                sites(inner, found)
    return found


def edit(message: Any, dice: random.Random) -> None:
    """Change one thing in a message: a text, a number, an item of a list, or a part as a whole."""
    every = sites(message, [])
    if not every:
        return
    holder, field = dice.choice(every)
    items = getattr(holder, field.name)
    if several(items):
        at = dice.randrange(len(items))
        kind = dice.randrange(4)
        if kind == 0:
            del items[at]
        elif kind == 1:
            items.append(items[at])
        elif kind == 2 and not field.message_type:
            items[at] = other(field, items[at], every, dice)
        elif field.message_type:
            items[at].CopyFrom(items[dice.randrange(len(items))])
    elif field.message_type or dice.random() < 0.2:
        holder.ClearField(field.name)
    else:
        setattr(holder, field.name, other(field, getattr(holder, field.name), every, dice))


def other(field: Any, value: Any, every: Sequence[tuple[Any, Any]], dice: random.Random) -> Any:
    """Return another value for a field: one of the same kind from elsewhere in the message, or a nasty one."""
    if field.type == field.TYPE_STRING:
        names = [getattr(h, f.name) for h, f in dice.sample(every, min(20, len(every)))
                 if f.type == f.TYPE_STRING and not several(getattr(h, f.name))]  # fmt: skip
        return dice.choice(names if names and dice.random() < 0.6 else NASTY)
    if field.type == field.TYPE_BYTES:
        data = bytearray(value or b"\0")
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        return bytes(data[: dice.randrange(len(data) + 1)]) if dice.random() < 0.3 else bytes(data)
    if field.type == field.TYPE_BOOL:
        return not value
    wide = field.type in (field.TYPE_INT64, field.TYPE_UINT64)
    found = dice.choice((*NUMBERS, *((1 << 62, -(1 << 62)) if wide else ()), value + 1, value - 1, dice.randrange(64)))
    return abs(found) if field.type in (field.TYPE_UINT32, field.TYPE_FIXED32, field.TYPE_UINT64) else found


def _edited(path: Path, message: Any, dice: random.Random) -> None:
    message.ParseFromString(path.read_bytes())
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        edit(message, dice)
    path.write_bytes(message.SerializeToString())


def _table(index: Path, dice: random.Random) -> None:
    """Change an entry of the index, whose checksums are then right."""
    with index.open("rb", buffering=0) as file:
        items = list(sstable.entries(file))
    at = dice.randrange(len(items))
    key, value = items[at]
    if dice.random() < 0.3:
        del items[at]
    elif dice.random() < 0.2:
        items[at] = (key + b"x", value)
    else:
        message = bundle_pb2.Entry.FromString(value) if key else bundle_pb2.Header.FromString(value)
        edit(message, dice)
        items[at] = (key, message.SerializeToString())
    with index.open("wb") as out:
        sstable.write(out, sorted(dict(items).items()))


def _graph(folder: Path, dice: random.Random) -> None:
    """Change the checkpoint's own object graph."""
    prefix = str(folder / "variables" / "variables")
    bundle = tensor_bundle.read(prefix)
    with tensor_bundle.opened(bundle) as data:
        message = object_graph_pb2.Graph.FromString(data.string(bundle.entries[object_graph.KEY], 1 << 26))
    for _ in range(dice.choice((1, 1, 3))):
        edit(message, dice)
    fresh = tensor_bundle_write.fresh_string(message.SerializeToString())
    made = str(folder / "made")
    tensor_bundle_write.write(bundle, made, {**bundle.entries, object_graph.KEY: fresh})
    for old in bundle.files:
        os.remove(old)
    os.rename(f"{made}.index", f"{prefix}.index")
    os.rename(f"{made}.data-00000-of-00001", f"{prefix}.data-00000-of-00001")


def damage(folder: Path, dice: random.Random) -> str:
    """Damage the model in a folder; return what was done."""
    index = folder / "variables" / "variables.index"
    kind = dice.choice(("graph", "graph", "graph", "graph", "index", "objects", "objects", "keras", "bytes", "file"))
    if kind == "index" and index.exists():
        _table(index, dice)
    elif kind == "objects" and index.exists() and object_graph.KEY in tensor_bundle.read(str(index)[:-6]).entries:
        _graph(folder, dice)
    elif kind == "keras" and (folder / saved_model.KERAS).exists():
        _edited(folder / saved_model.KERAS, pb.KerasMetadata(), dice)
    elif kind in ("bytes", "file"):
        file = dice.choice(sorted(item for item in folder.rglob("*") if item.is_file()))
        data = bytearray(file.read_bytes())
        if kind == "file" or not data:
            file.unlink() if dice.random() < 0.5 else file.write_bytes(data[: dice.randrange(len(data) + 1)])
        else:
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            file.write_bytes(data)
    else:
        kind = "graph"
        _edited(folder / saved_model.PB, pb.SavedModel(), dice)
    return kind


def content(folder: Path) -> dict[str, bytes]:
    """Return every file in a folder, by its path."""
    return {str(item.relative_to(folder)): item.read_bytes() for item in sorted(folder.rglob("*")) if item.is_file()}


def probe(path: str, seed: str, keep: str = "") -> tuple[str, list[str]]:
    """Damage a copy of the model at `path`, use every command on it; return what happened and the broken promises.

    With `keep` the damaged model and what became of it are left there.
    """
    dice = random.Random(seed)
    folder = tempfile.mkdtemp()
    try:
        model = os.path.join(folder, "model")
        shutil.copytree(path, model)
        damage(Path(model), dice)
        began = time.monotonic()
        happened, problems = _probed(folder, model)
        if time.monotonic() - began > SECONDS:
            problems.append(f"took {time.monotonic() - began:.0f} seconds")
        if keep:
            shutil.copytree(folder, keep)
    finally:
        shutil.rmtree(folder)
    return happened, problems


def _probed(folder: str, model: str) -> tuple[str, list[str]]:
    before, problems = content(Path(model)), []
    checked, out, err = _main("check", "--json", model)
    found = json.loads(out)["models"]
    verdict, message = (found[0]["verdict"], found[0]["message"]) if found else ("none", "")
    if (checked == 2) is not (verdict in ("unreadable", "refused")) or len(err.splitlines()) > 1:
        problems.append(f"check: exit {checked}, {verdict}, {err!r}")
    if not message.isprintable() or _is_internal(message):
        problems.append(f"check: {message!r}")
    codes = []
    for profile in ("inference", "serving"):
        target = os.path.join(folder, profile)
        code, out, err = _main("strip", model, "-o", target, "--profile", profile, "--ema", "drop")
        codes.append(code)
        there = os.path.lexists(target)
        if code == 0:
            verified, said, error = _main("verify", model, target)
            if verified or checked == 2 or not there:
                problems.append(f"strip {profile}: exit 0, check {checked}, verify {verified}: {said}{error}")
        elif code != 2 or out or there or len(err.splitlines()) != 1 or _is_internal(err) or not err[:-1].isprintable():
            problems.append(f"strip {profile}: exit {code}, {out!r} {err!r}")
        if content(Path(model)) != before:
            problems.append("the source has changed")
    left = set(os.listdir(folder)) - {"model", "inference", "serving"}
    if left:
        problems.append(f"left {sorted(left)}")
    return f"check {checked} {verdict}, strip {codes}", problems


def run_batch(cases: Sequence[tuple[str, str]], seconds: float = 900) -> Iterator[tuple[tuple[str, str], list[Any]]]:
    """Yield each case (path of a model, seed) with what happened and the broken promises; see damage.run_batch."""
    todo = list(cases)
    while todo:
        with tempfile.TemporaryDirectory(prefix="damage-", dir=MEMORY_DISK) as folder:
            done = subprocess.run(
                [sys.executable, "-X", "faulthandler", __file__], env=os.environ | {"TMPDIR": folder},
                input=json.dumps(todo), capture_output=True, text=True, timeout=seconds, check=False,
            )  # fmt: skip
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        yield from zip(todo, answers, strict=False)
        if done.returncode == 0:
            return
        where = [line for line in done.stderr.splitlines() if "rror" in line or line.startswith("  File")][-8:]
        yield todo[len(answers)], ["crash", [f"exit code {done.returncode}: {' '.join(where)}"]]
        todo = todo[len(answers) + 1 :]


def serve() -> None:
    """Answer the cases on stdin."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for path, seed in json.load(sys.stdin):
        faulthandler.dump_traceback_later(3 * SECONDS, exit=True)
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                answer = probe(path, seed)
        except Exception as error:  # noqa: BLE001  a promise of the code that is attacked, or of this one
            import traceback

            answer = ("crash", ["".join(traceback.format_exception(error)[-3:])])
        print(json.dumps(answer), flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    serve()
