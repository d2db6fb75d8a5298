"""A second opinion: the same flow against an independent emulator of GitHub, which is lenient but not ours."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import github
import pytest
from conftest import need

from tfstrip_core.release import checksums, transfer
from tfstrip_core.release import github as publishing

pytestmark = pytest.mark.e2e
HERE = Path(__file__).parent / "emulate"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The emulator with an empty repository; yields its address, a token and the repository's name."""
    need("node", "npm")
    cache = tmp_path_factory.mktemp("emulate")
    shutil.copy(HERE / "package.json", cache)
    install = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(cache)]
    subprocess.run(install, check=True, capture_output=True)
    command = ["node", str(HERE / "start.mjs"), str(cache)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdin
        yield json.loads(process.stdout.readline())
        process.stdin.close()
        process.wait(timeout=20)


def test_the_flow_is_accepted_by_another_implementation(
    emulator: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Create the draft, upload, list, publish, and find it all there again; it keeps sizes and no bytes or digests."""
    paths = [str(tmp_path / name) for name in ("a.keras", "manifest.json")]
    for path in paths:
        Path(path).write_bytes(path.encode() * 50)
    local = {Path(path).name: checksums.sha256(path) for path in paths}
    sizes = {Path(path).stat().st_size: Path(path).name for path in paths}
    monkeypatch.setattr(transfer, "_read_back", lambda _hub, _number, size: local[sizes[size]])
    environment = {"GITHUB_API_URL": emulator["url"], "GITHUB_REPOSITORY": emulator["repository"]}
    place = publishing.place("v1", environment)

    def attach(*, draft: bool) -> publishing.Attached:
        with publishing.connect(place, emulator["token"]) as connection:
            wanted = publishing.assets(str(tmp_path), list(local.items()))
            return publishing.attach(connection, wanted, publishing.Wishes(draft=draft))

    assert attach(draft=True).uploaded == ("a.keras", "manifest.json")
    assert attach(draft=False).skipped == ("a.keras", "manifest.json")
    with github.Github(auth=github.Auth.Token(emulator["token"]), base_url=emulator["url"]) as client:
        (release,) = client.get_repo(emulator["repository"]).get_releases()
        assert not release.draft
        assert {asset.name: asset.size for asset in release.get_assets()} == {
            Path(path).name: Path(path).stat().st_size for path in paths
        }
