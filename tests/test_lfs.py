"""Git LFS pointers: the object in the repository's own store is looked into; without one, a pointer is a pointer."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import need, one
from hostile import assert_one_sentence, in_child, judge, listing, run

MODEL = one("keras3.15.1", "sequential.keras")
DATA = Path(MODEL.path).read_bytes()
OID = hashlib.sha256(DATA).hexdigest()


def pointer(oid: str = OID, size: object = len(DATA)) -> str:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"


def store(git: Path, data: bytes = DATA, oid: str = OID) -> Path:
    """Put an object into the store of a git directory, as git-lfs does."""
    path = git / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


def git(folder: Path, *words: str) -> None:
    """Run git without anything of the user's configuration."""
    environment = os.environ | {
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
    }  # fmt: skip
    words = ("-c", "protocol.file.allow=always", *words)
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, env=environment, timeout=60)


@pytest.fixture
def repo(tmp_path):
    """Return a repository whose one commit has a pointer, model.keras, in a folder."""
    need("git")
    top = tmp_path / "repo"
    (top / "models").mkdir(parents=True)
    (top / "models" / "model.keras").write_text(pointer())
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-q", "-m", "a pointer")
    return top


def assert_looked_into(capsys, path: Path) -> None:
    """Assert that check sees the residue in the pointer's object, and that strip says to pull first."""
    code, model = judge(capsys, str(path))
    assert (code, model["verdict"], model["format"], model["path"]) == (1, "residue", "keras-zip", str(path))
    assert model["bytes"] == len(DATA)
    before = listing(str(path.parent))
    code, out, err = run(capsys, "strip", "--in-place", str(path))
    assert (code, out) == (2, "")
    assert_one_sentence(err, str(path))
    assert "git lfs pull" in err
    assert listing(str(path.parent)) == before


def assert_only_a_pointer(capsys, path: Path) -> None:
    """Assert that check passes with a notice, fails with --require-lfs, and that strip says no."""
    code, model = judge(capsys, str(path))
    assert (code, model["verdict"], model["findings"]) == (0, "pointer", [])
    code, _, err = run(capsys, "check", str(path))
    assert code == 0
    assert_one_sentence(err, str(path))
    assert "git lfs pull" in err
    assert run(capsys, "check", "--require-lfs", str(path))[0] == 2
    assert run(capsys, "strip", "--in-place", str(path))[0] == 2


def test_object_in_the_repository(repo, capsys):
    """Else a repository that keeps its models in LFS, as most do, is never checked."""
    assert_only_a_pointer(capsys, repo / "models" / "model.keras")
    object_ = store(repo / ".git")
    assert_looked_into(capsys, repo / "models" / "model.keras")
    assert object_.read_bytes() == DATA


def test_object_by_a_relative_path(repo, capsys, monkeypatch):
    """Else the store is found only where the hook is not run: pre-commit passes relative paths."""
    store(repo / ".git")
    monkeypatch.chdir(repo / "models")
    assert judge(capsys, "model.keras")[1]["verdict"] == "residue"
    assert judge(capsys, ".")[1]["verdict"] == "residue"


def test_object_seen_from_a_linked_work_tree(repo, capsys):
    """Else `git worktree add` makes a checkout in which models pass unseen."""
    git(repo, "worktree", "add", "-q", "../other")
    other = repo.parent / "other" / "models" / "model.keras"
    assert (repo.parent / "other" / ".git").is_file()
    assert_only_a_pointer(capsys, other)
    store(repo / ".git")
    assert_looked_into(capsys, other)


def test_object_of_a_submodule(repo, capsys):
    """Else models in a submodule pass unseen, or the outer repository's objects are taken for its own."""
    outer = repo.parent / "outer"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "submodule", "--quiet", "add", str(repo), "sub")
    assert (outer / "sub" / ".git").is_file()
    store(outer / ".git")
    assert_only_a_pointer(capsys, outer / "sub" / "models" / "model.keras")
    store(outer / ".git" / "modules" / "sub")
    assert_looked_into(capsys, outer / "sub" / "models" / "model.keras")


@pytest.mark.parametrize(
    "text",
    [
        pointer(size=len(DATA) + 1), pointer(size=0), pointer(size=-1), pointer(size="9" * 30), pointer(size="x"),
        pointer(oid="../" * 20 + "etc/passwd"), pointer(oid=OID[:-1]), pointer(oid=OID.upper()), pointer(oid=f"{OID}0"),
        pointer(oid="0" * 64), pointer().replace("oid", "oig"), pointer().replace("size", "seiz"),
        "version https://git-lfs.github.com/spec/v1\n", pointer()[:60], pointer() + "\xff" * 400,
    ],
    ids=[
        "longer", "empty", "negative", "huge", "no_number", "climbing", "short_oid", "upper_oid", "long_oid",
        "other_oid", "no_oid", "no_size", "first_line", "cut", "tail",
    ],
)  # fmt: skip
def test_pointer_that_leads_to_no_whole_object(text, repo, capsys):
    """Else half a download or another file than the pointer's is judged in the model's place."""
    store(repo / ".git")
    path = repo / "models" / "model.keras"
    path.write_text(text, encoding="latin-1")
    if text.startswith(pointer()):
        assert_looked_into(capsys, path)
    else:
        assert_only_a_pointer(capsys, path)


@pytest.mark.parametrize(
    "text", ["gitdir: \0", "gitdir: /nowhere", "", "gitdir: .", "\udcff" * 10, "gitdir: " + "x/" * 3000]
)
def test_hostile_git_file_is_no_error(text, tmp_path, capsys):
    """Else a .git file in an archive that somebody unpacked ends the check with a traceback."""
    (tmp_path / ".git").write_bytes(text.encode("utf-8", "surrogateescape"))
    (tmp_path / "model.keras").write_text(pointer())
    assert_only_a_pointer(capsys, tmp_path / "model.keras")


def test_object_that_is_a_pointer_itself(tmp_path, capsys):
    """Else a pointer whose object is a pointer to itself sends us around in circles."""
    (tmp_path / ".git").mkdir()
    text = pointer(size=len(pointer(size=100)))
    store(tmp_path / ".git", text.encode())
    path = tmp_path / "model.keras"
    path.write_text(text)
    ((code, out, err),) = in_child([["check", str(path)]], seconds=30)
    assert (code, out) == (0, "no model found: 1 not read\n")
    assert_one_sentence(err, str(path))


def test_object_of_another_kind(tmp_path, capsys):
    """Else what lies behind a pointer is judged by its name instead of its bytes."""
    (tmp_path / ".git").mkdir()
    data = b"\x1c\0\0\0TFL3" + bytes(100)
    oid = hashlib.sha256(data).hexdigest()
    store(tmp_path / ".git", data, oid)
    path = tmp_path / "model.keras"
    path.write_text(pointer(oid, len(data)))
    code, model = judge(capsys, str(path))
    assert (code, model["verdict"], model["format"], model["path"]) == (0, "unsupported", "tflite", str(path))


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "saved_model.pb", "ckpt.index", "x"])
def test_pointer_is_one_under_every_name(name, tmp_path, capsys):
    """Else the pointers of a SavedModel or a checkpoint are called damaged models."""
    (tmp_path / name).write_text(pointer())
    assert_only_a_pointer(capsys, tmp_path / name)
    shutil.copy(MODEL.path, tmp_path / "real.keras")
    assert judge(capsys, str(tmp_path / "real.keras"))[1]["verdict"] == "residue"
