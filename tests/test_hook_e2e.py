"""The hooks under the real pre-commit and the real git-lfs, from an environment that pre-commit built itself."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import need, one

from tfstrip_core.verbs.check import check

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parent.parent
DIRTY = one("keras3.8.0", "sequential.keras")
DIRTY_H5 = one("keras3.8.0", "sequential.h5")
CLEAN = one("keras3.8.0", "sequential_uncompiled.keras")

LFS = [
    f"--config=filter.lfs.{key}={value}"
    for key, value in {
        "clean": "git-lfs clean -- %f", "smudge": "git-lfs smudge -- %f", "process": "git-lfs filter-process",
        "required": "true",
    }.items()
]  # fmt: skip


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which nobody's git, pre-commit or Python settings are at work."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "PYTHON", "PRE_COMMIT"))}
    user = Path.home() / ".config" / "pip" / "pip.conf"  # where this user's package index is named, if anywhere
    return kept | ({"PIP_CONFIG_FILE": str(user)} if user.is_file() else {}) | {
        "HOME": str(home), "PRE_COMMIT_HOME": str(home / "pre-commit"), "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
    }  # fmt: skip


class Repository:
    """A scratch repository with these hooks; `git` and `hooks` run in it and return exit code and all output."""

    def __init__(self, path: Path, source: Path, env: dict[str, str]) -> None:
        self.path, self.source, self.env = path, source, env
        path.mkdir(exist_ok=True)

    def configure(self, *ids: str, extra: str = "") -> None:
        hooks = "".join(f"      - id: {name}\n{extra}" for name in ids)
        config = f"repos:\n  - repo: {self.source}\n    rev: HEAD\n    hooks:\n{hooks}"
        (self.path / ".pre-commit-config.yaml").write_text(config, encoding="utf-8")
        self.git("init", "-q")
        self.git("add", ".pre-commit-config.yaml")
        assert self.pre_commit("install")[0] == 0

    def run(self, *words: str, **env: str) -> tuple[int, str]:
        done = subprocess.run(
            words, cwd=self.path, env=self.env | env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout.decode("utf-8", "surrogateescape")

    def git(self, *words: str, **env: str) -> str:
        code, out = self.run("git", *words, **env)
        assert code == 0, out
        return out

    def commit(self) -> tuple[int, str]:
        return self.run("git", "commit", "-m", "one")

    def pre_commit(self, *words: str) -> tuple[int, str]:
        return self.run(sys.executable, "-m", "pre_commit", *words)

    def put(self, model, name: str) -> Path:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(model.path, target))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """Commit the tree as it is now to a repository of its own, and let pre-commit build its environment from it."""
    need("git")
    if importlib.util.find_spec("pre_commit") is None:
        need("pre-commit of this Python")
    home = tmp_path_factory.mktemp("home")
    env = environment(home)
    source = Repository(tmp_path_factory.mktemp("source") / "tfstrip", Path(), env)
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-coz", "--exclude-standard"], capture_output=True, check=True
    ).stdout
    for name in filter(None, os.fsdecode(listed).split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "benchmarks/")):
            (source.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source.path / name)
    source.git("init", "-q")
    source.git("add", "-A")
    source.git("commit", "-qm", "now")
    first = Repository(tmp_path_factory.mktemp("first"), source.path, env)
    first.configure("tfstrip-check", "tfstrip-fix")
    code, out = first.pre_commit("install-hooks")
    assert code == 0, out
    return source.path, env


@pytest.fixture
def repository(made, tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository", *made)


def test_a_commit_of_a_model_with_its_optimizer_is_refused(repository: Repository) -> None:
    """The reason why the hook exists: nothing is committed, and the message says what it is and what to do."""
    repository.configure("tfstrip-check")
    repository.put(DIRTY, "models/m.keras")
    repository.git("add", ".")
    code, out = repository.commit()
    assert code == 1, out
    assert "models/m.keras: TFS101 optimizer-state: optimizer: 420 bytes" in out
    assert "fix: tfstrip strip --in-place models/m.keras" in out
    assert repository.run("git", "rev-parse", "-q", "--verify", "HEAD")[0] == 1
    assert (repository.path / "models/m.keras").read_bytes() == Path(DIRTY.path).read_bytes()


def test_fix_changes_the_file_and_the_next_commit_passes(repository: Repository) -> None:
    """The fixer fails once, adds nothing to the index by itself, and says how to get the old file back."""
    repository.configure("tfstrip-fix")
    path = repository.put(DIRTY, "models/m.keras")
    repository.git("add", ".")
    staged = repository.git("ls-files", "-s")
    code, out = repository.commit()
    assert code == 1, out
    assert "files were modified by this hook" in out
    assert f"models/m.keras: {os.path.getsize(DIRTY.path):,} -> {path.stat().st_size:,} bytes" in out
    assert re.search(r"the old one comes back with git .*restore -- .*m\.keras$", out, re.MULTILINE)
    assert repository.git("ls-files", "-s") == staged
    assert check([str(path)]).exit_code == 0
    repository.git("add", ".")
    code, out = repository.commit()
    assert code == 0, out
    assert repository.git("status", "--porcelain") == ""
    assert os.listdir(path.parent) == ["m.keras"]


def test_what_is_clean_passes(repository: Repository) -> None:
    """Models without state, pictures, scientific HDF5, text: no output to speak of and a commit."""
    repository.configure("tfstrip-check", "tfstrip-fix")
    repository.put(CLEAN, "m.keras")
    (repository.path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500))
    (repository.path / "code.py").write_text("optimizer = None\n", encoding="utf-8")
    with h5py.File(repository.path / "science.h5", "w") as file:
        file["data"] = [1.0]
    repository.git("add", ".")
    code, out = repository.commit()
    assert code == 0, out
    assert out.count("Passed") == 2
    assert "TFS" not in out


ODD_NAMES = ["two words.keras", "-o.keras", "new\nline.keras", "日本.keras", "check", "*.keras", "--help", "-/--"]


@pytest.mark.parametrize("name", ["tfstrip-check", "tfstrip-fix"])
def test_odd_names_reach_the_hook(name: str, repository: Repository) -> None:
    """Whatever pre-commit passes on its command line is taken for the file that it is."""
    repository.configure(name)
    paths = [str(repository.put(DIRTY, odd)) for odd in ODD_NAMES]
    repository.git("add", "-A")
    code, out = repository.commit()
    assert code == 1, out
    for odd in ODD_NAMES:
        assert "\n{}: {}".format(odd.replace("\n", "\\n"), "TFS101" if name == "tfstrip-check" else "21,") in out
    assert check(paths).exit_code == (1 if name == "tfstrip-check" else 0)


def test_a_name_like_our_option_does_not_hide_a_model(repository: Repository) -> None:
    """pre-commit puts the names right behind our words."""
    repository.configure("tfstrip-check")
    repository.put(DIRTY, "--require-lfs")
    repository.git("add", "-A")
    assert repository.commit()[0] == 1


def test_a_name_that_is_not_utf_8_is_never_committed_unseen(repository: Repository) -> None:
    """Today's pre-commit itself gives up on such a name; if it learns to pass it, the hook must refuse the model."""
    repository.configure("tfstrip-check")
    repository.put(DIRTY, os.fsdecode(b"caf\xe9.keras"))
    repository.git("add", "-A")
    code, out = repository.commit()
    assert code != 0, out
    assert "TFS101" in out or "UnicodeDecodeError" in out


def test_a_thousand_files_in_one_call(repository: Repository) -> None:
    """A first commit of everything: one process looks at all of it and finds the one that is bad."""
    repository.configure("tfstrip-check")
    for number in range(999):
        repository.put(CLEAN, f"models/{number}.keras")
    repository.put(DIRTY, "models/bad.keras")
    repository.git("add", ".")
    code, out = repository.commit()
    assert code == 1, out
    assert re.findall(r"^(\S+): TFS", out, re.MULTILINE) == ["models/bad.keras"]
    assert "1000 models checked: 1 with residue" in out


def test_both_hooks_at_once(repository: Repository) -> None:
    """Check refuses, fix mends, in one run; with the files added again both pass."""
    repository.configure("tfstrip-check", "tfstrip-fix")
    names = ["a.keras", "models/b.h5", "models/deep/c.keras"]
    for model, name in zip((DIRTY, DIRTY_H5, DIRTY), names, strict=True):
        repository.put(model, name)
    repository.put(CLEAN, "models/clean.keras")
    repository.git("add", ".")
    code, out = repository.commit()
    assert code == 1, out
    assert out.count("Failed") == 2
    assert re.findall(r"^(\S+): TFS101", out, re.MULTILINE) == names
    assert re.findall(r"^(\S+): [\d,]+ -> ", out, re.MULTILINE) == names
    repository.git("add", ".")
    code, out = repository.commit()
    assert code == 0, out
    assert out.count("Passed") == 2


def test_a_folder_named_in_args_is_walked(repository: Repository) -> None:
    """`pass_filenames: false` with a folder checks all of it at every commit, whatever is staged."""
    extra = "        args: [models]\n        pass_filenames: false\n        always_run: true\n"
    repository.configure("tfstrip-check", extra=extra)
    repository.put(DIRTY, "models/deep/m.keras")
    (repository.path / ".gitignore").write_text("models\n", encoding="utf-8")
    repository.git("add", ".")
    code, out = repository.commit()
    assert code == 1, out
    assert "models/deep/m.keras: TFS101" in out


def test_two_runs_at_once_leave_a_whole_and_clean_file(repository: Repository) -> None:
    """An editor and a terminal commit at the same moment: whoever comes second finds a whole file."""
    repository.configure("tfstrip-fix")
    path = repository.put(DIRTY_H5, "m.h5")
    with h5py.File(path, "r+") as file:  # large enough that the two overlap
        file["model_weights"].create_dataset("more", data=np.arange(4_000_000, dtype="f4"))
        file["optimizer_weights"].create_dataset("more", data=np.ones(4_000_000, dtype="f4"))
    repository.git("add", ".")
    words = [sys.executable, "-m", "pre_commit", "run", "--files", "m.h5"]
    both = [
        subprocess.Popen(words, cwd=repository.path, env=repository.env, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert {process.returncode for process in both} <= {0, 1}, said
    assert 1 in {process.returncode for process in both}
    assert sorted(os.listdir(repository.path)) == [".git", ".pre-commit-config.yaml", "m.h5"]
    assert check([str(path)]).exit_code == 0, said
    with h5py.File(path) as file:
        assert (file["model_weights/more"][()] == np.arange(4_000_000, dtype="f4")).all()
        assert "optimizer_weights" not in file
    code, out = repository.pre_commit("run", "--files", "m.h5")
    assert code == 0, out


def test_symlinks_and_pointers_are_not_passed(repository: Repository) -> None:
    """What `types: [binary]` leaves out costs nothing; the hook would skip the one and note the other."""
    repository.configure("tfstrip-check")
    repository.put(DIRTY, "store/m.keras")
    (repository.path / ".gitignore").write_text("store\n", encoding="utf-8")
    os.symlink("store/m.keras", repository.path / "link.keras")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
    (repository.path / "pointer.keras").write_text(pointer, encoding="utf-8")
    repository.git("add", ".")
    code, out = repository.commit()
    assert code == 0, out
    assert "no files to check" in out
    assert "link.keras" in repository.git("ls-files")


@pytest.fixture
def origin(made, tmp_path: Path) -> Path:
    """A bare repository to which a model was pushed through git-lfs."""
    need("git-lfs")
    source, env = made
    writer = Repository(tmp_path / "writer", source, env)
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "origin"], env=env, check=True)
    writer.git("clone", "-q", *LFS, str(tmp_path / "origin"), ".")
    writer.put(DIRTY, "models/m.keras")
    (writer.path / ".gitattributes").write_text("*.keras filter=lfs diff=lfs merge=lfs -text\n", encoding="utf-8")
    writer.git("add", ".")
    writer.git("commit", "-qm", "one")
    assert writer.git("show", "HEAD:models/m.keras").startswith("version https://git-lfs")
    writer.git("lfs", "push", "origin", "HEAD")
    writer.git("push", "-q", "origin", "HEAD")
    return tmp_path / "origin"


def tfstrip(repository: Repository, *words: str) -> tuple[int, list[tuple[str, str]]]:
    """Run `tfstrip check --json` there; return the exit code, and path and verdict of each model."""
    done = subprocess.run(
        [sys.executable, "-m", "tfstrip_core", "check", "--json", *words],
        cwd=repository.path, env=repository.env | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False,
    )  # fmt: skip
    models = json.loads(done.stdout)["models"]
    return done.returncode, [(model["path"], model["verdict"]) for model in models]


def test_lfs_pointers_are_judged_once_their_objects_are_there(origin: Path, made, tmp_path: Path) -> None:
    """Continuous integration without `lfs: true`: a notice, or an error if asked; fetched objects are checked."""
    clone = Repository(tmp_path / "clone", *made)
    clone.git("clone", "-q", *LFS, origin.as_uri(), ".", GIT_LFS_SKIP_SMUDGE="1")
    path = clone.path / "models" / "m.keras"
    pointer = path.read_bytes()
    assert len(pointer) < 200
    for place in ("models/m.keras", "."):
        assert tfstrip(clone, place) == (0, [("models/m.keras", "pointer")])
        assert tfstrip(clone, "--require-lfs", place) == (2, [("models/m.keras", "pointer")])
    clone.git("lfs", "fetch")
    assert path.read_bytes() == pointer
    for words in (["models/m.keras"], ["."], ["--require-lfs", "models/m.keras"]):
        assert tfstrip(clone, *words) == (1, [("models/m.keras", "residue")])
    clone.git("worktree", "add", "-q", str(tmp_path / "tree"), "HEAD", GIT_LFS_SKIP_SMUDGE="1")
    tree = Repository(tmp_path / "tree", *made)
    assert (tree.path / "models" / "m.keras").read_bytes() == pointer
    assert tfstrip(tree, "models/m.keras") == (1, [("models/m.keras", "residue")])
    clone.git("lfs", "checkout")
    assert path.read_bytes() == Path(DIRTY.path).read_bytes()
    assert tfstrip(clone, "models/m.keras") == (1, [("models/m.keras", "residue")])


def test_a_commit_through_lfs_is_refused_and_fixed(origin: Path, made, tmp_path: Path) -> None:
    """In a commit the work tree holds the real file: it is refused, mended, and its new object is committed."""
    clone = Repository(tmp_path / "clone", *made)
    clone.git("clone", "-q", *LFS, origin.as_uri(), ".")
    clone.configure("tfstrip-check", "tfstrip-fix")
    path = clone.put(DIRTY, "new.keras")
    clone.git("add", ".")
    code, out = clone.commit()
    assert code == 1, out
    assert "new.keras: TFS101" in out
    assert re.search(r"the old one comes back with git .*restore -- new\.keras$", out, re.MULTILINE)
    assert check([str(path)]).exit_code == 0
    clone.git("add", ".")
    code, out = clone.commit()
    assert code == 0, out
    assert clone.git("show", "HEAD:new.keras").startswith("version https://git-lfs")
    assert clone.git("status", "--porcelain") == ""
