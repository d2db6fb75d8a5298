"""What lies beside a checkpoint's files: what is missing, left over, in the way, or called almost so."""

import os
import shutil
from pathlib import Path

import pytest
from checkpoint_fixtures import one
from hostile import assert_one_sentence, judge, run
from saved_made import Made
from test_checkpoint_discover import found, put, state

import tfstrip_core
from tfstrip_core import discover

PLAIN, SHARDED, NAMED = one("tf2.15", "prefix_dash"), one("tf1.15", "keras_tf1_optimizer"), one("tf1.15", "graph_adam")
FIRST, BARE = one("tf1.15", "v1_adam"), one("tf1.15", "v1_no_meta")  # with a .meta file, and without
DATA = ".data-00000-of-00001"


def test_an_index_that_is_none_of_ours_to_read_is_said_once(tmp_path: Path, capsys, monkeypatch) -> None:
    """Its data files lead to it too, and know no better what is the matter."""
    prefix = put(PLAIN, tmp_path / "in", "x")
    recognise = discover.containers.recognise

    def refusing(path: str) -> str:  # as for another user than root
        if path.endswith(".index"):
            raise PermissionError(13, "Permission denied")
        return recognise(path)

    monkeypatch.setattr(discover.containers, "recognise", refusing)
    code, model = judge(capsys, str(tmp_path / "in"))
    assert (code, model["verdict"], model["path"]) == (2, "unreadable", prefix)
    assert "Permission denied" in model["message"]


def test_a_pipe_in_the_place_of_an_index_is_told(tmp_path: Path, capsys) -> None:
    """It is there, and is not what it should be; nothing waits for what it might say."""
    prefix = put(PLAIN, tmp_path / "in", "x")
    os.remove(f"{prefix}.index")
    os.mkfifo(f"{prefix}.index")
    code, model = judge(capsys, prefix + DATA)
    assert (code, model["verdict"]) == (2, "unreadable")
    assert "x.index is no regular file" in model["message"]


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("", "missing"), (DATA, "missing"), ("folder", "missing"),
        ("", "damaged"), (DATA, "damaged"), ("folder", "damaged"), (".index", "damaged"),
    ],
)  # fmt: skip
def test_data_without_an_index_is_unreadable(named: str, there: str, tmp_path: Path, capsys) -> None:
    """Data files of TensorFlow's naming are a checkpoint that lacks a file, not nothing."""
    prefix = put(PLAIN, tmp_path / "in", "x")
    os.remove(f"{prefix}.index")
    if there == "damaged":
        Path(f"{prefix}.index").write_bytes(b"cut off")
    path = str(tmp_path / "in") if named == "folder" else prefix + named
    code, model = judge(capsys, path)
    assert (code, model["verdict"], model["path"]) == (2, "unreadable", prefix)
    assert f"its file x.index is {there}" in model["message"]
    code, out, err = run(capsys, "strip", path, "-o", str(tmp_path / "out"))
    assert (code, out) == (2, "")
    assert_one_sentence(err, path)
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("name", ["x.data-1-of-2", "x.data-00000", "x.data-00000-of-0000a", "data-00000-of-00001"])
def test_only_the_exact_name_of_a_data_file_counts(name: str, tmp_path: Path, capsys) -> None:
    """Else any file that somebody calls data is an incomplete checkpoint."""
    (tmp_path / name).write_bytes(bytes(500))
    assert found(capsys, str(tmp_path / name)) == [(str(tmp_path / name), "not-a-model")]


def test_left_over_data_files_are_told_of_and_left_alone(tmp_path: Path, capsys) -> None:
    """They neither fail the check nor go with a strip, nor are they copied."""
    prefix = put(PLAIN, tmp_path / "in", "x")
    left = Path(f"{prefix}.data-00001-of-00002")
    left.write_text("of an older save")
    code, out, err = run(capsys, "check", str(tmp_path / "in"))
    assert (code, "1 model checked" in out) == (1, True)
    assert err == f"tfstrip: {prefix}: its index does not use {left.name}, which is no part of it and stays as it is\n"
    assert left.name in run(capsys, "strip", prefix, "-o", str(tmp_path / "out"))[2]
    assert left.name in run(capsys, "strip", prefix, "--in-place")[2]
    assert left.name in run(capsys, "strip", prefix, "--in-place")[2]
    assert left.read_text() == "of an older save"
    assert sorted(os.listdir(tmp_path)) == ["in", f"out{DATA}", "out.index"]


def test_a_left_over_file_is_never_overwritten(tmp_path: Path, capsys) -> None:
    """Where two data files become one, an older one of that very name may lie there."""
    prefix = put(SHARDED, tmp_path)
    left = Path(prefix + DATA)
    left.write_text("of an older save")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, _, err = run(capsys, "strip", prefix, "--in-place")
    assert (code, f"{left.name} is in its way" in err) == (2, True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("verb", ["strip", "verify"])
def test_a_state_file_of_several_names_them(verb: str, tmp_path: Path, capsys) -> None:
    """Who names it wanted one of these."""
    for name in "abcd":
        put(PLAIN, tmp_path, name)
    path = state(tmp_path, 'model_checkpoint_path: "b"', 'all_model_checkpoint_paths: "a"')
    words = ["-o", str(tmp_path / "out")] if verb == "strip" else [str(tmp_path / "a")]
    code, out, err = run(capsys, verb, path, *words)
    assert (code, out) == (2, "")
    assert (
        err == f"tfstrip: {path}: this state file names 2 checkpoints: {tmp_path}/b, {tmp_path}/a; name one of them\n"
    )
    state(tmp_path, 'model_checkpoint_path: "a"', *(f'all_model_checkpoint_paths: "{name}"' for name in "bcd"))
    assert "4 checkpoints" in (err := run(capsys, verb, path, *words)[2])
    assert f"{tmp_path}/c and 1 more; name" in err


def test_names_of_a_state_file_that_are_not_here_are_told(tmp_path: Path, capsys) -> None:
    """All of them, or all but one: what was not looked at must not pass for checked."""
    path = state(tmp_path, 'model_checkpoint_path: "a"', 'all_model_checkpoint_paths: "/far/b"')
    code, _, err = run(capsys, "check", path)
    assert (code, err) == (0, f"tfstrip: {path}: this state file names a, b, which are not here\n")
    code, _, err = run(capsys, "strip", path, "-o", str(tmp_path / "out"))
    assert (code, err.endswith("names a, b, which are not here; name a checkpoint that is here\n")) == (2, True)
    prefix = put(PLAIN, tmp_path, "a")
    code, model = judge(capsys, path)
    assert (code, model["path"], model["verdict"]) == (1, prefix, "residue")
    assert model["notes"] == ["the file checkpoint beside it names b, which is not here"]


@pytest.mark.parametrize("size", [0, 2000])
@pytest.mark.parametrize("voucher", ["meta", "state"])
@pytest.mark.parametrize("named", ["", ".meta", "folder"])
def test_a_cut_off_file_of_the_first_version_is_unreadable(
    named: str, voucher: str, size: int, tmp_path: Path, capsys
) -> None:
    """Its end, which says what it is, is gone; the .meta file beside it or the state file says it instead."""
    prefix = put(FIRST, tmp_path / "in")
    os.truncate(prefix, size)
    if voucher == "meta":
        os.remove(tmp_path / "in" / "checkpoint")
    elif named == "":
        os.remove(f"{prefix}.meta")
    code, model = judge(capsys, str(tmp_path / "in") if named == "folder" else prefix + named)
    assert (code, model["verdict"], model["path"]) == (2, "unreadable", prefix)
    assert "cut off" in model["message"]


def test_what_nobody_vouches_for_is_no_checkpoint(tmp_path: Path, capsys) -> None:
    """Zeros and empty files are everywhere, and so are Unity's .meta files."""
    for name, data in {"empty": b"", "zeros": bytes(900), "video": b"\0\0\0\x18ftypmp42" + bytes(500)}.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / f"{name}.meta").write_text("\nfileFormatVersion: 2\n")
    assert found(capsys, str(tmp_path)) == [(str(tmp_path), "not-a-model")]
    prefix = put(BARE, tmp_path, "m")
    os.truncate(prefix, 700)
    assert found(capsys, prefix) == [(prefix, "not-a-model")]


@pytest.fixture
def both(tmp_path: Path) -> str:
    """Two checkpoints under one prefix, one of each version of the format."""
    put(PLAIN, tmp_path / "both", "x")
    return put(BARE, tmp_path / "both", "x")


def test_two_checkpoints_of_one_prefix_are_both_found(both: str, capsys) -> None:
    """By the prefix, by the folder, by all the files; each is stripped by the name that it is reported under."""
    expected = sorted([(both, "residue"), (f"{both}.index", "residue")])
    folder = os.path.dirname(both)
    every = [os.path.join(folder, name) for name in os.listdir(folder)]
    for words in ([both], [folder], every, [f"{both}.index", both]):
        assert sorted(found(capsys, *words)) == expected
    assert found(capsys, f"{both}{DATA}") == [(f"{both}.index", "residue")]
    assert run(capsys, "strip", "--in-place", f"{both}.index")[0] == 0
    assert sorted(found(capsys, folder)) == [(both, "residue"), (f"{both}.index", "clean")]
    assert run(capsys, "strip", "--in-place", both)[0] == 0
    assert sorted(found(capsys, folder)) == [(both, "clean"), (f"{both}.index", "clean")]


@pytest.mark.parametrize("force", [[], ["--force"]], ids=["asked", "forced"])
@pytest.mark.parametrize(("source", "there"), [(PLAIN, BARE), (BARE, PLAIN)], ids=["second", "first"])
def test_none_is_written_over_the_name_of_the_other_version(source, there, force, tmp_path: Path, capsys) -> None:
    """They would hide each other."""
    put(there, tmp_path, "t")
    before = sorted(os.listdir(tmp_path))
    code, _, err = run(capsys, "strip", *force, "-o", str(tmp_path / "t"), "--", source.prefix)
    assert (code, "remove that first, or name another target" in err) == (2, True)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("verb", ["strip", "verify"])
def test_a_folder_says_which_models_are_in_it(verb: str, tmp_path: Path, capsys) -> None:
    """One: the command is for that. Several: the first of them, and how many more."""
    folder = str(tmp_path / "in")
    words = ["-o", str(tmp_path / "out")] if verb == "strip" else [folder]
    first = put(PLAIN, tmp_path / "in", "a")
    code, _, err = run(capsys, verb, folder, *words)
    assert (code, err) == (
        2, f"tfstrip: {folder}: this is a directory that holds one model; run the command on {first}\n"
    )  # fmt: skip
    for name in "bcde":
        put(PLAIN, tmp_path / "in", name)
    err = run(capsys, verb, folder, *words)[2]
    assert f"holds 5 models: {folder}/a, {folder}/b, {folder}/c and 2 more; name one of them" in err
    (tmp_path / "empty").mkdir()
    assert "a directory without any model" in run(capsys, verb, str(tmp_path / "empty"), *words)[2]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("model.ckpt", "model.ckpt-100"), ("model.ckpt-1O0", "model.ckpt-100"),
        ("model.ckpt-100.meta", "model.ckpt-100"),
        ("model.ckpt-100.data-00000-of-00009", "model.ckpt-100"), ("modle.keras", "model.keras"),
        ("model.h5", ""), ("other", ""),
    ],
)  # fmt: skip
def test_what_may_have_been_meant_is_suggested(typed: str, meant: str, tmp_path: Path, capsys) -> None:
    """TensorFlow numbers its checkpoints, so that the name one gave is none."""
    put(PLAIN, tmp_path, "model.ckpt-100")
    (tmp_path / "model.keras").touch()
    code, model = judge(capsys, str(tmp_path / typed))
    assert (code, model["verdict"]) == (2, "unreadable")
    assert model["message"].endswith(
        f"did you mean {tmp_path}/{meant}?" if meant else "check the path and its permissions"
    )


@pytest.mark.parametrize("ending", [".index", ".meta", DATA])
@pytest.mark.parametrize("source", [PLAIN, BARE], ids=["second", "first"])
def test_a_target_is_a_prefix_and_none_of_its_files(source, ending: str, tmp_path: Path, capsys) -> None:
    """Else x.index.index is written, which nobody finds."""
    target = str(tmp_path / "x")
    code, _, err = run(capsys, "strip", "-o", target + ending, "--", source.prefix)
    assert (code, err.endswith(f"name its prefix: -o {target}\n")) == (2, True)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("made", [False, True])
def test_a_target_that_ends_in_a_slash_is_no_name(made: bool, tmp_path: Path, capsys) -> None:
    """Neither for a checkpoint nor for a file."""
    if made:
        (tmp_path / "new").mkdir()
    keras = Path(__file__).parents[1] / "examples" / "digits" / "digits.keras"
    for source, example in ((PLAIN.prefix, "-3801"), (str(keras), "digits.keras")):
        code, _, err = run(capsys, "strip", "-o", f"{tmp_path}/new/", "--", source)
        assert (code, err.endswith(f"such as {tmp_path}/new/{example}\n")) == (2, True)
    assert not (tmp_path / "new").exists() or not os.listdir(tmp_path / "new")


def test_what_becomes_of_the_state_file_is_told(tmp_path: Path, capsys) -> None:
    """Written beside a target, left alone where it names others, cleaned in place, and silent where nothing is done."""
    prefix = put(one("tf2.15", "state_absolute"), tmp_path / "in")
    for name, said in (("a", "was written and names it"), ("b", "was left alone: it names other checkpoints")):
        assert f"the file checkpoint beside it {said}" in run(capsys, "strip", prefix, "-o", str(tmp_path / name))[2]
    assert "checkpoint" not in run(capsys, "strip", prefix, "-o", str(tmp_path / "a"), "--force")[2]
    assert "names only what is here now" in run(capsys, "strip", prefix, "--in-place")[2]
    assert "state" not in run(capsys, "strip", prefix, "--in-place")[2]


def test_a_folder_of_checkpoints_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing it for each of them is quadratic in their number."""
    for number in range(20):
        put(PLAIN, tmp_path, f"x-{number}")
    listed: list[object] = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or listdir(path))
    assert len(list(discover.discover([str(tmp_path)]))) == 20
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    listed.clear()
    assert len(list(discover.discover(files))) == 20
    assert len(listed) <= 1


def test_verify_says_what_is_odd_about_its_two_models(tmp_path: Path, capsys) -> None:
    """The same model twice, by whatever name, compares nothing; the wrong order looks like added tensors."""
    prefix = put(NAMED, tmp_path)
    assert run(capsys, "strip", prefix, "-o", str(tmp_path / "out"))[0] == 0
    code, _, err = run(capsys, "verify", prefix, f"{prefix}.meta")
    assert (code, "both paths name the same model" in err) == (0, True)
    code, _, err = run(capsys, "verify", str(tmp_path / "out"), prefix)
    assert (code, "name the original first" in err) == (1, True)
    assert run(capsys, "verify", prefix, str(tmp_path / "out"))[::2] == (0, "")
    shutil.copy(f"{prefix}.meta", tmp_path / "lone.meta")
    code, out, err = run(capsys, "verify", prefix, str(tmp_path / "lone.meta"))
    assert "the formats differ: tf-checkpoint-names and meta-graph" in out
    assert (code, err) == (1, "")
    assert tfstrip_core.verify(prefix, str(tmp_path / "out")).notes == ()


def test_the_variables_of_a_saved_model_are_no_checkpoint_without_an_index(tmp_path: Path, capsys) -> None:
    """Whichever of its files is named, it is the SavedModel that lacks something."""
    folder = Made().write(tmp_path / "model")
    os.remove(f"{folder}/variables/variables.index")
    code, model = judge(capsys, f"{folder}/variables/variables{DATA}")
    assert (code, model["path"], model["format"], model["verdict"]) == (2, str(folder), "saved-model", "unreadable")
