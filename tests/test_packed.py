"""The fixtures' archives: what is unpacked is what was packed, once for all processes, and never written to."""

import subprocess
import sys
from pathlib import Path

import packed
import pytest
from conftest import FIXTURES, MODELS, one


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_unpacked_is_what_was_packed(tmp_path: Path) -> None:
    """Names, folders and bytes come back, and a second packing of the same files is the same archive."""
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "a.h5").write_bytes(b"\x89HDF" * 1000)
    (source / "inner" / "b").write_bytes(b"")
    first, second = tmp_path / "first" / packed.NAME, tmp_path / "second" / packed.NAME
    for archive in (first, second):
        archive.parent.mkdir()
        packed.pack(source, archive)
        (source / "a.h5").touch()
    assert first.read_bytes() == second.read_bytes()
    assert files_of(packed.unpacked(first, tmp_path / "cache")) == files_of(source)


def test_processes_that_start_together_get_the_same_whole_folder(tmp_path: Path) -> None:
    """Several processes unpack one archive at once: each sees every file, and nothing is left beside the folder."""
    archive = Path(FIXTURES, "data", "keras3.15.1", packed.NAME)
    code = (
        "import sys; from pathlib import Path; import packed\n"
        "folder = packed.unpacked(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(folder, sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()))\n"
    )
    command = [sys.executable, "-c", code, str(archive), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, cwd=FIXTURES, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0] * 4
    (line,) = said
    here = Path(one("keras3.15.1", "sequential.keras").path).parent
    assert line.split()[1] == str(sum(len(content) for content in files_of(here).values()))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [here.name]


@pytest.mark.parametrize("name", ["a.h5", "new.h5"])
def test_a_write_among_the_unpacked_files_is_seen(tmp_path: Path, name: str) -> None:
    """A file that was changed, and one that was put beside the others, are both found; before, there is none."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.h5").write_bytes(b"weights")
    packed.pack(source, source / packed.NAME)
    folder = packed.unpacked(source / packed.NAME, tmp_path / "cache")
    assert packed.touched(folder) == []
    (folder / name).write_bytes(b"weights")
    assert folder / name in packed.touched(folder)


def test_every_archive_has_an_index_of_all_its_models() -> None:
    """Each model file of the archives is in its writer's index, and each one of the index is there."""
    for archive in sorted(FIXTURES.glob(f"data/*/{packed.NAME}")):
        mine = [model for model in MODELS if model.writer == archive.parent.name]
        folder = Path(mine[0].path).parent
        told = {path for model in mine for path in (*model.files, str(model.io))}
        assert {str(path) for path in folder.rglob("*") if path.is_file()} == told
