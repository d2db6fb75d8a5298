"""Publishing where the API, the network, another job or the machine is not what it should be."""

import hashlib
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import github
import pytest
import requests
from attaching import Mangled, as_assets, attach, mangled, stored, two_files, writes
from github_http import Answer, Handler
from github_server import Fault
from github_store import Asset

from tfstrip_core import signals
from tfstrip_core.errors import CannotPublish, UsageError
from tfstrip_core.release import github as publishing
from tfstrip_core.release import retries, transfer

A, B = b"a" * 3000, b"b" * 70000


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mangled]:
    with mangled(monkeypatch) as server:
        yield server


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two small files to attach; nobody waits between tries."""
    return two_files(tmp_path, monkeypatch)


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every host of hub.test is this machine."""
    real = socket.getaddrinfo

    def here(host: Any, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if str(host).endswith("hub.test") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", here)


# Answers that make no sense: one sentence, whatever PyGithub makes of them.


def whole(status: str, body: bytes, *headers: str) -> Callable[[Handler, Answer], bytes]:
    """The same reply to everything."""
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers])
    return lambda handler, answer: head.encode("latin-1") + b"\r\n\r\n" + body


def lists(payload: Any) -> Callable[[Handler, Answer], Answer]:
    """This instead of each list."""
    return lambda handler, answer: Answer(200, payload) if isinstance(answer.payload, list) else answer


def around(handler: Handler, answer: Answer) -> bytes:
    """A redirect to another address of the same host, for ever."""
    place = f"{handler.hub.url}/loop{len(handler.hub.requests) % 2}"
    return f"HTTP/1.1 301 Moved\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()


def assets_say(change: Callable[[dict[str, Any]], object]) -> Callable[[Handler, Answer], Answer]:
    """The lists of assets with something else in each."""

    def mangle(handler: Handler, answer: Answer) -> Answer:
        for item in answer.payload if isinstance(answer.payload, list) else []:
            change(item)
        return answer

    return mangle


def odd_rate(handler: Handler, answer: Answer) -> Answer:
    return Answer(answer.status, answer.payload, {"X-RateLimit-Remaining": "many", "X-RateLimit-Limit": "5000"})


def odd_release(handler: Handler, answer: Answer) -> Answer:
    if isinstance(answer.payload, dict) and "upload_url" in answer.payload:
        answer.payload = {**answer.payload, "url": 7, "id": None}
    return answer


ODD = {
    "a page to sign in": whole("200 OK", b"<html>sign in</html>", "Content-Type: text/html"),
    "JSON that is cut": whole("200 OK", b'{"id": 47', "Content-Type: application/json"),
    "another host": whole("301 Moved", b"", "Location: http://other.invalid/api/v3/x"),
    "circles": around,
    "202 for ever": whole("202 Accepted", b""),
    "an error that is a list": whole("502 Bad", b'["x"]', "Content-Type: application/json"),
    "an error whose message is a number": whole("403 No", b'{"message": 1}', "Content-Type: application/json"),
    "errors that are a number": whole("422 No", b'{"message": "m", "errors": 7}', "Content-Type: application/json"),
    "an odd rate": odd_rate,
    "a refused upload whose error is a list": lambda handler, answer: (
        whole("403 No", b'["x"]')(handler, answer) if "name=" in handler.path else answer
    ),
    "a number": lists(5),
    "an object": lists({"message": "no", "documentation_url": "x", "name": "y", "url": "z"}),
    "strings": lists(["name", "url"]),
    "null": lists(None),
    "a release without an address": odd_release,
}


@pytest.mark.parametrize("mangle", ODD.values(), ids=list(ODD))
def test_an_odd_answer_is_one_sentence(
    mangle: Any, hub: Mangled, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What PyGithub raises is not the user's business; nothing is published."""
    monkeypatch.setattr(github.Consts, "PROCESSING_202_WAIT_TIME", 0)
    hub.mangle = mangle
    with pytest.raises(CannotPublish) as raised:
        attach(hub, files)
    assert len(str(raised.value).splitlines()) == 1
    assert all(release.draft for release in hub.releases)


@pytest.mark.parametrize("words", ["\u00b2", "-1", "1e9", "soon", "9" * 400])
def test_an_odd_wait_is_none(words: str) -> None:
    """Not everything that Python takes for digits is a number."""
    assert retries.wait(github.GithubException(503, {}, {"retry-after": words})) == 0


@pytest.mark.parametrize(
    "api",
    ["api.example.com", "ftp://example.com", "http://[::1", "http://example.com:999999", "http://", "http://a\\@b"],
)
def test_an_odd_api_address_is_a_mistake_in_the_environment(api: str, hub: Mangled, files: list[str]) -> None:
    """It is refused before anybody is asked for it."""
    with pytest.raises(UsageError, match="GITHUB_API_URL"):
        attach(hub, files, GITHUB_API_URL=api)


def test_a_port_that_cannot_be_is_one_sentence(hub: Mangled, files: list[str]) -> None:
    """Five digits are not always a port."""
    with pytest.raises(CannotPublish, match="GitHub"):
        attach(hub, files, GITHUB_API_URL="http://127.0.0.1:99999/api/v3")


@pytest.mark.parametrize("words", ["https://x/\n::add-mask::a", "https://x/\ud800", "https://x/##[add-mask]a"])
def test_a_release_s_address_is_one_line_of_text(words: str, hub: Mangled, files: list[str]) -> None:
    """It goes to the log, to the outputs and into the summary."""

    def mangle(handler: Handler, answer: Answer) -> Answer:
        if isinstance(answer.payload, dict) and "html_url" in answer.payload:
            answer.payload["html_url"] = words
        return answer

    hub.mangle = mangle
    url = attach(hub, files).url
    assert len(url.encode().splitlines()) == 1
    assert "##[" not in url


@pytest.mark.parametrize(
    "page", [[], [{"id": 1, "tag_name": "other", "name": "x", "state": "new"}]], ids=["empty", "full"]
)
def test_pages_that_never_end_are_left(page: list[Any], hub: Mangled, files: list[str]) -> None:
    """Each list says that there is another page: it is asked for a hundred of them at most."""
    asked: list[str] = []

    def mangle(handler: Handler, answer: Answer) -> Answer | bytes:
        if not isinstance(answer.payload, list):
            return answer
        asked.append(handler.path)
        if len(asked) > 500:
            return b""  # so that this test ends
        return Answer(200, page, {"Link": f'<{hub.root}{handler.path}>; rel="next"'})

    hub.mangle = mangle
    with pytest.raises(CannotPublish, match=r"a\.bin is not complete"):
        attach(hub, files)
    assert len(asked) <= 500


# The token.


@pytest.mark.parametrize("token", ["ghs_\u20acuro", "ghs_x\r\nX-Header: y"])
def test_a_token_that_no_header_takes_is_a_mistake_in_the_inputs(token: str, hub: Mangled, files: list[str]) -> None:
    """It is not sent, and not shown."""
    with pytest.raises(UsageError, match="the input token") as raised:
        attach(hub, files, token=token)
    assert token not in str(raised.value)
    assert hub.requests == []


def test_no_half_of_the_token_is_shown(hub: Mangled, files: list[str]) -> None:
    """A long message is cut after the token has gone from it, not before."""
    hub.faults.append(Fault("POST", "/releases", "status", status=422, message="x" * 270 + hub.token))
    with pytest.raises(CannotPublish, match="422 xxx") as raised:
        attach(hub, files)
    assert hub.token[:6] not in str(raised.value)


API, GHES = "https://api.github.com", "https://git.example:8443/api/v3"


@pytest.mark.parametrize(
    ("api", "address"),
    [
        (API, "http://uploads.github.com/x"),
        (API, "https://uploads.github.com:8443/x"),
        (API, "https://uploads.github.com.evil.example/x"),
        (API, "https://evil.example/x?https://uploads.github.com/"),
        (API, "https://evil.example\\@uploads.github.com/x"),
        (API, "https://uploads.github.com@evil.example/x"),
        (API, "https://uploads.github.com/x y"),
        (API, "//uploads.github.com/x"),
        (GHES, "https://git.example/api/uploads/x"),
        (GHES, "https://uploads.github.com/x"),
    ],
)
def test_the_token_goes_to_the_api_s_own_hosts_only(
    api: str, address: str, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload address with another scheme, host or port, or one that can be read in two ways, is not used."""
    sent: list[str] = []
    monkeypatch.setattr(requests, "post", lambda url, **more: sent.append(url))
    with pytest.raises(ValueError, match="not its own"):
        send(api, address, files)
    assert sent == []


@pytest.mark.parametrize(
    ("api", "address"),
    [(API, "https://uploads.github.com/repos/a/b/releases/1/assets"), (GHES, "https://git.example:8443/api/uploads/x")],
)
def test_uploads_go_where_github_takes_them(
    api: str, address: str, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """github.com and a server of one's own."""
    sent: list[str] = []
    monkeypatch.setattr(
        requests, "post", lambda url, **more: sent.append(url) or SimpleNamespace(status_code=201, headers=more)
    )
    send(api, address, files)
    assert sent == [address]


def send(api: str, address: str, files: list[str]) -> None:
    place, bound = publishing.Place(api, "acme/models", "v1"), retries.bound(0, print)
    hub: Any = publishing.Hub(place, None, "ghs_secret", bound)  # type: ignore[arg-type]
    release: Any = SimpleNamespace(upload_url=f"{address}{{?name,label}}")
    transfer._send(hub, release, as_assets(files)[0], "a.bin")


def test_reading_back_asks_the_api_whatever_an_asset_says(hub: Mangled, files: list[str]) -> None:
    """An asset's own address is not where the token goes."""
    hub.add_release("v1", draft=True, assets={"a.bin": A})
    stolen = f"{hub.root.replace('127.0.0.1', 'localhost')}/stolen"
    hub.mangle = assets_say(lambda item: item.update(url=stolen, digest="") if "state" in item else None)
    assert attach(hub, files).skipped == ("a.bin",)
    assert not any("stolen" in path for _, path, _ in hub.requests)


def test_a_netrc_is_not_used(hub: Mangled, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password file that an earlier step wrote would replace the token, and go to the storage behind the API."""
    (tmp_path / "netrc").write_text("default login joe password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    hub.digests = False
    attach(hub, files)
    assert not hub.releases[0].draft


# Reading back, and what GitHub says of the bytes.


@pytest.mark.parametrize("kind", ["sha256:{}", "SHA256:{}", "sha512:00{}"])
def test_a_digest_that_is_spelt_otherwise_is_no_clash(kind: str, hub: Mangled, files: list[str]) -> None:
    """Capitals are the same digest; where it is another kind, the bytes are read."""
    hub.add_release("v1", assets={"a.bin": A})
    hub.mangle = assets_say(lambda item: item.update(digest=kind.format(item["digest"][7:].upper())))
    assert attach(hub, files).skipped == ("a.bin",)


def test_reading_back_ends_where_the_asset_does(hub: Mangled, files: list[str]) -> None:
    """A storage that goes on sending is not listened to."""
    hub.add_release("v1", assets={"a.bin": b"x" * 3000})
    hub.digests, sent = False, [0]

    def mangle(handler: Handler, answer: Answer) -> Answer | bytes:
        if not handler.path.startswith("/storage"):
            return answer
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while sent[0] < 200 << 20:  # so that this test ends
            handler.wfile.write(b"x" * (1 << 20))
            sent[0] += 1 << 20
        return b""

    hub.mangle = mangle
    with pytest.raises(CannotPublish, match=r"another a\.bin"):
        attach(hub, files)
    assert sent[0] < 100 << 20


# Uploads.


@pytest.mark.usefixtures("hosts")
def test_an_upload_host_that_stalls_is_left(hub: Mangled, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On github.com uploads go to another host than the API's: it has the same time to answer."""
    for module in (retries, transfer):
        monkeypatch.setattr(module, "TIMEOUT", 1)
    stall = Fault("POST", "name=a.bin", "stall", after=30)
    hub.faults.append(stall)

    def mangle(handler: Handler, answer: Answer) -> Answer:
        text = json.dumps(answer.payload).replace("127.0.0.1", "api.hub.test")
        answer.payload = json.loads(re.sub(r"api(.hub.test:[0-9]+/api/uploads)", r"uploads\1", text))
        return answer

    hub.mangle, start = mangle, time.monotonic()
    attach(hub, files, GITHUB_API_URL=hub.url.replace("127.0.0.1", "api.hub.test"))
    assert time.monotonic() - start < 25
    assert stall.times == 0
    assert stored(hub) == {"a.bin": A, "b.bin": B}


def test_a_corrupt_upload_into_a_published_release_is_removed(hub: Mangled, files: list[str]) -> None:
    """Everybody could download it; what was sent with it goes too, so that the release is as it was."""
    hub.add_release("v1")
    hub.faults.append(Fault("POST", "name=b.bin", "corrupt"))
    with pytest.raises(CannotPublish, match=r"b\.bin has other bytes"):
        attach(hub, files)
    assert hub.releases[0].assets == []


def test_a_file_that_changes_before_it_is_sent_is_not_published(hub: Mangled, files: list[str]) -> None:
    """What GitHub stored is compared with what was proven, not with what lies there by then."""

    def mangle(handler: Handler, answer: Answer) -> Answer:
        if handler.command == "POST" and handler.path.endswith("/releases"):
            Path(files[1]).write_bytes(b"c" * 70000)
        return answer

    hub.mangle = mangle
    with pytest.raises(CannotPublish, match=r"b\.bin has other bytes"):
        attach(hub, files)
    assert hub.releases[0].draft
    assert "b.bin" not in stored(hub)


def test_a_file_that_was_changed_after_its_proof_is_not_sent(files: list[str]) -> None:
    """The digests are those of the proof."""
    folder, digests = os.path.dirname(files[0]), [("a.bin", hashlib.sha256(A).hexdigest())]
    assert publishing.assets(folder, digests)[0].sha256 == digests[0][1]
    Path(files[0]).write_bytes(b"c" * 3000)
    with pytest.raises(CannotPublish, match="changed after it was proven"):
        publishing.assets(folder, digests)


def test_too_many_assets_are_refused_before_anything_is_created() -> None:
    """Also where there is no release yet."""
    with pytest.raises(UsageError, match="1,001 files"):
        publishing.assets("dist", [(f"n{number}", "") for number in range(1001)])


def test_a_release_that_stays_a_draft_is_no_success(hub: Mangled, files: list[str]) -> None:
    """GitHub takes the request to publish, and the answer is a draft."""

    def mangle(handler: Handler, answer: Answer) -> Answer:
        if handler.command == "PATCH":
            answer.payload["draft"] = True
        return answer

    hub.mangle = mangle
    with pytest.raises(CannotPublish, match="still a draft"):
        attach(hub, files)


# Other jobs, and being asked to stop.


@pytest.mark.parametrize("before", [True, False], ids=["before our list", "after our list"])
@pytest.mark.parametrize("published", [True, False], ids=["published", "draft"])
def test_another_job_s_upload_is_waited_for(before: bool, published: bool, hub: Mangled, files: list[str]) -> None:
    """A name that is taken may be an upload on its way: it is not deleted, and counts when it arrives."""
    release = hub.add_release("v1", draft=True)
    theirs: list[Asset] = []
    refused: list[str] = []

    def begin() -> None:
        theirs.append(hub.new_asset(release, "a.bin", len(A), "application/octet-stream", ""))

    def mangle(handler: Handler, answer: Answer) -> Answer:
        if not theirs and handler.path.partition("?")[0].endswith("/assets"):
            begin()
        if answer.status == 422:
            refused.append(handler.path)
            if len(refused) == 2:  # the other job gets ready
                Path(theirs[0].path).write_bytes(A)
                theirs[0].digest, theirs[0].state = f"sha256:{hashlib.sha256(A).hexdigest()}", "uploaded"
                if published:
                    hub.make_public(release)
        return answer

    if before:
        begin()
    hub.mangle = mangle
    attach(hub, files)
    assert len(refused) == 2
    assert stored(hub) == {"a.bin": A, "b.bin": B}
    assert not any(method == "DELETE" for method, _ in writes(hub))


@pytest.mark.parametrize(
    ("moment", "held"),
    [
        (r"GET .*/releases\?", None),
        ("POST .*/releases$", set()),
        ("POST .*name=a.bin", {"a.bin"}),
        ("POST .*name=b.bin", {"a.bin", "b.bin"}),
    ],
)
def test_a_lost_signal_publishes_nothing(
    moment: str, held: set[str] | None, hub: Mangled, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exception can be lost in a callback: the next step that others would see is not taken."""
    monkeypatch.setattr(signals, "_asked", [])

    def mangle(handler: Handler, answer: Answer) -> Answer:
        if re.match(moment, f"{handler.command} {handler.path}"):
            signals._asked.append(signal.SIGTERM)
        return answer

    hub.mangle = mangle
    with pytest.raises(SystemExit) as raised:
        attach(hub, files)
    assert raised.value.code == 128 + signal.SIGTERM
    assert [release.draft for release in hub.releases] == ([] if held is None else [True])
    assert held is None or set(stored(hub)) == held
