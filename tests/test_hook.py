"""The hook's entry, called as pre-commit calls it: what it refuses, what it fixes, what it leaves alone."""

import hashlib
import os
import re
import shlex
import shutil
from pathlib import Path

import h5py
import pytest
from conftest import one
from hostile import assert_one_sentence

from tfstrip_core import cli, hook
from tfstrip_core.errors import printable
from tfstrip_core.rules import RULES
from tfstrip_core.verbs.inspect import inspect

DIRTY = one("keras3.8.0", "sequential.keras")
CLEAN = one("keras3.8.0", "sequential_uncompiled.keras")
GAN = one("keras3.8.0", "gan.keras")
MID_FIT = one("keras3.8.0", "ema_mid_fit.keras")

ODD_NAMES = {
    "blank": " two  words .keras",
    "dash": "-o.keras",
    "newline": "new\nline.keras",
    "escape": "\x1b[31mred.keras",
    "not-utf-8": os.fsdecode(b"caf\xe9.keras"),
    "glob": "*.keras",
    "command": "check",
    "other-command": "fix",
    "percent": "50%s{0}.keras",
}
odd_names = pytest.mark.parametrize("name", ODD_NAMES.values(), ids=list(ODD_NAMES))
both = pytest.mark.parametrize("command", ["check", "fix"])


@pytest.fixture
def run(tmp_path: Path, monkeypatch, capsys):
    """Return a function that runs the hook in the test's directory: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = hook.main(list(words))
        return code, *capsys.readouterr()

    return call


def state(path: str) -> tuple[bytes, int, int]:
    """Return what an untouched file keeps: bytes, inode and time."""
    status = os.lstat(path)
    return Path(path).read_bytes(), status.st_ino, status.st_mtime_ns


def pointer(path: str, content: bytes, *, stored: bytes | None = None) -> None:
    """Write a Git LFS pointer to `content`, and `stored` as its object in the store of the directory's repository."""
    digest = hashlib.sha256(content).hexdigest()
    Path(path).write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n", encoding="ascii"
    )
    if stored is not None:
        place = Path(".git", "lfs", "objects", digest[:2], digest[2:4])
        place.mkdir(parents=True)
        (place / digest).write_bytes(stored)


@both
def test_a_clean_model_passes_in_silence(command: str, run, copy) -> None:
    """A hook that talks about files that are fine is switched off."""
    copy(CLEAN, "m.keras")
    before = state("m.keras")
    assert run(command, "m.keras") == (0, "", "")
    assert state("m.keras") == before


def test_check_refuses_residue_and_says_how_much_and_what_to_do(run, copy) -> None:
    """The line that people see first names file, rule, bytes and the command that mends it."""
    copy(DIRTY, "m.keras")
    before = state("m.keras")
    code, out, err = run("check", "m.keras")
    assert (code, err) == (1, "")
    assert re.search(r"^m\.keras: TFS101 optimizer-state: optimizer: 420 bytes: ", out, re.MULTILINE)
    assert out.endswith("fix: tfstrip strip --in-place m.keras\n")
    assert state("m.keras") == before


@pytest.mark.parametrize("file", ["sequential.keras", "sequential.h5", "ema_after_fit.keras"])
@pytest.mark.parametrize("writer", ["keras3.0.5", "keras3.15.1", "tf2.15"])
def test_fix_strips_fails_once_and_is_done(writer: str, file: str, run, copy) -> None:
    """A fixer that changed the file must fail; one that fails again, or changes it again, blocks every commit."""
    copy(one(writer, file), "m")
    before = state("m")
    code, out, err = run("fix", "m")
    assert (code, err) == (1, "")
    after = state("m")
    assert f"m: {len(before[0]):,} -> {len(after[0]):,} bytes\n" in out
    assert "git restore" not in out  # no git here that has the old one
    assert run("check", "m") == (0, "", "")
    assert run("fix", "m") == (0, "", "")
    assert state("m") == after
    assert os.listdir() == ["m"]


@both
def test_suspected_state_fails_and_stays(command: str, run, copy) -> None:
    """A GAN's own optimizers are for the user to judge: untouched to the byte, not even its proven part."""
    copy(GAN, "m.keras")
    before = state("m.keras")
    code, out, err = run(command, "m.keras")
    assert code == 1
    assert state("m.keras") == before
    for subject in ("d_optimizer", "g_optimizer"):
        assert f"m.keras: TFS107 suspected-optimizer-state: {subject}: " in out
    assert "tfstrip strip --in-place --also d_optimizer --also g_optimizer m.keras" in out + err


def test_the_command_for_suspected_state_does_what_it_says(run, copy) -> None:
    """What the hook prints can be pasted: afterwards the commit passes."""
    copy(GAN, "m.keras")
    _, _, err = run("fix", "m.keras")
    words = shlex.split(err.partition(" run tfstrip ")[2])
    assert cli.main(words) == 0
    assert run("check", "m.keras") == (0, "", "")


def test_averages_that_differ_are_the_users_to_decide(run, copy) -> None:
    """Two different models are in the file: throwing one away unasked could lose the better one."""
    copy(MID_FIT, "m.keras")
    before = state("m.keras")
    code, out, err = run("fix", "m.keras")
    assert (code, out) == (1, "")
    assert state("m.keras") == before
    assert_one_sentence(err, "m.keras")
    for words in ("tfstrip strip --in-place", "--ema drop", "--ema apply"):
        assert words in err


def test_averages_alone_do_not_fail_a_check(run, copy) -> None:
    """Only the slots beside the averages are refused: a file of averages that somebody serves may be committed."""
    copy(MID_FIT, "m.keras")
    found = inspect("m.keras").findings
    assert {finding.rule for finding in found if RULES[finding.rule].fails} == {"TFS101"}
    code, out, _ = run("check", "m.keras")
    assert code == 1
    assert "m.keras: TFS106 weight-average: optimizer: 148 bytes: " in out


def damaged(path: str) -> None:
    """Cut the file off in the middle."""
    os.truncate(path, os.path.getsize(path) // 2)


def hostile(path: str) -> None:
    """Write an HDF5 model whose optimizer is a dataset, which no framework makes."""
    os.remove(path)
    shutil.copy(one("keras3.8.0", "sequential.h5").path, path)
    with h5py.File(path, "r+") as file:
        del file["optimizer_weights"]
        file["optimizer_weights"] = [1.0]


@both
@pytest.mark.parametrize("spoil", [damaged, hostile, os.remove], ids=["damaged", "hostile", "absent"])
def test_what_cannot_be_read_is_2_and_the_others_are_seen_to(command: str, spoil, run, copy) -> None:
    """One bad file neither hides nor saves the rest of the commit, and is itself left as it is."""
    for name in ("a.keras", "bad", "z.keras"):
        copy(DIRTY, name)
    spoil("bad")
    bad = Path("bad").read_bytes() if os.path.exists("bad") else None
    before = sorted(os.listdir())
    code, out, err = run(command, "a.keras", "bad", "z.keras")
    assert code == 2
    assert_one_sentence(err, "bad")
    assert "a.keras: " in out
    assert "z.keras: " in out
    assert sorted(os.listdir()) == before
    assert (Path("bad").read_bytes() if os.path.exists("bad") else None) == bad
    assert run("check", "a.keras", "z.keras")[0] == (1 if command == "check" else 0)


def test_a_pointer_without_its_object_is_a_notice(run) -> None:
    """In CI without `lfs: true` there is nothing to check, which is said and refuses nothing, unless asked to."""
    pointer("m.keras", b"elsewhere")
    code, out, err = run("check", "m.keras")
    assert (code, out) == (0, "")
    assert_one_sentence(err, "m.keras")
    assert "git lfs pull" in err
    code, out, err = run("check", "--require-lfs", "m.keras")
    assert (code, out) == (2, "")
    assert_one_sentence(err, "m.keras")
    assert run("fix", "m.keras")[0] == 0


@pytest.mark.parametrize(("model", "code"), [(DIRTY, 1), (CLEAN, 0), (GAN, 1)], ids=["dirty", "clean", "suspected"])
@pytest.mark.parametrize("words", [(), ("--require-lfs",)], ids=["", "required"])
def test_a_pointer_is_judged_by_its_object(model, code: int, words: tuple[str, ...], run) -> None:
    """Where the object lies in .git/lfs it is what will be shipped; the name that is shown is the user's."""
    content = Path(model.path).read_bytes()
    pointer("m.keras", content, stored=content)
    got, out, err = run("check", *words, "m.keras")
    assert (got, err) == (code, "")
    assert ".git" not in out
    assert ("m.keras: TFS101" in out) is bool(code)


def test_a_half_fetched_object_counts_as_absent(run) -> None:
    """A broken download must be neither called clean nor unreadable: it is not the model."""
    content = Path(DIRTY.path).read_bytes()
    pointer("m.keras", content, stored=content[:-1])
    code, out, err = run("check", "m.keras")
    assert (code, out) == (0, "")
    assert_one_sentence(err, "m.keras")


@pytest.mark.parametrize("model", [DIRTY, GAN], ids=["proven", "suspected"])
def test_fix_never_writes_into_the_lfs_store_or_over_a_pointer(model, run) -> None:
    """Objects are named by their digest: a changed one would corrupt the store; the pull comes first."""
    content = Path(model.path).read_bytes()
    pointer("m.keras", content, stored=content)
    (stored,) = (str(path) for path in Path(".git").rglob("*") if path.is_file())
    before = state("m.keras"), state(stored)
    code, _, err = run("fix", "m.keras")
    assert code == 1
    assert (state("m.keras"), state(stored)) == before
    assert "git lfs pull" in err
    assert "tfstrip strip --in-place" in err


@both
def test_symlinks_are_skipped_and_said(command: str, run, copy) -> None:
    """Stores (dvc, git-annex, hub caches) lie behind symlinks: nothing there is ours to judge or to change."""
    copy(DIRTY, "store")
    before = state("store")
    os.symlink("store", "m.keras")
    os.symlink("nowhere", "dangling.keras")
    code, out, err = run(command, "m.keras", "dangling.keras")
    assert (code, out) == (0, "")
    assert [line.split(":")[1] for line in err.splitlines()] == [" m.keras", " dangling.keras"]
    assert "symlink" in err
    assert state("store") == before
    assert os.readlink("m.keras") == "store"


@both
def test_unsupported_formats_are_a_notice(command: str, run) -> None:
    """A TFLite file in the commit is none of our business, and is not passed off as checked."""
    Path("m.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(600))
    Path("model.json").write_text('{"weightsManifest": [{"paths": ["w.bin"], "weights": []}]}', encoding="ascii")
    code, out, err = run(command, "m.tflite", "model.json")
    assert (code, out) == (0, "")
    first, second = err.splitlines()
    assert first.startswith("tfstrip: m.tflite: unsupported: ")
    assert second.startswith("tfstrip: model.json: unsupported: ")


@both
def test_what_is_no_model_is_passed_over_in_silence(command: str, run) -> None:
    """Whatever else is binary in a repository, a scientific .h5 with soft links included, is no error."""
    Path("empty").touch()
    Path("text.keras").write_text("no model\n", encoding="ascii")
    Path("a.whl").write_bytes(b"PK\x03\x04" + bytes(600))
    Path("noise").write_bytes(b"\x00\xff" * 5000)
    with h5py.File("science.h5", "w") as file:
        file["data"] = [1.0, 2.0]
        file["link"] = h5py.SoftLink("/data")
        file["outside"] = h5py.ExternalLink("other.h5", "/x")
    names = sorted(os.listdir())
    assert run(command, *names) == (0, "", "")
    assert run(command) == (0, "", "")
    assert run() == (0, "", "")


@odd_names
def test_odd_names_are_files_and_are_shown_on_one_line(name: str, run, copy) -> None:
    """A name is whatever bytes the file system has: it is found, fixed, and cannot disturb the terminal."""
    copy(DIRTY, name)
    code, out, err = run("check", name)
    assert (code, err) == (1, "")
    assert out.startswith(f"{printable(name)}: TFS101 ")
    assert all(line.isprintable() for line in out.splitlines())
    code, out, err = run("fix", name)
    assert (code, err) == (1, "")
    assert out.startswith(f"{printable(name)}: 21,")
    assert all(line.isprintable() for line in out.splitlines())
    assert run("fix", name) == (0, "", "")
    assert os.listdir() == [name]


@pytest.mark.parametrize("name", ["--require-lfs", "--", "--help", "-"])
def test_behind_two_dashes_everything_is_a_file(name: str, run, copy) -> None:
    """With `args: [--]` in the configuration even files named like our options are checked and fixed."""
    copy(DIRTY, name)
    assert run("check", "--", name)[0] == 1
    assert run("fix", "--", name)[0] == 1
    assert run("check", "--", name) == (0, "", "")


@pytest.mark.parametrize("name", ["--require-lfs", "--"])
def test_a_file_named_like_an_option_cannot_hide_the_model_in_it(name: str, run, copy) -> None:
    """pre-commit puts the names right behind our words: what is a word of ours and a file too must be checked."""
    copy(DIRTY, name)
    assert run("check", name)[0] == 1


def test_words_behind_the_first_file_are_files(run, copy) -> None:
    """An option in the middle of the files is a file: `--require-lfs` there changes nothing and is reported absent."""
    copy(CLEAN, "m.keras")
    pointer("p.keras", b"elsewhere")
    code, _, err = run("check", "m.keras", "p.keras", "--require-lfs")
    assert code == 2
    assert "tfstrip: --require-lfs: unreadable: " in err


@both
def test_a_directory_leads_to_its_models(command: str, run, copy, tmp_path: Path) -> None:
    """With `pass_filenames: false` a folder can be named: every model below it is seen, .git and symlinks are not."""
    for folder in ("models/deep", "models/.git"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("models/a.keras", "models/deep/b.h5", "models/.git/c.keras"):
        copy(DIRTY, name)
    os.symlink(os.path.abspath("models/.git/c.keras"), "models/link.keras")
    before = state("models/.git/c.keras")
    code, out, err = run(command, "models")
    assert (code, err) == (1, "")
    assert re.findall(r"^(models\S+): ", out, re.MULTILINE) == ["models/a.keras", "models/deep/b.h5"]
    assert state("models/.git/c.keras") == before


def test_a_thousand_models_in_one_call(run, copy) -> None:
    """pre-commit passes all files at once: the one that is bad is found among a thousand models that are not."""
    copy(CLEAN, "0")
    names = [str(number) for number in range(1000)]
    for name in names[1:]:
        os.link("0", name)
    os.remove("500")
    copy(DIRTY, "500")
    code, out, err = run("check", *names)
    assert (code, err) == (1, "")
    assert re.findall(r"^(\S+): TFS", out, re.MULTILINE) == ["500"]
    assert "1000 models checked: 1 with residue, 420 of " in out


def test_a_thousand_files_are_fixed_in_one_call(run, copy) -> None:
    """Every bad model of a large commit is fixed in the first run, and nothing else is touched."""
    names = [f"{number}.bin" for number in range(1000)]
    for name in names:
        Path(name).write_bytes(b"\x00binary")
    bad = names[::97]
    for name in bad:
        copy(DIRTY, name)
    code, out, _ = run("fix", *names)
    assert code == 1
    assert re.findall(r"^(\S+): 21,", out, re.MULTILINE) == bad
    assert run("fix", *names) == (0, "", "")
    assert sorted(os.listdir()) == sorted(names)


def test_metrics_alone_neither_fail_nor_are_fixed(run, copy) -> None:
    """What check lets pass, fix must not touch: else the fixer blocks commits that the check allows."""
    copy(one("tf2.15", "metrics_only.keras"), "m.keras")
    before = state("m.keras")
    assert run("check", "m.keras") == (0, "", "")
    assert run("fix", "m.keras") == (0, "", "")
    assert state("m.keras") == before


def test_help_names_both_commands(run) -> None:
    """Check prints a command that begins with this name, so that people ask what it is."""
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    assert "tfstrip-hook check|fix" in out
