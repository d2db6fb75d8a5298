"""The command's contract: exit codes, what goes to which stream, text that carries path, code and bytes."""

import os
import re
import shlex
import shutil
from pathlib import Path

import h5py
import pytest
from conftest import one
from hostile import assert_one_sentence, listing
from hostile import run as run_command

from tfstrip_core.errors import printable

DIRTY = one("keras3.8.0", "sequential.keras")
DIRTY_H5 = one("keras3.8.0", "sequential.h5")
CLEAN = one("keras3.8.0", "sequential_uncompiled.keras")
GAN = one("keras3.8.0", "gan.keras")
MID_FIT = one("keras3.8.0", "ema_mid_fit.keras")
APPLIED = one("keras3.8.0", "ema_after_fit.keras")

HOSTILE_NAMES = {
    "blank": "two words.keras",
    "dash": "-o.keras",
    "newline": "a\n::error::b.keras",
    "carriage": "a\r\nb.keras",
    "percent": "50%,a:b%0A::error::.keras",
    "escape": "\x1b[31mred\x07\x9b.keras",
    "bidi": "a\u202eb\u2028c.keras",
    "not-utf-8": os.fsdecode(b"caf\xe9.keras"),
    "glob": "*?[a].keras",
    "quote": 'it\'s "$(x)".keras',
}
hostile_names = pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=list(HOSTILE_NAMES))


@pytest.fixture
def run(tmp_path: Path, monkeypatch, capsys):
    """Return a function that runs the command in the test's directory: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: run_command(capsys, *words)


def assert_says_no(run, *words: str, about: str) -> str:
    """Assert exit code 2, one sentence on stderr that names the file, nothing on stdout, nothing written."""
    before = listing(".")
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert_one_sentence(err, about)
    assert listing(".") == before
    return err


@pytest.mark.parametrize(
    ("model", "code"), [(DIRTY, 1), (DIRTY_H5, 1), (GAN, 1), (MID_FIT, 1), (CLEAN, 0)], ids=lambda value: str(value)[:9]
)
def test_check_finds_or_does_not(model, code: int, run, copy) -> None:
    """The exit code is what continuous integration sees: 1 for what a failing rule refuses, else 0."""
    copy(model, "m")
    got, out, err = run("check", "m")
    assert (got, err) == (code, "")
    assert ("fix: tfstrip strip --in-place" in out) is bool(code)


def test_check_text_carries_path_code_and_bytes(run, copy) -> None:
    """Each finding is one line; the end says how much of how much, and the command for each model that fails."""
    copy(DIRTY, "a.keras")
    copy(CLEAN, "b.keras")
    copy(GAN, "c.keras")
    code, out, _ = run("check", ".")
    assert code == 1
    lines = out.splitlines()
    found = [re.match(r"([abc]\.keras): (TFS\d{3}) [a-z-]+: (\S+): ([\d,]+) bytes?: \S", line) for line in lines[:4]]
    assert sorted(match.groups() for match in found if match) == [
        ("a.keras", "TFS101", "optimizer", "420"),
        ("c.keras", "TFS101", "optimizer", "12"),
        ("c.keras", "TFS107", "d_optimizer", "308"),
        ("c.keras", "TFS107", "g_optimizer", "428"),
    ]
    size = sum(os.path.getsize(name) for name in os.listdir())
    assert lines[4].startswith(f"3 models checked: 2 with residue, 432 of {size:,} bytes")
    assert lines[5:] == [
        "fix: tfstrip strip --in-place a.keras",
        "fix: tfstrip strip --in-place --also d_optimizer --also g_optimizer c.keras",
    ]


def test_the_commands_that_check_prints_work(run, copy) -> None:
    """Pasted one by one they leave a directory that passes."""
    for model, name in ((DIRTY, "a b.keras"), (DIRTY_H5, "-dash"), (GAN, "it's.keras"), (APPLIED, "z")):
        copy(model, name)
    _, out, _ = run("check", ".")
    for line in out.splitlines():
        if line.startswith("fix: tfstrip "):
            assert run(*shlex.split(line)[2:])[0] == 0
    assert run("check", ".") == (0, "4 models checked: no residue\n", "")


def test_unreadable_wins_over_found_and_both_are_told(run, copy) -> None:
    """2 beats 1, and the finding in the other file is not lost."""
    copy(DIRTY, "a.keras")
    Path("b.keras").write_bytes(Path(DIRTY.path).read_bytes()[:9000])
    code, out, err = run("check", "a.keras", "b.keras", "absent.keras")
    assert code == 2
    assert "a.keras: TFS101 " in out
    first, second = err.splitlines()
    assert first.startswith("tfstrip: b.keras: unreadable: ")
    assert second.startswith("tfstrip: absent.keras: unreadable: ")


@pytest.mark.parametrize("words", [("check",), ("inspect",)], ids=" ".join)
def test_what_is_not_handled_is_no_failure(words: tuple[str, ...], run) -> None:
    """Pointers, other formats and other files in a repository are 0; only the first two are told of in a check."""
    Path("m.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(600))
    Path("p.keras").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n")
    Path("t.keras").write_text("text\n")
    code, _, err = run(*words, "m.tflite", "p.keras", "t.keras")
    assert code == 0
    if words == ("check",):
        assert [line.split(": ")[1:3] for line in err.splitlines()] == [
            ["m.tflite", "unsupported"],
            ["p.keras", "pointer"],
        ]
        assert run("check", "--require-lfs", "m.tflite", "p.keras", "t.keras")[0] == 2


def test_inspect_shows_keys_roles_and_tensors(run, copy) -> None:
    """The KEYs for --also are printed as they are to be given."""
    copy(GAN, "m.keras")
    code, out, err = run("inspect", "m.keras")
    assert (code, err) == (0, "")
    assert out.startswith("m.keras: keras-zip, Keras 3.8.0, ")
    keys = re.findall(r"^  TFS107 suspected-optimizer-state: KEY (\S+): [\d,]+ bytes: ", out, re.MULTILINE)
    assert keys == ["d_optimizer", "g_optimizer"]
    also = [word for key in keys for word in ("--also", key)]
    assert run("strip", "m.keras", "-o", "t.keras", *also)[0] == 0
    assert re.search(r"^    weight +[\d,]+ float32 +\d+(x\d+)* +\S+", out, re.MULTILINE)


def test_inspect_says_in_one_line_what_it_cannot_read(run, copy) -> None:
    """The other models are still shown, and the exit code is 2."""
    copy(CLEAN, "m.keras")
    code, out, err = run("inspect", "absent.keras", "m.keras")
    assert code == 2
    said = [line for line in (out + err).splitlines() if "absent.keras" in line]
    assert len(said) == 1
    assert "m.keras: keras-zip" in out


@hostile_names
def test_names_cannot_disturb_the_terminal(name: str, run, copy) -> None:
    """Whatever a file is called, every line on either stream is printable and shows the name escaped."""
    copy(DIRTY, name)
    for words in (
        ["check", "--", name],
        ["inspect", "--", name],
        ["verify", "--", name, name],
        ["strip", "-o", f"./{name}.out", "--", name],
        ["strip", "--in-place", "--", name],
        ["verify", "--", name, f"{name}.absent"],
    ):
        _, out, err = run(*words)
        assert printable(name) in out + err
        assert "Traceback" not in err
        assert all(line.isprintable() for line in (out + err).split("\n"))


@hostile_names
def test_github_annotations_cannot_be_ended_or_begun_by_a_name(name: str, run, copy) -> None:
    """A pull request's file name is an outsider's text in a channel of commands."""
    copy(GAN, name)
    copy(MID_FIT, f"ema{name}")
    Path(f"cut{name}").write_bytes(Path(DIRTY.path).read_bytes()[:9000])
    Path(f"lite{name}").write_bytes(b"\x1c\0\0\0TFL3" + bytes(600))
    paths = ["--", name, f"ema{name}", f"cut{name}", f"lite{name}"]
    code, out, err = run("check", "--output-format", "github", *paths)
    assert code == 2
    form = re.compile(r"::(error|warning|notice) file=([^:,\s](?:[^:,]*)),title=([^:,]*)::(.*)")
    matches = [form.fullmatch(line) for line in out.splitlines()]
    assert all(matches), out
    assert all(re.fullmatch(r"(?:[^%]|%(?:25|0D|0A|3A|2C))*", match.group(0)) for match in matches)
    assert sorted((match.group(1), match.group(3)) for match in matches) == [
        ("error", "TFS101 optimizer-state"),
        ("error", "TFS101 optimizer-state"),
        ("error", "TFS107 suspected-optimizer-state"),
        ("error", "TFS107 suspected-optimizer-state"),
        ("error", "tfstrip unreadable"),
        ("notice", "tfstrip unsupported"),
        ("warning", "TFS106 weight-average"),
    ]
    shown = matches[0].group(2)
    for code_, character in (("2C", ","), ("3A", ":"), ("0A", "\n"), ("0D", "\r"), ("25", "%")):
        shown = shown.replace(f"%{code_}", character)
    assert shown == printable(name)
    assert ": 428 bytes: " in "".join(match.group(4) for match in matches)
    assert all(line.startswith("tfstrip: ") and line.isprintable() for line in err.splitlines())


def test_strip_writes_its_target_and_says_what_went(run, copy) -> None:
    """Sizes, rules, bytes and the proof on stdout; what to know about the result on stderr; the source as it was."""
    copy(DIRTY, "m.keras")
    source = Path("m.keras").read_bytes()
    code, out, err = run("strip", "m.keras", "-o", "t.keras")
    assert code == 0
    assert out.startswith(f"t.keras: {len(source):,} -> {os.path.getsize('t.keras'):,} bytes\n")
    assert "  removed TFS101 optimizer-state: optimizer: 420 bytes\n" in out
    assert re.search(r"^  proof: 4 tensors kept, 204 bytes equal$", out, re.MULTILINE)
    assert err.startswith("tfstrip: t.keras: loss, metrics and optimizer settings are gone")
    assert Path("m.keras").read_bytes() == source
    assert sorted(os.listdir()) == ["m.keras", "t.keras"]
    assert run("verify", "m.keras", "t.keras")[0] == 0


def test_an_existing_target_needs_force(run, copy) -> None:
    """Nobody's file is overwritten unasked."""
    copy(DIRTY, "m.keras")
    Path("t").write_text("precious")
    assert "--force" in assert_says_no(run, "strip", "m.keras", "-o", "t", about="m.keras")
    os.symlink("nowhere", "dangling")
    assert_says_no(run, "strip", "m.keras", "-o", "dangling", about="m.keras")
    assert run("strip", "m.keras", "-o", "t", "--force")[0] == 0
    assert run("check", "t")[0] == 0


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
@pytest.mark.parametrize("target", ["m.keras", "./m.keras", "hard", "soft"])
def test_the_source_is_no_target(target: str, force: tuple[str, ...], run, copy) -> None:
    """By whatever name: --in-place is the way to say that."""
    copy(DIRTY, "m.keras")
    os.link("m.keras", "hard")
    os.symlink("m.keras", "soft")
    assert "--in-place" in assert_says_no(run, "strip", "m.keras", "-o", target, *force, about="m.keras")


def test_a_target_must_be_a_file_in_a_directory_that_is_there(run, copy) -> None:
    """A directory, a missing one, a file as directory, and no name at all: one sentence each."""
    copy(DIRTY, "m.keras")
    os.mkdir("d")
    for target in ("d", "d/", "missing/t.keras", "m.keras/t.keras", ""):
        assert_says_no(run, "strip", "m.keras", "-o", target, "--force", about="m.keras")


def test_force_replaces_files_only(run, copy) -> None:
    """A pipe or a device (think of `-o /dev/null --force` as root) must not be replaced by a file."""
    copy(DIRTY, "m.keras")
    os.mkfifo("pipe")
    assert_says_no(run, "strip", "m.keras", "-o", "pipe", "--force", about="m.keras")


@pytest.mark.parametrize("words", [(), ("-o", "t", "--in-place")], ids=["neither", "both"])
def test_where_the_result_goes_must_be_said_once(words: tuple[str, ...], run, copy) -> None:
    """Neither -o nor --in-place, and both, are mistakes."""
    copy(DIRTY, "m.keras")
    assert_says_no(run, "strip", "m.keras", *words, about="m.keras")


def test_an_unknown_key_is_named_with_the_known_ones(run, copy) -> None:
    """A typing mistake in --also must not pass for done."""
    copy(GAN, "m.keras")
    err = assert_says_no(run, "strip", "m.keras", "-o", "t", "--also", "x_optimizer", about="m.keras")
    for word in ("x_optimizer", "d_optimizer", "g_optimizer"):
        assert word in err
    assert run("verify", "m.keras", "m.keras", "--also", "x_optimizer")[0] == 2


def test_suspected_state_stays_and_is_named(run, copy) -> None:
    """Exit 0 without --also: the result still fails check, which stderr says beforehand."""
    copy(GAN, "m.keras")
    code, _, err = run("strip", "m.keras", "-o", "t.keras")
    assert code == 0
    for key in ("d_optimizer", "g_optimizer"):
        assert re.search(rf"^tfstrip: t\.keras: TFS107 .*{key}.*--also {key}$", err, re.MULTILINE)
    assert run("check", "t.keras")[0] == 1


@pytest.mark.parametrize("words", [("--ema", "drop"), ()], ids=["ema", ""])
def test_nothing_to_do_is_a_byte_copy_or_nothing(words: tuple[str, ...], run, copy) -> None:
    """A build that strips everything must not change what is clean."""
    copy(CLEAN, "m.keras")
    before = os.stat("m.keras")
    code, out, err = run("strip", "m.keras", "-o", "t.keras", *words)
    assert (code, err) == (0, "")
    assert out == f"t.keras: nothing to remove, {before.st_size:,} bytes\n"
    assert Path("t.keras").read_bytes() == Path("m.keras").read_bytes()
    code, out, err = run("strip", "m.keras", "--in-place", *words)
    assert (code, err) == (0, "")
    assert out.endswith("untouched\n")
    after = os.stat("m.keras")
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("writer", ["keras3.8.0", "keras3.15.1", "tf2.15"])
def test_training_config_of_a_legacy_file_goes_when_asked(writer: str, run, copy) -> None:
    """It stays in an .h5 by default, without it every load warns; with the flag it goes."""
    copy(one(writer, "sequential.h5"), "m")
    assert run("strip", "m", "-o", "kept")[0] == 0
    code, out, _ = run("strip", "m", "-o", "gone", "--drop-training-config")
    assert code == 0
    assert "  removed TFS201 training-config: training_config: 0 bytes\n" in out
    for name, there in (("kept", True), ("gone", False)):
        with h5py.File(name) as file:
            assert ("training_config" in file.attrs) is there
            assert "optimizer_weights" not in file
        assert run("verify", "m", name)[0] == 0


def test_training_config_of_an_archive_goes_with_the_state_or_when_asked(run, copy) -> None:
    """A compiled model without optimizer state keeps compile_config unless it is told to go."""
    copy(one("keras3.15.1", "sequential_uncompiled.keras"), "m")
    assert run("inspect", "m")[1].count("TFS201") == 1
    assert "nothing to remove" in run("strip", "m", "-o", "kept")[1]
    assert "TFS201" in run("strip", "m", "-o", "gone", "--drop-training-config")[1]
    assert "TFS201" not in run("inspect", "gone")[1]


def test_averages_ask_drop_or_apply(run, copy) -> None:
    """Two results for two answers, each verified as what it is; without an answer nothing is written."""
    copy(MID_FIT, "m.keras")
    err = assert_says_no(run, "strip", "m.keras", "-o", "t", about="m.keras")
    assert "--ema drop" in err
    assert "--ema apply" in err
    assert run("strip", "m.keras", "-o", "drop", "--ema", "drop")[0] == 0
    assert run("strip", "m.keras", "-o", "apply", "--ema", "apply")[0] == 0
    assert Path("drop").read_bytes() != Path("apply").read_bytes()
    assert run("verify", "m.keras", "drop")[0] == 0
    assert run("verify", "m.keras", "apply", "--ema", "apply")[0] == 0
    assert run("verify", "m.keras", "apply")[0] == 1
    assert run("verify", "m.keras", "drop", "--ema", "apply")[0] == 1
    assert run("check", "drop", "apply")[0] == 0


def test_verify_tells_equal_from_different(run, copy) -> None:
    """0 equal, 1 not equal with each difference on stdout, 2 where there is nothing to compare."""
    copy(DIRTY, "m.keras")
    run("strip", "m.keras", "-o", "t.keras")
    code, out, err = run("verify", "m.keras", "t.keras")
    assert (code, out, err) == (0, "m.keras, t.keras: equal, 4 tensors, 204 bytes compared\n", "")
    code, out, err = run("verify", "t.keras", "m.keras")
    assert (code, err) == (
        1,
        "tfstrip: the second model holds all tensors of the first and more: name the original first\n",
    )
    assert "m.keras: tensor optimizer/vars/0 was added" in out
    code, out, err = run("verify", "m.keras", "./m.keras")
    assert (code, err.count("both paths name the same model")) == (0, 1)
    copy(DIRTY_H5, "m.h5")
    code, out, err = run("verify", "m.keras", "m.h5")
    assert (code, out, err) == (1, "m.keras, m.h5: the formats differ: keras-zip and keras-hdf5\n", "")
    Path("text").write_text("text\n")
    for pair in (("m.keras", "absent"), ("absent", "m.keras"), ("m.keras", "text")):
        assert_says_no(run, "verify", *pair, about=next(name for name in pair if name != "m.keras"))


@pytest.mark.parametrize("what", ["absent", "text", "tflite", "pointer", "cut", "directory", "pipe"])
def test_strip_says_no_to_what_it_cannot_do(what: str, run, copy) -> None:
    """Whatever the reason: exit 2, one sentence, no output and the source as it was."""
    if what == "text":
        Path(what).write_text("text\n")
    elif what == "tflite":
        Path(what).write_bytes(b"\x1c\0\0\0TFL3" + bytes(600))
    elif what == "pointer":
        Path(what).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n")
    elif what == "cut":
        Path(what).write_bytes(Path(DIRTY.path).read_bytes()[:9000])
    elif what == "directory":
        os.mkdir(what)
        shutil.copy(DIRTY.path, what)
    elif what == "pipe":
        os.mkfifo(what)
    assert_says_no(run, "strip", what, "-o", "t", about=what)
    assert_says_no(run, "strip", what, "--in-place", about=what)


@pytest.mark.parametrize(
    "words",
    [
        (), ("nonsense",), ("check",), ("check", "--nonsense", "m"), ("check", "--js", "m"), ("verify", "m"),
        ("strip", "m", "--ema", "x"), ("strip", "m", "-o"), ("check", "--output-format", "xml", "m"),
    ],
    ids=lambda words: " ".join(words) or "nothing",
)  # fmt: skip
def test_a_mistake_in_the_words_is_one_sentence(words: tuple[str, ...], run) -> None:
    """No usage text over half a screen, no traceback: what is wrong, and where help is."""
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("tfstrip: ")
    assert "--help" in err


def test_help_and_version_are_results(capsys) -> None:
    """They go to stdout and exit 0."""
    for words in (["--version"], ["--help"], ["strip", "--help"]):
        with pytest.raises(SystemExit) as left:
            run_command(capsys, *words)
        assert left.value.code == 0
        said = capsys.readouterr()
        assert said.err == ""
        assert "tfstrip" in said.out
