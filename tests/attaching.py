"""Attach files to a release of the strict server, whose answers may be changed, and look at what it holds then."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from github_http import Answer, Handler
from github_server import GitHub

from tfstrip_core.release import checksums, retries, transfer
from tfstrip_core.release import github as publishing


class Mangled(GitHub):
    """The strict server behind something that changes its answers: `mangle` may return bytes for a whole reply."""

    mangle: Callable[[Handler, Answer], Answer | bytes] = staticmethod(lambda handler, answer: answer)


@contextmanager
def mangled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mangled]:
    """Start such a server for the block."""
    send = Handler.send

    def changed(handler: Handler, answer: Answer) -> None:
        reply = handler.hub.mangle(handler, answer)
        if isinstance(reply, bytes):
            handler.close_connection = True
            handler.wfile.write(reply.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        else:
            send(handler, reply)

    monkeypatch.setattr(Handler, "send", changed)
    with Mangled() as server:
        yield server


def two_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write two small files to attach; nobody waits between tries."""
    monkeypatch.setattr(retries, "PAUSES", (0.0, 0.1, 0.2))
    monkeypatch.setattr(transfer, "_BETWEEN_WRITES", None)
    for name, content in {"a.bin": b"a" * 3000, "b.bin": b"b" * 70000}.items():
        (folder / name).write_bytes(content)
    return [str(folder / "a.bin"), str(folder / "b.bin")]


def attach(
    hub: GitHub,
    paths: Sequence[str],
    tag: str = "v1",
    *,
    token: str = "",
    tell: Callable[[str], None] = print,
    wishes: publishing.Wishes | None = None,
    **changes: Any,
) -> publishing.Attached:
    """Attach the files to the release of the tag, as a job with this environment does."""
    environment = {"GITHUB_API_URL": hub.url, "GITHUB_REPOSITORY": "acme/models", "GITHUB_SHA": hub.branches["main"]}
    place = publishing.place(tag, {**environment, **changes})
    with publishing.connect(place, token or hub.token, tell) as connection:
        return publishing.attach(connection, as_assets(paths), wishes or publishing.Wishes())


def as_assets(paths: Sequence[str]) -> list[publishing.Asset]:
    """The files of one folder as they are."""
    folder = os.path.dirname(paths[0])
    return publishing.assets(folder, [(os.path.basename(path), checksums.sha256(path)) for path in paths])


def stored(hub: GitHub) -> dict[str, bytes]:
    """What the one release of the server holds in full."""
    (release,) = hub.releases
    return {asset.name: asset.content for asset in release.assets if asset.state == "uploaded"}


def writes(hub: GitHub) -> list[tuple[str, str]]:
    """The requests that change something, by method and the last word of the path."""
    return [(method, path.partition("?")[0].rpartition("/")[2]) for method, path, _ in hub.requests if method != "GET"]
