"""The slow campaign: `python tests/fuzz.py [SECONDS] [SEED] [SAVEDMODEL...]` damages models at random for that long.

SavedModels are damaged field by field (see saved_damage.py), those made by hand and any that are named.

Prints every broken promise and crash with the case that reproduces it, and exits 1 if there was one.
"""

import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import saved_damage
from conftest import FILES
from damage import Case, case, flip, run_batch
from hostile import WEIGHTS, unpacked
from saved_made import Made

BATCH = 100


def wild(path: str, size: int, dice: random.Random, inside: bool) -> Case:
    """Return a case of one to eight bytes changed, a stretch overwritten, a cut, or a bit flipped."""
    kind = dice.randrange(8)
    if kind == 0:
        return case(path, inside=inside, cut=dice.randrange(size))
    if kind == 1:
        return case(
            path, inside=inside, fill=(dice.randrange(size), 2 ** dice.randrange(12), dice.choice((0, 255, 13)))
        )
    if kind < 4:
        edits = [[dice.randrange(size), dice.randrange(1, 256)] for _ in range(dice.randrange(1, 9))]
        return case(path, inside=inside, edits=edits)
    return flip(path, size, dice, inside)


def cases(dice: random.Random) -> list[Case]:
    """Return a batch of random cases over all fixtures."""
    made = []
    for _ in range(BATCH):
        path = dice.choice(FILES).path
        inside = path.endswith(".keras") and dice.random() < 0.7 and open(path, "rb").read(2) == b"PK"  # noqa: SIM115
        size = os.path.getsize(path)
        if inside:
            size = next(len(entry.data) for entry in unpacked(path) if entry.name == WEIGHTS)
        made.append(wild(path, size, dice, inside))
    return made


def saved_models(folder: Path) -> list[str]:
    """Write SavedModels of several kinds; return their paths."""
    made = {"plain": Made(), "train": Made(train=True), "keras": Made(optimizer="experimentalOptimizer")}
    average = made["average"] = Made()
    average.object("averages", "trackable_list_wrapper")
    average.child("optimizer", _model_variables_moving_average="averages")
    average.child("averages", **{"0": "m"})
    return [model.write(folder / name) for name, model in made.items()]


def main(seconds: float, seed: int, named: list[str]) -> int:
    """Run for so many seconds, in as many processes as there are processors; return the exit code."""
    end, seen, problems = time.monotonic() + seconds, Counter(), 0
    print(f"seed {seed}, {seconds:.0f} seconds", flush=True)

    folder = tempfile.TemporaryDirectory()
    saved = [*saved_models(Path(folder.name)), *named]

    def work(number: int) -> None:
        nonlocal problems
        dice = random.Random(f"{seed} {number}")
        batches = 0
        while time.monotonic() < end:
            batches += 1
            wild = [(dice.choice(saved), f"{seed} {number} {batches} {at}") for at in range(BATCH // 2)]
            for where, (happened, broken) in saved_damage.run_batch(wild):
                seen[f"SavedModel {happened}"] += 1
                problems += len(broken)
                for problem in broken:
                    print(f"{json.dumps([os.path.basename(where[0]), where[1]])}: {problem}", flush=True)
            for wanted, (checked, verdict, stripped, broken) in run_batch(cases(dice)):
                seen[f"check {checked} {verdict}, strip {stripped}"] += 1
                for problem in broken:
                    problems += 1
                    shown = wanted | {"path": os.path.relpath(wanted["path"], os.path.dirname(__file__))}
                    print(f"{json.dumps(shown)}: {problem}", flush=True)

    count = os.cpu_count() or 1
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work, number) for number in range(count)]:
            done.result()
    for what, number in seen.most_common():
        print(f"{number:>7} {what}")
    folder.cleanup()
    print(f"{sum(seen.values())} cases, {problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    words = [*sys.argv[1:], *("300", str(int(time.time())))[len(sys.argv) - 1 :]]
    sys.exit(main(float(words[0]), int(words[1]), words[2:]))
