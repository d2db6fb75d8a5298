"""Cut off and flipped files: one sentence and nothing written, or a result that is proven equal. Never a crash."""

import os
import random
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import FILES, one
from damage import Case, case, flip, run_batch
from hostile import WEIGHTS, assert_refused, judge, unpacked
from independent import weights

TWO_WRITERS = [model for model in FILES if model.writer in ("keras3.15.1", "tf2.15")]
FLIPPED = [
    one("tf2.15", "sequential.h5"),
    one("keras3.15.1", "sequential.h5"),
    one("keras3.15.1", "sequential.keras"),
    one("tf2.15", "sequential.keras"),
]
RECOGNISABLE = 64  # of a file cut off before that, nothing tells that it was to be a model


def outcomes(cases: list[Case]) -> list[tuple[Case, list]]:
    """Run the cases in two processes at once."""
    with ThreadPoolExecutor(2) as pool:
        halves = pool.map(lambda part: list(run_batch(part)), (cases[::2], cases[1::2]))
        return [answer for half in halves for answer in half]


def broken(answers: list[tuple[Case, list]]) -> list[str]:
    """Return what promises were broken, with the case that shows it."""
    return [f"{wanted}: {problem}" for wanted, answer in answers for problem in answer[3]]


def lengths(size: int, dice: random.Random) -> set[int]:
    """Return lengths to cut a file to: none, a little, its structures' own, at random, and one byte less."""
    return {0, 40, 96, 512, size // 2, size - 1, dice.randrange(RECOGNISABLE, size)}


def test_files_that_were_cut_off_are_never_passed():
    """Else a download that broke off passes for a clean model, or strip makes half a model of it."""
    dice = random.Random(1)
    cases = [
        case(model.path, cut=length)
        for model in TWO_WRITERS
        for length in sorted(lengths(os.path.getsize(model.path), dice))
    ]
    assert len(cases) > 700
    answers = outcomes(cases)
    assert len(answers) == len(cases)
    assert broken(answers) == []
    passed = [wanted for wanted, answer in answers if answer[0] != 2 and wanted["cut"] >= RECOGNISABLE]
    assert passed == []
    assert [wanted for wanted, answer in answers if answer[2] != 2] == []


@pytest.mark.parametrize("model", FLIPPED, ids=lambda model: model.id)
def test_every_length_of_a_small_file_is_unreadable(model):
    """Else there is one place to cut at which the rest looks whole."""
    size = os.path.getsize(model.path)
    answers = outcomes([case(model.path, cut=length) for length in range(RECOGNISABLE, size, size // 12)])
    assert broken(answers) == []
    assert {(answer[0], answer[1], answer[2]) for _, answer in answers} == {(2, "unreadable", 2)}


@pytest.mark.parametrize("model", FLIPPED, ids=lambda model: model.id)
def test_one_flipped_bit_is_noticed_or_kept(model):
    """Else a bit that rotted crashes the program, or becomes a result that is not the source's."""
    dice = random.Random(f"flip {model.id}")
    answers = outcomes([flip(model.path, os.path.getsize(model.path), dice) for _ in range(24)])
    assert broken(answers) == []
    assert 2 in {answer[2] for _, answer in answers}


@pytest.mark.parametrize("model", [model for model in FLIPPED if model.path.endswith(".keras")], ids=lambda m: m.id)
def test_flipped_bit_under_a_right_checksum(model):
    """Else a hostile archive, whose checksums are right, crashes the program where a rotten one is only unreadable."""
    dice = random.Random(f"inside {model.id}")
    size = next(len(entry.data) for entry in unpacked(model.path) if entry.name == WEIGHTS)
    answers = outcomes([flip(model.path, size, dice, inside=True) for _ in range(24)])
    assert broken(answers) == []
    assert {answer[2] for _, answer in answers} == {0, 2}


@pytest.mark.parametrize("model", [FLIPPED[0], FLIPPED[2]], ids=lambda model: model.id)
def test_text_type_that_is_none(model):
    """Else one bit in the type of an attribute, a text that is neither text nor sequence, crashes HDF5 as it copies."""
    inside = model.path.endswith(".keras")
    data = weights(model.path)
    places = [found.start() + 1 for found in re.finditer(rb"\x19[\x01\x11\x21][\0\x01]\0\x10\0\0\0", data)]
    assert len(places) > 3
    cases = [case(model.path, inside=inside, edits=[[place, mask]]) for place in places for mask in (2, 8)]
    assert broken(outcomes(cases)) == []


@pytest.mark.parametrize("byte", [0x00, 0xFF, 0x0D], ids=["zeros", "ones", "returns"])
def test_overwritten_stretches(byte):
    """Else a hole that a file system left after a crash is taken for data of the model's structure."""
    dice = random.Random(byte)
    cases = [
        case(model.path, fill=(dice.randrange(os.path.getsize(model.path)), 2 ** dice.randrange(2, 12), byte))
        for model in FLIPPED
        for _ in range(8)
    ]
    assert broken(outcomes(cases)) == []


@pytest.mark.parametrize("file", ["sequential.h5", "sequential.keras"])
def test_empty_file_is_no_model(file, tmp_path, capsys):
    """Else an empty placeholder under a model's name is an error in every commit."""
    path = tmp_path / file
    path.touch()
    code, model = judge(capsys, str(path))
    assert (code, model["verdict"]) == (0, "not-a-model")


@pytest.mark.parametrize("model", FLIPPED, ids=lambda model: model.id)
def test_half_a_file_keeps_the_whole_contract(model, tmp_path, capsys):
    """Else one of the commands shows a traceback, or leaves something behind."""
    path = tmp_path / os.path.basename(model.path)
    with open(model.path, "rb") as file:
        path.write_bytes(file.read(os.path.getsize(model.path) * 2 // 3))
    assert "cut off" in assert_refused(capsys, str(path), "unreadable")


def test_git_converted_line_ends_are_unreadable(tmp_path, capsys):
    """Else a model that git damaged, all its carriage returns gone, is passed without a word."""
    for model in FLIPPED:
        with open(model.path, "rb") as file:
            data = file.read()
        path = tmp_path / "model"
        path.write_bytes(data.replace(b"\r\n", b"\n"))
        code, found = judge(capsys, str(path))
        if data.startswith(b"PK"):
            assert (code, found["verdict"]) in ((2, "unreadable"), (2, "refused"))
        else:
            assert (code, found["verdict"]) in ((2, "unreadable"), (0, "not-a-model"))
