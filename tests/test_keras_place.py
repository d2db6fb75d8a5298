"""Keras models of several files put in place: killed at any line, they are whole or known not to be, and made whole."""

import os
import shutil
from pathlib import Path

import pytest
from hostile import run
from keras_made import LAYER_SPANS, PLAIN, directory, shards
from saved_made import files
from test_journal import OTHER
from test_saved_place import SHOP, everything, killed, left
from tfjs_made import copied

from tfstrip_core import inspect, journal, strip

FORMS = ["directory", "shards", "tfjs"]
IN_FOLDER = ("directory", "tfjs")  # a workshop lies in the folder of that name
every_form = pytest.mark.parametrize("form", FORMS)


def made(form: str, folder: Path, name: str) -> str:
    """Write a model called `name` into the folder; return its path."""
    if form == "directory":
        return directory(folder / name, PLAIN)
    if form == "tfjs":
        return copied(folder / name, "functional_adam")
    return shards(folder, LAYER_SPANS, name)


def content(folder: Path) -> dict[str, bytes]:
    return {
        name: data for name, data in files(str(folder)).items() if ".tfstrip-" not in name and name != "other.keras"
    }


@pytest.mark.parametrize(
    ("signal", "again", "last", "step"),
    [(9, 0, "same", 13), (9, 0, "other", 23), (9, 7, "same", 23), (15, 0, "same", 29)],
    ids=["killed", "killed-other", "killed-twice", "terminated"],
)
@every_form
def test_at_any_line_in_place_it_is_whole_or_known_to_be_unfinished(form, signal, again, last, step, tmp_path) -> None:
    """No check judges a mixture, and the next run makes it whole and tidies up."""
    step = int(os.environ.get("TFSTRIP_CRASH_STEP", step))
    source, folder = tmp_path / "source", tmp_path / "folder"
    path = made(form, source, "model")
    shutil.copytree(source, tmp_path / "whole")
    old = content(tmp_path / "whole")
    strip(path.replace(str(source), str(tmp_path / "whole")), in_place=True)
    new = content(tmp_path / "whole")
    path = path.replace(str(source), str(folder))
    beside = folder / "model" if form in IN_FOLDER else folder  # a workshop lies where the files do
    shutil.copy(OTHER.path, str(beside).replace(str(folder), str(source)))
    folder.mkdir()
    first = ["strip", "--in-place", path]
    other = ["strip", "--in-place", str(beside / os.path.basename(OTHER.path))]
    outcomes = killed(source, folder, signal, again, step, first, other, last, check=path)
    met_mixture = 0
    for ended, *states, (code, said), (last_code, last_said), leftover in outcomes:
        before, met, after = (
            {name: data for name, data in state.items() if os.path.basename(name) != os.path.basename(OTHER.path)}
            for state in states
        )
        assert ended in (0, {9: -9, 15: 143}[signal])
        mixed = met not in (old, new)
        met_mixture += mixed
        if signal == 15:
            assert before in (old, new)
        if mixed or "interrupted" in said:
            assert code == 2, said
            assert "interrupted strip" in said
        assert last_code == 0, last_said
        assert leftover == []
        if last == "same":
            assert after == new
        else:
            assert after in (old, new)
            assert mixed <= (after == new)
    assert not met_mixture if signal == 15 else met_mixture or step > 10


@pytest.mark.parametrize(
    ("signal", "last", "step"),
    [(9, "same", 11), (9, "other", 23), (15, "same", 29)],
    ids=["killed", "other", "terminated"],
)
@every_form
def test_at_any_line_the_target_is_whole_or_is_made_so(form: str, signal: int, last: str, step: int, tmp_path) -> None:
    """An older model replaced with --force: it is there, or the new one is, or the next run, of any model, makes it."""
    step = int(os.environ.get("TFSTRIP_CRASH_STEP", step))
    source, folder = tmp_path / "source", tmp_path / "folder"
    path = made(form, source, "model")
    target = made(form, source, "out")
    shutil.copy(OTHER.path, source / "other.keras")
    (tmp_path / "new" / "out" if form == "tfjs" else tmp_path / "new").mkdir(parents=True)
    strip(path, target.replace(str(source), str(tmp_path / "new")))
    old, new = of_target(content(source)), of_target(content(tmp_path / "new"))
    path, target = (item.replace(str(source), str(folder)) for item in (path, target))
    folder.mkdir()
    first = ["strip", path, "-o", target, "--force"]
    other = ["strip", "--in-place", f"{folder}/other.keras"]
    outcomes = killed(source, folder, signal, 0, step, first, other, last, check=target)
    between = 0
    for _, before, met, after, (code, said), (last_code, last_said), leftover in outcomes:
        assert last_code == 0, last_said
        assert leftover == []
        there = of_target(before)
        whole = there in (old, new)
        between += not whole
        assert whole or form != "directory" or there == {}
        if of_target(met) not in (old, new):
            assert code == 2, said
        assert of_target(after) in ([new] if last == "same" else [old, new])
        assert {name: after[name] for name in after if name.startswith("model")} == {
            name: data for name, data in content(source).items() if name.startswith("model")
        }
    assert not between if signal == 15 else between or step > 1  # two lines lie between


def of_target(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in found.items() if name.startswith("out")}


def half(form: str, path: str, new: str) -> Path:
    """Leave the model as a run does that is killed after its first rename; return its workshop."""
    base = "" if form in IN_FOLDER else "model"
    place = Path(path) if form == "directory" else Path(path).parent
    result = Path(new) if form == "directory" else Path(new).parent
    own = ["/model.weights.h5", "/config.json"]
    gone: list[str] = []
    if form != "directory":
        own = sorted((name.removeprefix(base) for name in os.listdir(result)), reverse=True)
        gone = sorted(name.removeprefix(base) for name in set(os.listdir(place)) - set(os.listdir(result)))
    shop = place / SHOP
    (shop / "result").mkdir(parents=True)
    for ending in own:
        shutil.copy(f"{result}/{base}{ending}", f"{shop}/result{ending}")
    journal.commit(str(shop), base, own, gone)
    os.replace(f"{shop}/result{own[0]}", f"{place}/{base}{own[0]}")
    return shop


@every_form
def test_a_half_replaced_model_is_unreadable_and_the_next_strip_completes_it(form: str, tmp_path: Path, capsys) -> None:
    """Whichever of its files is named; inspect and check change nothing."""
    path, new = made(form, tmp_path / "in", "model"), made(form, tmp_path / "new", "model")
    strip(new, in_place=True)
    half(form, path, new)
    before = everything(tmp_path)
    words = {
        "directory": [path, f"{path}/model.weights.h5"],
        "shards": [path, f"{tmp_path}/in/model_00004.weights.h5"],
        "tfjs": [path],
    }[form]
    for word in words:
        for verb in (["check"], ["inspect"], ["verify", new]):
            code, _, err = run(capsys, *verb, word)
            assert code == 2
            assert "an interrupted strip left it half replaced; run tfstrip strip --in-place on it again" in err
    assert everything(tmp_path) == before
    assert run(capsys, "strip", "--in-place", path)[0] == 0
    assert content(tmp_path / "in") == content(tmp_path / "new")
    assert left(tmp_path) == []


@every_form
def test_what_was_saved_since_is_never_overwritten(form: str, tmp_path: Path) -> None:
    """After the crash somebody saved a model there: the journal is void."""
    path, new = made(form, tmp_path / "in", "model"), made(form, tmp_path / "new", "model")
    strip(new, in_place=True)
    half(form, path, new)
    made(form, tmp_path / "again", "model")
    shutil.copytree(tmp_path / "again", tmp_path / "in", dirs_exist_ok=True)
    assert inspect(path).verdict == "residue"
    (tmp_path / "out" / "model" if form == "tfjs" else tmp_path / "out").mkdir(parents=True)
    strip(path, path.replace(str(tmp_path / "in"), str(tmp_path / "out")))
    assert content(tmp_path / "in") == content(tmp_path / "again")
    if form != "directory":
        strip(path, in_place=True)
    assert left(tmp_path / "in") == []


def test_every_own_file_may_be_journaled_and_no_other(tmp_path: Path) -> None:
    """What a strip in place replaces is what the journal's rule lets through."""
    for name in ("/config.json", "/model.weights.h5"):
        assert journal.owns(name)
    for name in ("/metadata.json", "/assets/x", "/README.md", "/.git/config", "/../config.json", "/a/config.json"):
        assert not journal.owns(name)
    (tmp_path / "victim.weights.h5").write_text("precious")
    for ending in ("_1.weights.h5", "_00001.weights.h5.bak", "x.weights.json", "/../victim.weights.h5", "_00001.h5"):
        shop = tmp_path / SHOP
        shop.mkdir()
        journal.commit(str(shop), "victim", [], [ending])
        assert not journal.is_unfinished(str(shop), "victim")
        assert not journal.finish(str(shop))
        shutil.rmtree(shop)


@every_form
def test_what_changes_meanwhile_stops_it(form: str, tmp_path: Path, capsys, monkeypatch) -> None:
    """Somebody saves the model again while the strip is under way: nothing of that is replaced or removed."""
    from tfstrip_core import containers

    path = made(form, tmp_path / "in", "model")
    container = containers.container("tfjs" if form == "tfjs" else f"keras-{form}")
    victim = {
        "directory": Path(path) / "model.weights.h5",
        "shards": tmp_path / "in" / "model_00004.weights.h5",
        "tfjs": Path(path).parent / "group1-shard3of3.bin",
    }[form]
    original, after = container.rewrite, []

    def changing(*words):
        notes = original(*words)
        shutil.copy2(victim, f"{tmp_path}/new")
        os.replace(f"{tmp_path}/new", victim)
        after.append(content(tmp_path / "in"))
        return notes

    monkeypatch.setattr(container, "rewrite", changing)
    code, out, err = run(capsys, "strip", "--in-place", path)
    assert (code, out) == (2, "")
    assert "it changed while it was being stripped" in err
    assert content(tmp_path / "in") == after[0]
    assert left(tmp_path) == []
