"""A repository's objects read without git, held against what git itself says of them."""

import os
import random
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from conftest import need

from tfstrip_core.codecs.git_store import Absent, Store

FORMS = ["loose", "packed", "by name", "mixed", "sha256"]


def git(folder: Path, *words: str) -> str:
    """Run git there; return what it prints."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    names = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"]
    done = subprocess.run(
        ["git", "-C", str(folder), *names, *words], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def made(folder: Path, form: str = "loose") -> Path:
    """Return a repository with 18 commits of files that change a little, as deltas like them."""
    need("git")
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main", *(["--object-format=sha256"] if form == "sha256" else []))
    draw = random.Random(5)
    content = bytearray(draw.randbytes(200_000))
    for number in range(18):
        for _ in range(20):
            content[draw.randrange(len(content))] ^= 1
        (folder / "big.bin").write_bytes(content + bytes(number))
        (folder / "deep" / f"d{number % 7}").mkdir(parents=True, exist_ok=True)
        (folder / "deep" / f"d{number % 7}" / f"f{number}").write_text(f"{number}\n" * number)
        # What is squeezed with a long table of codes before it, whole and as a delta.
        skewed = bytes(draw.choices(range(256), [2.0 ** -(n % 13) for n in range(256)], k=20_000))
        (folder / "skewed").write_bytes(skewed)
        (folder / "mixed").write_bytes(bytes(5000) + skewed[: 9000 + number * 100] + bytes(5000))
        (folder / "empty").write_bytes(b"")
        if number == 12:
            os.remove(folder / "deep" / "d3" / "f3")
            (folder / "link").symlink_to("empty")
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", str(number))
        if form == "mixed" and number == 9:
            git(folder, "repack", "-q", "-a", "-d")
    if form in ("packed", "sha256"):
        git(folder, "gc", "-q", "--aggressive", "--prune=now")
    if form == "by name":  # the other way to say what a delta is of
        git(folder, "-c", "repack.useDeltaBaseOffset=false", "repack", "-q", "-a", "-d", "-f")
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_every_object_is_what_git_says(form: str, tmp_path: Path) -> None:
    """Kind, size and content of all of them, loose, in packs with deltas of both kinds, of either hash."""
    folder = made(tmp_path / "repository", form)
    listed = git(folder, "cat-file", "--batch-all-objects", "--batch-check").splitlines()
    assert len(listed) > 100
    store = Store(str(folder / ".git"))
    packed = not list((folder / ".git" / "objects").glob("??/*"))
    assert packed is (form in ("packed", "by name", "sha256"))
    for line in listed:
        name, kind, size = line.split()
        assert (store.size(name), store.read(name)[0]) == (int(size), kind)
        content = subprocess.run(["git", "-C", str(folder), "cat-file", kind, name], capture_output=True, check=True)
        assert store.read(name)[1] == content.stdout
    assert store.head() == git(folder, "rev-parse", "HEAD")


@pytest.mark.parametrize("form", ["loose", "packed"])
def test_what_changed_is_what_git_says(form: str, tmp_path: Path) -> None:
    """Between any two commits: files that came, went and changed, with their blobs; links are no files."""
    folder = made(tmp_path / "repository", form)
    store = Store(str(folder / ".git"))
    commits = git(folder, "rev-list", "HEAD").splitlines()
    for old, new in [(commits[-1], commits[0]), (commits[0], commits[-1]), (commits[9], commits[8])]:
        expected = {}
        for line in git(folder, "diff-tree", "-r", "--no-renames", "--raw", "--no-abbrev", old, new).splitlines():
            words, path = line.split("\t")
            modes, names = words.lstrip(":").split()[:2], words.split()[2:4]
            blobs = tuple(name if mode.startswith("100") else "" for mode, name in zip(modes, names, strict=True))
            if any(blobs):
                expected[path] = blobs
        assert expected
        assert store.changes(store.commit(old)[0], store.commit(new)[0]) == expected
    assert store.commit(commits[3])[1] == [commits[4]]
    assert store.changes(store.commit(commits[3])[0], store.commit(commits[3])[0]) == {}


def test_a_file_that_becomes_a_folder_went_and_others_came(tmp_path: Path) -> None:
    """And the other way round: a path that is both is told as the file that it was."""
    folder = made(tmp_path / "repository")
    old = git(folder, "rev-parse", "HEAD")
    os.remove(folder / "empty")
    (folder / "empty").mkdir()
    (folder / "empty" / "x").write_text("x")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "folder")
    store = Store(str(folder / ".git"))
    trees = [store.commit(name)[0] for name in (old, store.head())]
    there = store.changes(*trees)
    assert {path: [bool(name) for name in blobs] for path, blobs in there.items()} == {
        "empty": [True, False],
        "empty/x": [False, True],
    }
    assert store.changes(*reversed(trees)) == {path: blobs[::-1] for path, blobs in there.items()}


def test_a_shallow_clone_lacks_what_it_lacks(tmp_path: Path) -> None:
    """Depth 1 has the commit and knows its parent's name; asking for that is Absent, not a failure."""
    folder = made(tmp_path / "repository")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{folder}", "shallow")
    git(tmp_path / "shallow", "pack-refs", "--all")
    store = Store(str(tmp_path / "shallow" / ".git"))
    head = store.head()
    assert head == git(folder, "rev-parse", "HEAD")
    tree, (parent,) = store.commit(head)
    assert store.size(tree) > 0
    assert parent == git(folder, "rev-parse", "HEAD^")
    with pytest.raises(Absent):
        store.commit(parent)
    git(tmp_path / "shallow", "checkout", "-q", "--detach")
    assert Store(str(tmp_path / "shallow" / ".git")).head() == head


def test_no_damage_hangs_or_passes_for_content(tmp_path: Path) -> None:
    """Bytes of a pack and of its index changed at random: what is read is git's content or an error of these kinds."""
    folder = made(tmp_path / "repository", "packed")
    listed = [line.split() for line in git(folder, "cat-file", "--batch-all-objects", "--batch-check").splitlines()]
    good = Store(str(folder / ".git"))
    sizes = {name: len(good.read(name)[1]) for name, _, _ in listed}
    draw = random.Random(7)
    failed = 0
    for ending in ("pack", "idx"):
        (path,) = (folder / ".git" / "objects" / "pack").glob(f"*.{ending}")
        whole = path.read_bytes()
        path.chmod(0o644)
        for _ in range(40):
            damaged = bytearray(whole[: draw.choice([len(whole), draw.randrange(1, len(whole))])])
            for _ in range(8):
                damaged[draw.randrange(len(damaged))] = draw.randrange(256)
            path.unlink()
            path.write_bytes(damaged)
            store = Store(str(folder / ".git"))
            for name in draw.sample(sorted(sizes), 5):
                try:
                    store.size(name)
                    store.read(name)
                except (Absent, ValueError, OSError, IndexError, zlib.error, struct.error):
                    failed += 1
        path.unlink()
        path.write_bytes(whole)
    assert failed > 50
    assert {name: len(Store(str(folder / ".git")).read(name)[1]) for name in sizes} == sizes


@pytest.mark.parametrize("name", ["", "HEAD", "../../../etc/passwd", "0" * 39, "g" * 40, "A" * 40])
def test_a_name_is_an_object_s_and_no_path(name: str, tmp_path: Path) -> None:
    """Event files are data: what is no object's name is looked for nowhere."""
    folder = made(tmp_path / "repository")
    with pytest.raises(ValueError, match=name or "^$"):
        Store(str(folder / ".git")).read(name)
