"""What a release rewrites: exactly one line of each action.yml, and nothing at all if anything is odd."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".github" / "pin_images.py"
IMAGE = "ghcr.io/tfstrip/tfstrip"
ACTION, CHECK = "sha256:" + "0a" * 32, "sha256:" + "1b" * 32
REFERENCES = {
    "action.yml": f"docker://{IMAGE}@{ACTION}",
    "check/action.yml": f"docker://{IMAGE}-check@{CHECK}",
    "plan/action.yml": f"docker://{IMAGE}-check@{CHECK}",
}

spec = importlib.util.spec_from_file_location("pin_images", SCRIPT)
assert spec
assert spec.loader
pin_images = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pin_images)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files as they are in the repository."""
    for name in REFERENCES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def contents(tree: Path) -> dict[str, bytes]:
    return {name: (tree / name).read_bytes() for name in REFERENCES}


def test_each_file_changes_in_one_line_and_stays_a_docker_action(tree: Path) -> None:
    """The line with the image is another, every other byte is what it was."""
    before = contents(tree)
    pin_images.pin_all(IMAGE, (ACTION, CHECK), str(tree))
    for name, after in contents(tree).items():
        old, new = before[name].splitlines(keepends=True), after.splitlines(keepends=True)
        changed = [(was, now) for was, now in zip(old, new, strict=True) if was != now]
        assert [now for _, now in changed] == [f"  image: {REFERENCES[name]}\n".encode()]
        was, now = yaml.safe_load(before[name]), yaml.safe_load(after)
        assert now["runs"] == {**was["runs"], "using": "docker", "image": REFERENCES[name]}
        assert {**was, "runs": None} == {**now, "runs": None}


def test_from_the_command_line_as_the_release_runs_it(tree: Path) -> None:
    """In the checkout itself, with an interpreter that has nothing but the standard library."""
    command = [sys.executable, "-I", str(SCRIPT), IMAGE, ACTION, CHECK]
    subprocess.run(command, cwd=tree, check=True)
    assert all(reference.encode() in contents(tree)[name] for name, reference in REFERENCES.items())
    again = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert again.stderr.startswith("pin_images: action.yml: 0 lines say ")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_remark_behind_the_line_goes_and_line_ends_stay(ending: str) -> None:
    """The remark is about the Dockerfile; the lines around it are not touched."""
    text = ending.join(["runs:", "  image: Dockerfile # zizmor: ignore[unpinned-images]", "  using: docker", ""])
    expected = ending.join(["runs:", "  image: docker://x", "  using: docker", ""])
    assert pin_images.pin(text, "Dockerfile", "x") == expected


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "sha256:",
        "latest",
        "0a" * 32,
        "sha256:" + "0A" * 32,
        "sha256:" + "0a" * 31,
        "sha256:" + "0a" * 33,
        "sha512:" + "0a" * 32,
        ACTION + "\n",
        f"{ACTION}\n{CHECK}",
        f"{IMAGE}@{ACTION}",
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_no_digest_is_refused(tree: Path, digest: str, place: int) -> None:
    """Whichever of the two it is, neither file is written."""
    before, digests = contents(tree), [ACTION, CHECK]
    digests[place] = digest
    with pytest.raises(pin_images.NotPinned, match="not a digest"):
        pin_images.pin_all(IMAGE, tuple(digests), str(tree))
    assert contents(tree) == before


def test_one_digest_for_both_is_refused(tree: Path) -> None:
    """The gate must not become the Action by a slip."""
    with pytest.raises(pin_images.NotPinned, match="two images"):
        pin_images.pin_all(IMAGE, (ACTION, ACTION), str(tree))


@pytest.mark.parametrize(
    "image",
    [
        "",
        "tfstrip/tfstrip",
        "ghcr.io/tfstrip",
        "ghcr.io/TFstrip/tfstrip",
        f"{IMAGE}:0.2.0",
        f"{IMAGE} ",
        "ghcr.io/a/b/c",
    ],
)
def test_what_is_no_image_of_the_repository_is_refused(tree: Path, image: str) -> None:
    """The registry takes small letters only; a tag beside the digest would be believed by readers."""
    with pytest.raises(pin_images.NotPinned, match="not ghcr"):
        pin_images.pin_all(image, (ACTION, CHECK), str(tree))


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("count", [0, 2])
def test_a_line_that_is_absent_or_there_twice_is_refused(tree: Path, name: str, count: int) -> None:
    """And the other file, which is as it should be, is not written either."""
    lines = (tree / name).read_text().splitlines(keepends=True)
    (line,) = [line for line in lines if line.startswith("  image: ")]
    (tree / name).write_text("".join(part if part != line else line * count for part in lines))
    before = contents(tree)
    with pytest.raises(pin_images.NotPinned, match=f"^{name}: {count} lines say"):
        pin_images.pin_all(IMAGE, (ACTION, CHECK), str(tree))
    assert contents(tree) == before


@pytest.mark.parametrize(
    "line",
    ["  # image: Dockerfile", "  image: Dockerfile.check", "  image: Dockerfile or so", "  image:\n  Dockerfile"],
)
def test_what_only_looks_like_the_line_is_not_it(line: str) -> None:
    """A remark, another file, a sentence, a key without its value."""
    with pytest.raises(pin_images.NotPinned, match="0 lines say"):
        pin_images.pin(f"runs:\n{line}\n", "Dockerfile", "x")


def test_wrong_arguments_get_the_usage() -> None:
    """Exit code 2 and how it is called."""
    assert pin_images.main([IMAGE, ACTION]) == 2
    assert pin_images.main([IMAGE, ACTION, CHECK, ".", "."]) == 2
