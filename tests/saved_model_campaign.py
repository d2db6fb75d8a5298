"""Strip every SavedModel that a TensorFlow wrote, in both ways, and run each result beside its original.

    python saved_model_campaign.py [--loaders NAME,...] FOLDER [SCENARIO...]

FOLDER is one that fixtures/saved_models.py wrote, by whatever TensorFlow; the loaders are those of the TensorFlow at
hand. One line for each model and profile: the state under each loader, then what is wrong. Exits 1 if anything is.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "fixtures")]

from saved_model_fixtures import Model, read_models  # noqa: E402
from saved_model_proof import PROFILES, Proof  # noqa: E402
from saved_model_run import Runner  # noqa: E402

from tfstrip_core.errors import TfstripError  # noqa: E402

# Nothing that could be called, or that says what is for inference.
REFUSED = {
    ("module_nothing_callable", "inference"),
    ("module_nothing_callable", "serving"),
    ("module_no_signatures", "serving"),
    ("module_ragged", "serving"),
    ("graph_train_only", "inference"),
    ("graph_train_only", "serving"),
}


def proven(models: list[Model], runner: Runner, loaders: tuple[str, ...]) -> Iterator[tuple[str, bool, str]]:
    """Yield for each model and profile what became of it: a name, whether it is right, and the states."""
    for model in models:
        for profile in PROFILES:
            name = f"{model.id} {profile}"
            with tempfile.TemporaryDirectory() as folder:
                proof = Proof(model, profile, Path(folder, "small"))
                try:
                    wrong, states = proof.run(runner, loaders)
                except TfstripError as error:
                    yield name, (model.scenario, profile) in REFUSED, f"refused: {error}"
                    continue
                ran = [loader for loader, state in states.items() if state in ("equal", "repaired")]
                if profile == "inference" and proof.weights() and "session" in ran:
                    wrong += proof.unnoticed(runner, ran)
            yield name, not wrong, " ".join([json.dumps(states), *wrong])


def main(arguments: list[str]) -> int:
    loaders: tuple[str, ...] = ()
    if arguments[0] == "--loaders":
        loaders, arguments = tuple(arguments[1].split(",")), arguments[2:]
    folder, chosen = Path(arguments[0]), arguments[1:]
    models = [model for model in read_models(folder, folder) if not chosen or model.scenario in chosen]
    bad = 0
    start = time.monotonic()
    with Runner() as runner:
        for name, right, said in proven(models, runner, loaders):
            bad += not right
            print("ok " if right else "BAD", f"{time.monotonic() - start:5.0f}", name, said, flush=True)
    print(f"{len(models)} models, {bad} wrong", os.path.basename(sys.executable))
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
