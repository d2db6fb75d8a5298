"""A model of 3 GiB through the Action's door: stripped, split, attached, joined. Slow: make big-release.

Prints what it took; fails where a digest differs or where the job needed more memory than any size may.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
from conftest import one
from github_server import GitHub

from tfstrip_core.release import checksums

ROOT = Path(__file__).parents[1]
GIB = 3
MEMORY = 96.0  # MB
# The entry point in a process of its own, which tells the most memory that it ever held.
CHILD = f"""
import re, runpy, sys
try:
    runpy.run_path({str(ROOT / "entrypoint.py")!r}, run_name="__main__")
finally:
    status = open("/proc/self/status").read()
    print("peak", re.search(r"VmHWM:\\s+(\\d+) kB", status)[1], file=sys.stderr)
"""


def make(path: Path) -> None:
    """Write a model with optimizer state, one of whose kernels has 3 GiB, nearly all of it a hole in the file."""
    shutil.copy(one("tf2.15", "sequential.h5").path, path)
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        weights = file["model_weights"]
        weights.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        kernel = next(name for name in names if "kernel" in name)
        del weights[kernel]
        rows = (GIB << 30) // 4096
        big = weights.create_dataset(kernel, shape=(rows, 1024), dtype="f4")
        for row in range(0, rows, rows // 64):
            big[row, :16] = row


def main() -> int:
    """Run it; return 0 if all is right."""
    folder = Path(tempfile.mkdtemp(prefix="tfstrip-big-", dir=os.environ.get("TMPDIR")))
    try:
        return attach_and_join(folder)
    finally:
        shutil.rmtree(folder)


def attach_and_join(folder: Path) -> int:
    """Attach the model of a work tree made in `folder`, and join what the release holds then."""
    work, download = folder / "work", folder / "download"
    (work / "models").mkdir(parents=True)
    download.mkdir()
    make(work / "models" / "big.h5")
    with GitHub() as hub:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("INPUT_", "GITHUB_"))}
        environment |= {"GITHUB_API_URL": hub.url, "GITHUB_REPOSITORY": "acme/models", "INPUT_TOKEN": hub.token}
        environment |= {
            "GITHUB_SHA": hub.branches["main"],
            "INPUT_MODELS": "models/*.h5",
            "INPUT_PROVE": "bytes",
            "INPUT_TAG": "v1",
        }
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", CHILD], cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        took = time.monotonic() - begun
        print(done.stdout, done.stderr)
        if done.returncode:
            return 1
        peak = int(done.stderr.split()[-1]) / 1024
        whole = checksums.sha256(str(work / "dist" / "big.h5"))
        shutil.rmtree(work)
        (release,) = hub.releases
        for asset in release.assets:
            shutil.move(asset.path, download / asset.name)
    (entry,) = json.loads((download / "manifest.json").read_text())["artifacts"]
    subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=download, check=True)
    subprocess.run(["sh", "-euc", entry["join"]], cwd=download, check=True)
    joined = checksums.sha256(str(download / "big.h5"))
    sizes = [part["bytes"] for part in entry["parts"]]
    print(f"{sum(sizes):,} bytes in parts of {sizes}, {took:.0f} s, peak memory {peak:.1f} MB")
    right = joined == whole == entry["sha256"] and len(sizes) == 2 and not release.draft
    right = right and entry["bytes_after"] < entry["bytes_before"] and peak <= MEMORY
    print("right" if right else "WRONG")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
