"""Run two SavedModels under one loader and compare what they give byte for byte: the proof that nothing was lost.

    with Runner() as runner:
        result = runner.compare(original, stripped, "session")
        assert result.state == "equal", result

Nothing of TensorFlow comes into the process that asks. A child (this file with --serve) imports it once; every
model is then loaded and run in a process of its own, forked from that child, which a crash ends alone.

The part of the child runs on CPython 3.7 and later, under TensorFlow 1.15 and later.
"""

# ruff: noqa: B905 - zip(strict=) is not in CPython 3.7
from __future__ import annotations

import base64
import ctypes
import gc
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NamedTuple  # noqa: UP035 - CPython 3.7

LOADERS = ("v2", "callables", "session", "c++", "load_model", "tflite")
SPECIAL = ("__saved_model_init_op", "__saved_model_train_op")
SECONDS = 60  # for one model under one loader; then once more, in a fresh child


class Output(NamedTuple):
    """One tensor that came out."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes  # strings: each with its length before it
    finite: bool

    def array(self) -> Any:
        """Return the values, where they are numbers."""
        import numpy as np

        return np.frombuffer(self.data, self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Ran:
    """One SavedModel under one loader."""

    loader: str
    error: str  # why it did not load; empty: it did
    impossible: bool  # this loader is not for this model, or not in this TensorFlow: nothing was tried
    outputs: dict[str, tuple[Output, ...]]  # of each call that ran
    failed: dict[str, str]  # each call that did not, and why
    unsteady: tuple[str, ...]  # calls that gave something else when they were run again: they draw random numbers

    @property
    def ran(self) -> bool:
        return not self.error and not self.impossible and bool(self.outputs)

    def why_not(self) -> str:
        return self.error or "; ".join(f"{call}: {why}" for call, why in sorted(self.failed.items())) or "no calls"

    def not_finite(self) -> tuple[str, ...]:
        """Return the calls with a NaN or an infinity."""
        return tuple(call for call, found in sorted(self.outputs.items()) if not all(one.finite for one in found))


@dataclass(frozen=True)
class Result:
    """What became of a SavedModel.

    state is one of
      equal           every call that ran in the original ran, and gave the same bytes
      different       some call gave others
      lacking         some call of the original is not there
      failed          the original ran, or some call of it, and this did not
      repaired        nothing of the original ran, or only with NaN, and this runs with finite numbers
      original fails  and so does this
      impossible      this loader is not for this model, or not in this TensorFlow
    The first that is true in the order failed, different, lacking is given.
    """

    loader: str
    state: str
    why: str
    original: Ran = field(repr=False)
    stripped: Ran = field(repr=False)
    same: tuple[str, ...] = ()  # calls with the same bytes
    different: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()  # calls that the original does not have
    failed: tuple[str, ...] = ()  # calls that ran in the original and do not run any more
    repaired: tuple[str, ...] = ()  # calls that ran in this only, or gave NaN in the original and do not in this
    failing: tuple[str, ...] = ()  # calls that run in neither
    unsteady: tuple[str, ...] = ()  # calls whose bytes cannot be compared; types and shapes agree


def judge(original: Ran, stripped: Ran, may_lack: Callable[[str], bool] = lambda call: False) -> Result:
    """Compare what two models gave."""

    def result(state: str, why: str, **calls: Any) -> Result:
        calls = {key: tuple(sorted(value)) for key, value in calls.items()}
        return Result(original.loader, state, why, original, stripped, **calls)

    if original.impossible or stripped.impossible:
        return result("impossible", original.error or stripped.error)
    before, after = original.outputs, stripped.outputs
    known, there = {*before, *original.failed}, {*after, *stripped.failed}
    both = before.keys() & after.keys()
    ill = set(original.not_finite())
    well = set(after) - set(stripped.not_finite())
    unsteady = {call for call in both if call in original.unsteady + stripped.unsteady and alike(before, after, call)}
    same = {call for call in both - unsteady if before[call] == after[call]}
    repaired = (original.failed.keys() & after.keys()) | (ill & well - same)
    different = both - same - unsteady - repaired
    lacking = {call for call in known - there if not may_lack(call)} if not stripped.error else set()
    failed = before.keys() & stripped.failed.keys()
    failing = original.failed.keys() & stripped.failed.keys()
    calls = {"same": same, "different": different, "lacking": lacking, "extra": there - known, "failed": failed}
    calls.update(repaired=repaired, failing=failing, unsteady=unsteady)
    if original.error and stripped.error:
        return result("original fails", original.error, **calls)
    if original.error:
        repaired |= set(well)
        state = "repaired" if well else "original fails"
        return result(state, original.error, **{**calls, "repaired": repaired, "extra": ()})
    if stripped.error:
        return result("failed" if original.outputs else "original fails", stripped.error, **calls)
    if failed:
        return result("failed", "; ".join(f"{call}: {stripped.failed[call]}" for call in sorted(failed)), **calls)
    if different:
        return result("different", ", ".join(sorted(different)), **calls)
    if lacking:
        return result("lacking", ", ".join(sorted(lacking)), **calls)
    if same or unsteady:
        return result("equal", "", **calls)
    return result("repaired" if repaired else "original fails", original.why_not(), **calls)


def alike(before: dict[str, tuple[Output, ...]], after: dict[str, tuple[Output, ...]], call: str) -> bool:
    """Whether types and shapes agree."""
    return [one[:3] for one in before[call]] == [one[:3] for one in after[call]]


class Runner:
    """A child process with TensorFlow, started when it is first needed."""

    def __init__(self, python: str = sys.executable, **env: str) -> None:
        self.python = python
        self.env = env
        self.child: subprocess.Popen[str] | None = None
        self.ran: dict[tuple[str, str, str], Ran] = {}

    def __enter__(self) -> Runner:  # noqa: PYI034 - CPython 3.7
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.child is not None:
            self.child.stdin.close()
            self.child.stdout.close()
            self.child.wait(30)
            self.child = None

    def start(self) -> subprocess.Popen[str]:
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
        env.update(TF_NUM_INTEROP_THREADS="1", TF_NUM_INTRAOP_THREADS="1", PYTHONWARNINGS="ignore", **self.env)
        for loud in ("PYTHONPATH", "PYTHONHOME"):
            if self.python != sys.executable and loud not in self.env:
                env.pop(loud, None)
        command = [self.python, os.path.abspath(__file__), "--serve"]
        return subprocess.Popen(
            command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def run(self, directory: str | os.PathLike[str], loader: str, examples: str = "", **options: Any) -> Ran:
        """Load a SavedModel and run all its calls. `examples` is an .npz with values named CALL/x/ARGUMENT."""
        found = self.try_to_run(directory, loader, examples, options)
        if "no end after" in found.error:  # a fork may inherit a lock that a thread of the child held
            self.close()
            found = self.try_to_run(directory, loader, examples, options)
        return found

    def try_to_run(self, directory: str | os.PathLike[str], loader: str, examples: str, options: dict[str, Any]) -> Ran:
        if self.child is None or self.child.poll() is not None:
            self.child = self.start()
        with tempfile.NamedTemporaryFile(suffix=".json") as reply:
            job = {"loader": loader, "directory": os.path.abspath(os.fspath(directory)), "examples": str(examples)}
            job.update(options, reply=reply.name)
            try:
                self.child.stdin.write(json.dumps(job) + "\n")
                self.child.stdin.flush()
                ended = self.child.stdout.readline().strip()
            except BrokenPipeError:
                ended = ""
            if ended != "0":
                return Ran(loader, f"the process ended: {ended or 'TensorFlow does not start'}", False, {}, {}, ())
            with open(reply.name, encoding="utf-8") as file:
                found = json.load(file)
        outputs = {
            call: tuple(
                Output(one["name"], one["dtype"], tuple(one["shape"]), base64.b64decode(one["data"]), one["finite"])
                for one in tensors
            )
            for call, tensors in found["outputs"].items()
        }
        return Ran(loader, found["error"], found["impossible"], outputs, found["failed"], tuple(found["unsteady"]))

    def once(self, directory: str | os.PathLike[str], loader: str, examples: str = "") -> Ran:
        """Run a model that does not change, and remember what it gave."""
        key = os.fspath(directory), loader, str(examples)
        if key not in self.ran:
            self.ran[key] = self.run(directory, loader, examples)
        return self.ran[key]

    def compare(
        self,
        original: str | os.PathLike[str],
        stripped: str | os.PathLike[str],
        loader: str,
        examples: str = "",
        may_lack: Callable[[str], bool] = lambda call: False,
    ) -> Result:
        """Run both on the same inputs. The original is run once for each loader: it must not change."""
        # The original has shown which calls draw random numbers.
        stripped_ran = self.run(stripped, loader, examples, twice=False)
        return judge(self.once(original, loader, examples), stripped_ran, may_lack)

    def notices(self, directory: str | os.PathLike[str], key: str, loader: str, examples: str = "") -> bool:
        """The negative control: whether this loader sees a flipped bit in a tensor of the model."""
        with tempfile.TemporaryDirectory() as folder:
            copy = flipped(directory, os.path.join(folder, "model"), key)
            after = self.run(copy, loader, examples, twice=False)
        return judge(self.once(directory, loader, examples), after).state == "different"

    def control(
        self, directory: str | os.PathLike[str], keys: Iterable[str], loader: str, examples: str = ""
    ) -> str | None:
        """Return the first of these tensors in which a flipped bit is seen: not all of them need to be read."""
        return next((key for key in keys if self.notices(directory, key, loader, examples)), None)


# ---------------------------------------------------------------------------------------------------------------------
# Damage: one bit of a tensor, or a tensor that is gone. Not with the package's own reader.


class Entry(NamedTuple):
    """A tensor in the index of a bundle: where it lies, and where the index says so."""

    dtype: int
    offset: int
    size: int
    at: int  # of the entry in the index file
    raw: bytes


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield offset and size of the blocks with the entries."""
    footer = data[-48:]
    at = varint(footer, varint(footer, 0)[1])[1]
    offset, at = varint(footer, at)
    size, _ = varint(footer, at)
    for _, start, length in block(data, offset, size):
        handle_at, at = varint(data, start)
        yield handle_at, varint(data, at)[0]
        assert length


def block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield key, offset and size of each value."""
    assert data[offset + size] == 0, "compressed block"
    end = offset + size - 4 - 4 * struct.unpack_from("<I", data, offset + size - 4)[0]
    at, key = offset, b""
    while at < end:
        shared, at = varint(data, at)
        unshared, at = varint(data, at)
        length, at = varint(data, at)
        key = key[:shared] + data[at : at + unshared]
        at += unshared
        yield key, at, length
        at += length


def variables(directory: str | os.PathLike[str]) -> str:
    """Return the prefix of the bundle of a SavedModel."""
    return os.path.join(os.fspath(directory), "variables", "variables")


def entries(directory: str | os.PathLike[str]) -> dict[str, Entry]:
    """Return the tensors of a SavedModel that lie in one piece in the only shard."""
    data = Path(variables(directory) + ".index").read_bytes()
    found = {}
    for offset, size in blocks(data):
        for key, at, length in block(data, offset, size):
            raw, fields, step = data[at : at + length], {}, 0
            while key and step < length:
                tag, step = varint(raw, step)
                start = step
                if tag & 7 == 0:
                    fields[tag >> 3], step = varint(raw, step)
                elif tag & 7 == 2:
                    skip, step = varint(raw, step)
                    step += skip
                else:
                    step += 4
                    fields[tag >> 3] = start
            if key and fields.get(5) and 7 not in fields:
                assert not fields.get(3), "several shards"
                found[key.decode("utf-8", "surrogateescape")] = Entry(
                    fields.get(1, 0), fields.get(4, 0), fields[5], at, raw
                )
    return found


def keys_of(directory: str | os.PathLike[str], value: bytes) -> list[str]:
    """Return the keys of the tensors with that content."""
    data = next(Path(directory, "variables").glob("variables.data-*")).read_bytes()
    return [key for key, one in entries(directory).items() if data[one.offset : one.offset + one.size] == value]


def content(directory: str | os.PathLike[str], key: str) -> bytes:
    one = entries(directory)[key]
    data = next(Path(directory, "variables").glob("variables.data-*")).read_bytes()
    return data[one.offset : one.offset + one.size]


# The highest bit of the fraction, and of the exponent, of each kind of float.
FLOATS = {1: (22, 30), 2: (51, 62), 14: (6, 14), 19: (9, 14)}


def flipped(directory: str | os.PathLike[str], target: str | os.PathLike[str], key: str) -> str:
    """Copy a SavedModel with one bit of a tensor's first element flipped, and with checksums that say it belongs so.

    A float changes by a quarter to a half, a zero to two (the first bits of a fraction make nothing of it); what is
    no float changes in its lowest bit.
    """
    shutil.copytree(os.fspath(directory), os.fspath(target))
    one = entries(target)[key]
    (path,) = Path(target, "variables").glob("variables.data-*")
    data = bytearray(path.read_bytes())
    fraction, exponent = FLOATS.get(one.dtype, (0, 0))
    first = int.from_bytes(data[one.offset : one.offset + (exponent + 2) // 8], "little")
    position = fraction if first >> fraction + 1 & (1 << exponent - fraction) - 1 else exponent
    data[one.offset + position // 8] ^= 1 << position % 8
    path.write_bytes(data)
    crc = struct.pack("<I", masked(bytes(data[one.offset : one.offset + one.size])))
    assert one.raw[-5] == 0x35, "the checksum is not the last field"
    mend(target, one, one.raw[:-4] + crc)
    return os.fspath(target)


def without(directory: str | os.PathLike[str], target: str | os.PathLike[str], key: str) -> str:
    """Copy a SavedModel whose bundle has that tensor no longer: its key is another one of the same length."""
    shutil.copytree(os.fspath(directory), os.fspath(target))
    one = entries(target)[key]
    assert [other for other in entries(target) if other.startswith(key)] == [key], "another key begins with this one"
    path = Path(variables(target) + ".index")
    data = bytearray(path.read_bytes())
    # The last byte of a key stands right before its value. 0x7f comes after whatever stood there, and before the next.
    data[one.at - 1] = 0x7F
    path.write_bytes(data)
    mend(target, one, one.raw)
    return os.fspath(target)


def mend(directory: str | os.PathLike[str], one: Entry, raw: bytes) -> None:
    """Put an entry of the same length into the index, and the checksum of its block right."""
    assert len(raw) == len(one.raw)
    path = Path(variables(directory) + ".index")
    data = bytearray(path.read_bytes())
    data[one.at : one.at + len(raw)] = raw
    for offset, size in blocks(bytes(data)):
        if offset <= one.at < offset + size:
            data[offset + size + 1 : offset + size + 5] = struct.pack(
                "<I", masked(bytes(data[offset : offset + size + 1]))
            )
    path.write_bytes(data)


def masked(data: bytes) -> int:
    """The masked CRC-32C, by its definition."""
    try:
        import google_crc32c

        crc = google_crc32c.value(data)
    except ImportError:  # the writers do not have it
        crc = 0xFFFFFFFF
        for byte in data:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


# ---------------------------------------------------------------------------------------------------------------------
# The child. Inputs


class Impossible(Exception):
    """This loader is not for this model, or not in this TensorFlow."""


# How to fill what a signature leaves open: its first open size, the others, the integers, the texts.
FILLINGS = (
    (3, 4, 2, (b"a tree", b"two old trees", b"", b"tree")),
    (1, 1, 2, (b"0", b"1")),
    (2, 16, 5, (b"",)),
    (4, 32, 1, (b"1.5", b"2")),
)


def made(name: str, dtype: Any, shape: list[int | None] | None, filling: tuple[Any, ...]) -> Any:
    """Return an array for an argument; the same for the same name, type and shape."""
    import numpy as np

    first, others, below, texts = filling
    open_sizes = iter([first])
    known = [None] if shape is None else shape
    sizes = [next(open_sizes, others) if size is None or size < 0 else size for size in known]
    random = np.random.RandomState(zlib.crc32(f"{name} {dtype}".encode()) & 0x7FFFFFFF)
    if dtype == "string":
        return np.array([texts[number % len(texts)] for number in range(int(np.prod(sizes)))], object).reshape(sizes)
    if dtype == "bool":
        return random.randint(0, 2, sizes).astype(bool)
    if "int" in dtype:
        return random.randint(0, below, sizes).astype(dtype)
    if dtype.startswith("complex"):
        return (random.standard_normal(sizes) + 1j * random.standard_normal(sizes)).astype(dtype)
    if dtype in ("float16", "float32", "float64", "half", "bfloat16"):
        import tensorflow as tf

        return random.standard_normal(sizes).astype(tf.as_dtype(dtype).as_numpy_dtype)
    raise TypeError(f"no inputs of type {dtype}")


class Inputs:
    """The inputs of one call: those of its examples, else made from its specs."""

    def __init__(self, examples: str) -> None:
        import numpy as np

        self.examples: dict[str, Any] = {}
        if examples:
            with np.load(examples, allow_pickle=False) as stored:
                self.examples = {key: stored[key] for key in stored.files}

    def choices(self, call: str, specs: dict[str, tuple[str, list[int | None] | None]]) -> Iterator[dict[str, Any]]:
        """Yield arguments for a call, in the order in which to try them."""
        given = {}
        for name in specs:
            # Where a MetaGraph is not the one that serves, its tags stand before the name, and not in the examples.
            value = self.examples.get("{}/x/{}".format(call.rpartition(":")[2], name))
            if value is not None:
                rows = (specs[name][1] or [None])[0] if value.ndim else None  # some signatures take one row, no more
                value = value[:rows] if rows and rows > 0 else value
                given[name] = value.astype(object) if value.dtype.kind in "SU" else value
        for filling in FILLINGS:
            yield {
                name: given[name] if name in given else made(name, dtype, shape, filling)
                for name, (dtype, shape) in specs.items()
            }
            if len(given) == len(specs):
                return


def packed(name: str, value: Any) -> dict[str, Any]:
    """Describe an output for the reply."""
    import numpy as np

    array = np.asarray(value)
    if array.dtype.kind in "OSU":
        texts = [one if isinstance(one, bytes) else str(one).encode() for one in array.ravel().tolist()]
        data, dtype, finite = b"".join(struct.pack("<I", len(one)) + one for one in texts), "string", True
    else:
        data, dtype = array.tobytes(), array.dtype.name
        numbers = array.astype("float64") if dtype == "bfloat16" else array
        finite = bool(np.all(np.isfinite(numbers))) if array.dtype.kind in "fcV" else True
    shape = [int(size) for size in array.shape]
    return {
        "name": name,
        "dtype": dtype,
        "shape": shape,
        "data": base64.b64encode(data).decode(),
        "finite": finite,
    }


def brief(error: BaseException) -> str:
    """Return the kind of an error and its first words, and those of the errors that it came from."""
    said: list[str] = []
    known: set[int] = set()
    while error is not None and id(error) not in known and len(said) < 4:
        known.add(id(error))
        words = re.sub(r"(?<![\w.])/(?:[\w.+@-]+/)+", "", " ".join(str(error).split()))  # no folders of this machine
        said.append(f"{type(error).__name__}: {words[:300]}")
        error = error.__cause__ or error.__context__
    return " < ".join(said)


class Reply:
    """What one model gave."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.directory = job["directory"]
        self.loader = job["loader"]
        self.twice = job.get("twice", True)
        self.inputs = Inputs(job["examples"])
        self.outputs: dict[str, Any] = {}
        self.failed: dict[str, str] = {}
        self.unsteady: list[str] = []

    def call(self, name: str, specs: Any, run: Callable[[dict[str, Any]], dict[str, Any]], twice: bool = True) -> None:
        """Run one call, on the first inputs that it takes."""
        error: Exception | None = None
        try:
            choices = list(self.inputs.choices(name, specs))
        except TypeError as caught:  # of a type that nothing is made of: a function that takes a variable
            self.failed[name] = brief(caught)
            return
        for arguments in choices:
            try:
                found = [packed(*one) for one in sorted(run(arguments).items())]
                if twice and self.twice and found != [packed(*one) for one in sorted(run(arguments).items())]:
                    self.unsteady.append(name)
            except Exception as caught:  # noqa: BLE001 - whatever it is, it is the answer
                error = error or caught
                continue
            self.outputs[name] = found
            self.failed.pop(name, None)
            return
        self.failed[name] = brief(error) if error else "no inputs"


# ---------------------------------------------------------------------------------------------------------------------
# The child. Loaders


def meta_graphs(directory: str) -> list[Any]:
    from tensorflow.python.saved_model import loader_impl

    parse = getattr(loader_impl, "parse_saved_model", None) or loader_impl._parse_saved_model
    return list(parse(directory).meta_graphs)


def tag_sets(directory: str) -> list[list[str]]:
    return [sorted(one.meta_info_def.tags) for one in meta_graphs(directory)]


def named(tags: list[str], name: str) -> str:
    """Name a signature: with the tags of its MetaGraph, unless that is the one that serves."""
    return "{}{}".format("" if tags == ["serve"] else "+".join(tags) + ":", name)


def tensor_spec(spec: Any) -> tuple[str, list[int | None] | None]:
    return spec.dtype.base_dtype.name, None if spec.shape.rank is None else spec.shape.as_list()


def info_spec(info: Any) -> tuple[str, list[int | None] | None]:
    """Return type and shape of a TensorInfo."""
    import tensorflow as tf

    shape = info.tensor_shape
    return (
        tf.as_dtype(info.dtype).base_dtype.name,
        None if shape.unknown_rank else [None if dim.size < 0 else dim.size for dim in shape.dim],
    )


def tensor(value: Any, dtype: str) -> Any:
    import tensorflow as tf

    return tf.constant(value.tolist() if dtype == "string" else value, dtype, shape=value.shape)


def flat(value: Any) -> dict[str, Any]:
    import tensorflow as tf

    names: dict[str, Any] = {}
    for number, one in enumerate(tf.nest.flatten(value, expand_composites=True)):
        if one is not None:
            names[f"{number:03d}"] = one.numpy() if hasattr(one, "numpy") else one
    return names


class State:
    """The variables of this process: what a call did to them is seen, and undone."""

    def __init__(self) -> None:
        import tensorflow as tf

        self.values: dict[int, tuple[Any, Any]] = {}
        for one in [one for one in gc.get_objects() if isinstance(one, tf.Variable)]:
            try:
                self.values[id(one.handle)] = one, one.numpy()
            except Exception:  # noqa: BLE001 - of a graph, or without a value
                continue

    def seeded(self, run: Callable[[], Any], captured: Any = ()) -> tuple[Any, dict[str, Any]]:
        """Run a call. Return what it gave, and what is in each variable that it captures, by a digest."""
        import numpy as np
        import tensorflow as tf

        try:
            tf.random.set_seed(11)
            found = run()
            after = {}
            for number, handle in enumerate(captured):
                if id(handle) in self.values:
                    value = self.values[id(handle)][0].numpy()
                    parts = packed("", value)
                    said = "{} {} {}".format(parts["dtype"], parts["shape"], parts["data"])
                    after[f"variable {number}"] = np.frombuffer(hashlib.sha256(said.encode()).digest(), "uint8")
            return found, after
        finally:
            for one, value in self.values.values():
                if one.numpy().tobytes() != value.tobytes() and value.dtype.kind != "O":
                    one.assign(value)


def v2(reply: Reply) -> None:
    import tensorflow as tf

    sets = tag_sets(reply.directory)
    for tags in sets:
        loaded = tf.saved_model.load(reply.directory, tags)
        state = State()
        for name in loaded.signatures:
            function = loaded.signatures[name]
            specs = {key: tensor_spec(spec) for key, spec in function.structured_input_signature[1].items()}

            def run(
                values: dict[str, Any], function: Any = function, specs: Any = specs, state: Any = state
            ) -> dict[str, Any]:
                arguments = {key: tensor(value, specs[key][0]) for key, value in values.items()}
                found, _ = state.seeded(lambda: function(**arguments))
                return {f"{key}/{part}": one for key, value in found.items() for part, one in flat(value).items()}

            reply.call(named(tags, name), specs, run)
    if not reply.outputs and not reply.failed:
        raise Impossible("no signatures")


def functions_of(root: Any) -> dict[str, Any]:
    """Find every function of a loaded object, by its path."""
    from tensorflow.python.eager import def_function

    found, seen, queue = {}, {id(root)}, [("", root)]
    kept = []
    while queue:
        path, thing = queue.pop(0)
        kept.append(thing)
        try:
            children = dict(thing._trackable_children("savedmodel", cache={}))
        except TypeError:
            children = dict(thing._trackable_children("savedmodel"))
        except Exception:  # noqa: BLE001 - a table's resource, for one
            children = {}
        for name, child in sorted(children.items(), key=lambda item: str(item[0])):
            if name == "signatures" or name.startswith("_create") or name in ("_initialize", "_destroy_resource"):
                continue
            where = f"{path}/{name}" if path else str(name)
            if isinstance(child, def_function.Function) or hasattr(child, "structured_input_signature"):
                found[where] = child
            elif id(child) not in seen:
                seen.add(id(child))
                queue.append((where, child))
    return found


def callables(reply: Reply) -> None:
    import tensorflow as tf

    if not hasattr(tf.Module(), "_trackable_children"):
        raise Impossible("not written for this TensorFlow")
    sets = tag_sets(reply.directory)
    if len(sets) > 1 or not meta_graphs(reply.directory)[0].HasField("object_graph_def"):
        raise Impossible("no objects")
    loaded = tf.saved_model.load(reply.directory)
    state = State()
    for path, function in functions_of(loaded).items():
        for concrete in getattr(function, "concrete_functions", [function]):
            captured = list(concrete.captured_inputs)
            given = concrete.inputs[: len(concrete.inputs) - len(captured)]
            signature = json.dumps(str(concrete.structured_input_signature))
            name = f"{path} {zlib.crc32(signature.encode()):08x}"
            name += "+" * sum(other.rstrip("+") == name for other in (*reply.outputs, *reply.failed))
            names = [f"{number}-{one.name.split(':')[0]}" for number, one in enumerate(given)]
            specs = {key: tensor_spec(one) for key, one in zip(names, given)}

            def run(
                values: dict[str, Any], concrete: Any = concrete, names: Any = names, specs: Any = specs
            ) -> dict[str, Any]:
                arguments = [tensor(values[key], specs[key][0]) for key in names]
                given = list(concrete.captured_inputs)
                found, after = state.seeded(lambda: concrete._call_flat(arguments, given), given)
                return {**flat(found), **after}

            reply.call(name, specs, run)
    if not reply.outputs and not reply.failed:
        raise Impossible("no functions")


def fetched(info: Any, get: Callable[[str], Any]) -> list[Any]:
    """Return the tensors behind a TensorInfo."""
    if info.HasField("coo_sparse"):
        sparse = info.coo_sparse
        return [
            get(name)
            for name in (sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name)
        ]
    if info.HasField("composite_tensor"):
        return [get(one.name) for one in info.composite_tensor.components]
    return [get(info.name)]


def signatures_of(reply: Reply) -> Iterator[tuple[str, list[str], Any]]:
    """Yield name, tags and definition of every signature."""
    graphs = meta_graphs(reply.directory)
    for graph in graphs:
        tags = sorted(graph.meta_info_def.tags)
        for name in sorted(graph.signature_def):
            if name not in SPECIAL:
                yield named(tags, name), tags, graph.signature_def[name]


def session(reply: Reply) -> None:
    import tensorflow as tf

    tf1 = tf.compat.v1
    none = True
    for call, tags, signature in signatures_of(reply):
        none = False
        specs = {key: info_spec(info) for key, info in signature.inputs.items()}

        def run(
            values: dict[str, Any], tags: Any = tags, signature: Any = signature, specs: Any = specs
        ) -> dict[str, Any]:
            # A signature may train: a session for each run.
            with tf.Graph().as_default() as graph, tf1.Session(graph=graph) as opened:
                tf1.set_random_seed(11)
                tf1.saved_model.load(opened, tags, reply.directory)
                get = graph.get_tensor_by_name
                feed = {
                    get(signature.inputs[key].name): value
                    for key, value in values.items()
                    if signature.inputs[key].name
                }
                parts = {
                    f"{key}/{number}": one
                    for key, info in signature.outputs.items()
                    for number, one in enumerate(fetched(info, get))
                }
                return dict(zip(parts, opened.run(list(parts.values()), feed)))

        reply.call(call, specs, run)
    if none:
        raise Impossible("no signatures")


def load_model(reply: Reply) -> None:
    import tensorflow as tf

    keras = tf.keras
    version = getattr(keras, "__version__", "2")
    if version.startswith("3"):
        raise Impossible("Keras 3 loads no SavedModel")
    nodes = meta_graphs(reply.directory)[0].object_graph_def.nodes
    if not nodes or not nodes[0].user_object.identifier.startswith("_tf_keras_"):
        raise Impossible("no Keras model of Keras 2")
    model = keras.models.load_model(reply.directory, compile=False)
    state = State()
    spec = model.save_spec() if hasattr(model, "save_spec") else model._saved_model_inputs_spec
    arguments = spec[0][0] if isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[1], dict) else spec
    leaves = tf.nest.flatten(arguments)
    specs = {f"x{number}": tensor_spec(one) for number, one in enumerate(leaves)}

    def run(values: dict[str, Any]) -> dict[str, Any]:
        given = [tensor(values[key], specs[key][0]) for key in specs]
        return flat(state.seeded(lambda: model(tf.nest.pack_sequence_as(arguments, given), training=False))[0])

    reply.call("model", specs, run)
    # Keras counts a vocabulary among the weights, which is none.
    arrays = [one for one in model.weights if hasattr(one, "numpy")]
    weights = {f"{number:04d} {one.name}": one.numpy() for number, one in enumerate(arrays)}
    reply.call("weights", {}, lambda _: weights)


def tflite(reply: Reply) -> None:
    import tensorflow as tf

    lite = tf.lite
    if not hasattr(lite.TFLiteConverter, "from_saved_model") or not hasattr(lite.Interpreter, "get_signature_runner"):
        raise Impossible("not written for this TensorFlow")
    none = True
    for call, tags, signature in signatures_of(reply):
        none = False
        name = call.rpartition(":")[2]
        specs = {key: info_spec(info) for key, info in signature.inputs.items()}
        made_once: list[Any] = []

        def run(
            values: dict[str, Any], name: Any = name, tags: Any = tags, made_once: Any = made_once
        ) -> dict[str, Any]:
            if not made_once:
                converter = lite.TFLiteConverter.from_saved_model(
                    reply.directory, signature_keys=[name], tags=set(tags)
                )
                converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS, lite.OpsSet.SELECT_TF_OPS]
                converter.allow_custom_ops = False
                made_once.append(converter.convert())
            interpreter = lite.Interpreter(model_content=made_once[0], num_threads=1)
            runner = interpreter.get_signature_runner(name)
            return dict(runner(**values))

        reply.call(call, specs, run, twice=False)
    if none:
        raise Impossible("no signatures")


LOADERS_OF_CHILD: dict[str, Callable[[Reply], None]] = {
    "v2": v2,
    "callables": callables,
    "session": session,
    "load_model": load_model,
    "tflite": tflite,
}


def loads(name: str) -> Callable[[Callable[[Reply], None]], Callable[[Reply], None]]:
    def register(function: Callable[[Reply], None]) -> Callable[[Reply], None]:
        LOADERS_OF_CHILD[name] = function
        return function

    return register


# ---------------------------------------------------------------------------------------------------------------------
# The child. The C++ loader, through the C API of the installed library: no Python of TensorFlow in between.


class CBuffer(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("free", ctypes.c_void_p)]


class COutput(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


def c_library() -> Any:
    """Load the library that holds the C API, which has moved between versions."""
    import tensorflow as tf

    root = os.path.dirname(tf.__file__)
    for pattern in (
        "libtensorflow_cc.*",
        "python/_pywrap_tensorflow_internal.*",
        "../tensorflow_core/python/_pywrap_tensorflow_internal.*",
    ):
        for path in sorted(glob.glob(os.path.join(root, pattern))):
            library = ctypes.CDLL(path)
            if hasattr(library, "TF_LoadSessionFromSavedModel"):
                break
        else:
            continue
        break
    else:
        raise Impossible("no library with TF_LoadSessionFromSavedModel")
    pointer = ctypes.c_void_p
    makers = ("TF_NewGraph", "TF_NewSessionOptions", "TF_NewStatus", "TF_LoadSessionFromSavedModel")
    for function in (*makers, "TF_GraphOperationByName", "TF_AllocateTensor", "TF_TensorData"):
        getattr(library, function).restype = pointer
    library.TF_NewBuffer.restype = ctypes.POINTER(CBuffer)
    library.TF_Message.restype = ctypes.c_char_p
    library.TF_GetCode.restype = ctypes.c_int
    library.TF_Dim.restype = ctypes.c_int64
    library.TF_TensorByteSize.restype = ctypes.c_size_t
    library.TF_AllocateTensor.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_int64), ctypes.c_int, ctypes.c_size_t]
    for function in ("TF_TensorData", "TF_TensorType", "TF_NumDims", "TF_TensorByteSize", "TF_GetCode", "TF_Message"):
        getattr(library, function).argtypes = [pointer]
    library.TF_Dim.argtypes = [pointer, ctypes.c_int]
    library.TF_GraphOperationByName.argtypes = [pointer, ctypes.c_char_p]
    library.TF_LoadSessionFromSavedModel.argtypes = [
        pointer, pointer, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, pointer,
        ctypes.POINTER(CBuffer), pointer,
    ]  # fmt: skip
    library.TF_SessionRun.argtypes = [
        pointer, pointer, ctypes.POINTER(COutput), ctypes.POINTER(pointer), ctypes.c_int, ctypes.POINTER(COutput),
        ctypes.POINTER(pointer), ctypes.c_int, pointer, ctypes.c_int, pointer, pointer,
    ]  # fmt: skip
    return library


class CSession:
    """A session of the C++ loader."""

    def __init__(self, directory: str, tags: list[str]) -> None:
        self.c = c_library()
        self.status = self.c.TF_NewStatus()
        self.graph = self.c.TF_NewGraph()
        self.meta = self.c.TF_NewBuffer()
        names = (ctypes.c_char_p * len(tags))(*[tag.encode() for tag in tags])
        options = self.c.TF_NewSessionOptions()
        self.session = self.c.TF_LoadSessionFromSavedModel(
            options, None, os.fsencode(directory), names, len(tags), self.graph, self.meta, self.status
        )
        self.check()

    def check(self) -> None:
        code = self.c.TF_GetCode(self.status)
        if code:
            raise RuntimeError(f"code {code}: {self.c.TF_Message(self.status).decode('utf-8', 'replace')}")

    def signatures(self) -> Any:
        """Return the signatures as the loader itself has them."""
        from tensorflow.core.protobuf import meta_graph_pb2

        graph = meta_graph_pb2.MetaGraphDef()
        graph.ParseFromString(ctypes.string_at(self.meta.contents.data, self.meta.contents.length))
        return graph.signature_def

    def output(self, name: str) -> COutput:
        operation, _, index = name.partition(":")
        found = self.c.TF_GraphOperationByName(self.graph, operation.encode())
        if not found:
            raise KeyError(f"no operation {operation}")
        return COutput(found, int(index or 0))

    def tensor(self, value: Any, dtype: str) -> Any:
        import tensorflow as tf

        shape = (ctypes.c_int64 * max(1, value.ndim))(*value.shape)
        if dtype == "string":
            texts = [one if isinstance(one, bytes) else str(one).encode() for one in value.ravel().tolist()]
            data, self.texts = b"", getattr(self, "texts", [])
            for text in texts:
                if len(text) <= 22:  # within the 24 bytes of the string itself
                    data += (bytes([len(text) << 2]) + text).ljust(24, b"\0")
                else:  # a view of bytes that stay ours
                    kept = ctypes.create_string_buffer(text, len(text))
                    self.texts.append(kept)
                    data += struct.pack("<QQ8x", len(text) << 2 | 3, ctypes.addressof(kept))
        else:
            data = value.tobytes()
        number = tf.as_dtype(dtype).as_datatype_enum
        made_tensor = self.c.TF_AllocateTensor(number, shape, value.ndim, len(data))
        ctypes.memmove(self.c.TF_TensorData(made_tensor), data, len(data))
        return made_tensor

    def value(self, found: Any) -> Any:
        import numpy as np
        import tensorflow as tf

        shape = [self.c.TF_Dim(found, number) for number in range(self.c.TF_NumDims(found))]
        start, size = self.c.TF_TensorData(found), self.c.TF_TensorByteSize(found)
        dtype = tf.as_dtype(self.c.TF_TensorType(found))
        if dtype != tf.string:
            return np.frombuffer(ctypes.string_at(start, size) if size else b"", dtype.as_numpy_dtype).reshape(shape)
        texts = []
        for at in range(start, start + size, 24):
            raw = ctypes.string_at(at, 24)
            kind = raw[0] & 3
            if kind == 0:
                texts.append(raw[1 : 1 + (raw[0] >> 2)])
            elif kind == 2:
                length, offset = struct.unpack_from("<II", raw)
                texts.append(ctypes.string_at(at + offset, length >> 2))
            else:
                length, place = struct.unpack_from("<QQ", raw, 0) if kind == 3 else struct.unpack_from("<Q8xQ", raw)
                texts.append(ctypes.string_at(place, length >> 2))
        return np.array(texts, object).reshape(shape)

    def run(self, feeds: list[tuple[str, Any, str]], names: list[str]) -> list[Any]:
        pointer = ctypes.c_void_p
        ins = (COutput * max(1, len(feeds)))(*[self.output(name) for name, _, _ in feeds])
        values = (pointer * max(1, len(feeds)))(*[self.tensor(value, dtype) for _, value, dtype in feeds])
        outs = (COutput * len(names))(*[self.output(name) for name in names])
        found = (pointer * len(names))()
        self.c.TF_SessionRun(
            self.session, None, ins, values, len(feeds), outs, found, len(names), None, 0, None, self.status
        )
        self.check()
        return [self.value(one) for one in found]


@loads("c++")
def cpp(reply: Reply) -> None:
    import tensorflow as tf

    if tf.__version__.startswith("1."):
        raise Impossible("strings lie otherwise in this TensorFlow")
    none = True
    for call, tags, signature in signatures_of(reply):
        none = False
        specs = {key: info_spec(info) for key, info in signature.inputs.items()}

        def run(values: dict[str, Any], call: Any = call, tags: Any = tags, specs: Any = specs) -> dict[str, Any]:
            opened = CSession(reply.directory, tags)
            mine = opened.signatures()[call.rpartition(":")[2]]
            parts = {
                f"{key}/{number}": one
                for key, info in mine.outputs.items()
                for number, one in enumerate(fetched(info, lambda name: name))
            }
            feeds = [
                (mine.inputs[key].name, value, specs[key][0]) for key, value in values.items() if mine.inputs[key].name
            ]
            return dict(zip(parts, opened.run(feeds, list(parts.values()))))

        reply.call(call, specs, run)
    if none:
        raise Impossible("no signatures")


# ---------------------------------------------------------------------------------------------------------------------
# The child. Jobs


def answer(job: dict[str, Any]) -> None:
    reply = Reply(job)
    error, impossible = "", False
    try:
        LOADERS_OF_CHILD[job["loader"]](reply)
    except Impossible as caught:
        error, impossible = str(caught), True
    except Exception as caught:  # noqa: BLE001 - whatever it is, it is the answer
        error = brief(caught)
        if os.environ.get("TFSTRIP_TRACE"):
            traceback.print_exc()
    found = {"error": error, "impossible": impossible, "outputs": reply.outputs, "failed": reply.failed}
    with open(job["reply"], "w", encoding="utf-8") as file:
        json.dump({**found, "unsteady": reply.unsteady}, file)


def serve() -> None:
    """Answer the jobs that come in, one to a line, each in a process of its own."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import tensorflow as tf

    if tf.__version__.startswith("1."):
        tf.compat.v1.enable_eager_execution()
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            code = 1
            try:
                if hasattr(tf.config, "threading"):
                    tf.config.threading.set_inter_op_parallelism_threads(1)
                    tf.config.threading.set_intra_op_parallelism_threads(1)
                answer(job)
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        answers.write(f"{wait(child, job.get('seconds', SECONDS))}\n")
        answers.flush()


def wait(child: int, seconds: float) -> str:
    end = time.monotonic() + seconds
    pause = 0.005
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            number = status & 127
            return f"signal {number}" if number else str(status >> 8)
        time.sleep(pause)
        pause = min(0.1, pause * 1.5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return f"no end after {seconds} s"


if __name__ == "__main__":
    serve()
