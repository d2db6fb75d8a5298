"""Measure what DESIGN promises, everything side by side in one run, and write benchmarks/RESULTS.md.

Run it as `make bench`. Whole processes are timed, two commands in turn, and medians of their ratios are reported:
a machine's speed drifts, a ratio taken pair by pair does not. It needs about 12 GB of disk in the temporary directory.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tree import plant
from ways import MAKE, MAKE_KERAS2, WAYS

HERE = Path(__file__).parent
PYTHON = sys.executable
TFSTRIP = [PYTHON, "-m", "tfstrip_core"]
QUIET = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

NAMES = {
    "keras": ".keras",
    "h5": ".h5",
    "ckpt": "checkpoint",
    "saved": "SavedModel of Keras 3",
    "export": "Model.export of Keras 3",
    "keras2": "SavedModel of Keras 2",
}
# For each form: times a copy of the result, and times faster than the framework.
STRIPS = (
    ("keras", 2.5, 8),
    ("h5", 2.0, 12),
    ("ckpt", 2.0, 12),
    ("saved", 2.0, 12),
    ("export", 2.5, 12),
    ("keras2", 2.0, 12),
)


@dataclass(frozen=True)
class Run:
    """One finished process: wall-clock seconds and the peak of its memory in MB."""

    seconds: float
    memory: float


def run(command: Sequence[str], expect: Sequence[int] = (0,)) -> Run:
    """Run a command and return what the operating system says of it."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=QUIET)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in expect:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return Run(seconds, usage.ru_maxrss / 1024)


def in_turn(left: Callable[[], Run], right: Callable[[], Run], times: int) -> tuple[list[Run], list[Run]]:
    """Run two things in turn, after one uncounted round of each."""
    left(), right()
    pairs = [(left(), right()) for _ in range(times)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def seconds(runs: Sequence[Run]) -> float:
    return statistics.median(item.seconds for item in runs)


def ratio(left: Sequence[Run], right: Sequence[Run]) -> float:
    return statistics.median(a.seconds / b.seconds for a, b in zip(left, right, strict=True))


def memory(runs: Sequence[Run]) -> float:
    return max(item.memory for item in runs)


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, the figure to reach, and what was reached."""

    what: str
    goal: str
    reached: str
    good: bool


def check_rows(folder: Path) -> list[Row]:
    rows = []
    for form, called in NAMES.items():
        big, small = ([*TFSTRIP, "check", str(folder / f"{name}.{form}")] for name in ("big", "small"))
        a, b = in_turn(lambda: run(big, (0, 1)), lambda: run(small, (0, 1)), 15)  # noqa: B023 - called at once
        rows.append(Row(f"check {called}, 900 MB / 70 KB", "at most 1.1", f"{ratio(a, b):.2f}", ratio(a, b) <= 1.1))
        if form not in ("keras", "h5"):
            continue
        bare = [PYTHON, "-c", "import h5py"]
        a, b = in_turn(lambda: run(small, (1,)), lambda: run(bare), 15)  # noqa: B023
        rows.append(
            Row(
                f"check .{form}, whole process / `import h5py`", "at most 1.6", f"{ratio(a, b):.2f}", ratio(a, b) <= 1.6
            )
        )
    for name, expect, limit in (("models", (1,), 3.0), ("others", (0,), 0.1)):
        many, one = ([*TFSTRIP, "check", str(folder / which)] for which in (name, f"{name}-1"))
        a, b = in_turn(lambda: run(many, expect), lambda: run(one, expect), 5)  # noqa: B023
        each = (seconds(a) - seconds(b)) / 999 * 1000
        what = "1,000 small models in one check" if name == "models" else "a file that is no model, of 1,000"
        rows.append(Row(what, f"at most {limit} ms each", f"{each:.2f} ms", each <= limit))
    files = plant(folder / "tree", [folder / f"small.{form}" for form in NAMES])
    whole = [run([*TFSTRIP, "check", str(folder / "tree")], (1,)) for _ in range(6)][1:]
    what = f"a repository of {files:,} files, 100 models among them, whole process"
    rows.append(Row(what, "at most 2.0 s", f"{seconds(whole):.2f} s", seconds(whole) <= 2.0))
    return rows


def strip_rows(folder: Path) -> list[Row]:
    rows = []
    for form, limit, faster in STRIPS:
        big, small, kept, out = (folder / f"{name}.{form}" for name in ("big", "small", "kept", "out"))
        run([*TFSTRIP, "strip", str(big), "-o", str(kept), "--force"])
        strip = [*TFSTRIP, "strip", str(big), "-o", str(out), "--force"]
        start_up = [*TFSTRIP, "strip", str(small), "-o", str(out), "--force"]
        data = max(files(kept), key=lambda path: path.stat().st_size)
        copy = ["sh", "-c", 'rm -f "$2"; cp "$1" "$2" && sync "$2"', "cp", str(data), str(folder / "copy")]
        nothing = seconds([run(start_up) for _ in range(5)])
        a, b = in_turn(lambda: run(strip), lambda: run(copy), 7)  # noqa: B023
        share = statistics.median((x.seconds - nothing) / y.seconds for x, y in zip(a, b, strict=True))
        what = f"strip {NAMES[form]}, {size(big)} -> {size(kept)}, start-up off / cp and sync of the result"
        rows.append(Row(what, f"at most {limit}", f"{share:.2f} ({seconds(a) - nothing:.2f} s)", share <= limit))
        rows.append(Row(f"strip {NAMES[form]}, peak memory", "at most 96 MB", f"{memory(a):.0f} MB", memory(a) <= 96))
        for name, script in WAYS[form]:
            made = folder / f"theirs.{form}"
            theirs = [run([PYTHON, "-c", script, str(big), str(made)]) for _ in range(2)]
            times, spared = seconds(theirs) / seconds(a), memory(theirs) / memory(a)
            good = times >= faster and spared >= 12
            reached = f"{times:.1f} times ({seconds(theirs):.1f} s), 1/{spared:.0f} ({memory(theirs):.0f} MB)"
            what = f"strip {NAMES[form]}, whole process, against: {name}"
            rows.append(Row(what, f"{faster} times faster, 1/12 of the memory", reached, good))
            if files(made):
                share = total(files(kept)) / total(files(made))
                rows.append(
                    Row(f"size of the result / of what that wrote ({name})", "at most 1", f"{share:.4f}", share <= 1)
                )
    for form, whose, limit in (("saved", "the rebuilt model, tf.saved_model.save", 1), ("saved", "Model.export", 0.51)):
        theirs = folder / ("theirs.keras" if limit == 1 else "big.export")
        share = total(files(folder / f"kept.{form}")) / total(files(theirs))
        rows.append(
            Row(f"size of {NAMES[form]}, stripped / {whose}", f"at most {limit}", f"{share:.4f}", share <= limit)
        )
    return rows


def files(path: Path) -> list[Path]:
    """Return the files of a model: itself, those in its directory, or those of a checkpoint's prefix."""
    if path.is_dir():
        return [inner for inner in path.rglob("*") if inner.is_file()]
    return [path] if path.is_file() else sorted(path.parent.glob(f"{path.name}.*"))


def total(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def size(path: Path) -> str:
    return f"{total(files(path)) / 1e6:.0f} MB"


def make_models(folder: Path) -> None:
    run([PYTHON, "-c", MAKE, str(folder)])
    run([PYTHON, "-c", MAKE_KERAS2, str(folder)])
    for name, source, count in (("models", folder / "small.keras", 1000), ("others", HERE / "run.py", 1000)):
        for many, number in ((name, count), (f"{name}-1", 1)):
            (folder / many).mkdir()
            content = source.read_bytes()
            for place in range(number):
                (folder / many / f"{place:04}.bin").write_bytes(content)


def report(rows: Sequence[Row]) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("h5py", "numpy", "isal", "keras"))
    lines = [
        "# Figures",
        "",
        "Made by `make bench`: whole processes in turn, medians of the ratios pair by pair, warm page cache.",
        "",
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, CPython {platform.python_version()},",
        f"{versions}.",
        "",
        "| what | figure to reach | reached | |",
        "|---|---|---|---|",
        *(f"| {row.what} | {row.goal} | {row.reached} | {'yes' if row.good else '**no**'} |" for row in rows),
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure, write the table; return 1 if a figure was missed."""
    with tempfile.TemporaryDirectory(prefix="tfstrip-bench-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        make_models(folder)
        rows = [*check_rows(folder), *strip_rows(folder)]
    text = report(rows)
    (HERE / "RESULTS.md").write_text(text)
    print(text)
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
