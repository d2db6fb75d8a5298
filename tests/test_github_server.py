"""The test server for releases is strict: each of these fails if it let pass what GitHub does not."""

import hashlib
import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from github_server import Fault, GitHub

REPO = "/api/v3/repos/acme/models"
DRAFT = {"tag_name": "v1", "name": "One", "body": "", "draft": True}
BYTES = b"model" * 1000


@pytest.fixture
def hub() -> Iterator[GitHub]:
    """A server of which nothing unknown was asked."""
    with GitHub(repository="acme/models") as server:
        yield server
        assert server.unknown == []


def pygithub(hub: GitHub, **options: Any) -> Any:
    """Return PyGithub's view of the repository, without retries unless asked for."""
    github = pytest.importorskip("github", reason="needs PyGithub")
    options = {"retry": None, "seconds_between_requests": 0, "seconds_between_writes": 0, **options}
    return github.Github(auth=github.Auth.Token(hub.token), base_url=hub.url, **options)


@pytest.fixture
def repo(hub: GitHub) -> Iterator[Any]:
    """The repository as PyGithub has it."""
    with pygithub(hub) as client:
        yield client.get_repo("acme/models")


def call(hub: GitHub, method: str, path: str, body: Any = None, token: str | None = "", **headers: str) -> Any:
    """Send one request, of bytes or of JSON, on a connection of its own; give status, JSON or bytes, and headers."""
    send: dict[str, str] = {key.replace("_", "-"): value for key, value in headers.items()}
    if token is not None:
        send["Authorization"] = f"Bearer {token or hub.token}"
    address = urlsplit(path)
    connection = http.client.HTTPConnection("127.0.0.1", address.port or hub.server.server_port, timeout=20)
    try:
        data = body if isinstance(body, bytes | None) else json.dumps(body)
        target = address._replace(scheme="", netloc="").geturl()
        connection.request(method, target, data, send)
        response = connection.getresponse()
        got = response.read()
        is_json = "json" in response.headers.get("Content-Type", "")
        return response.status, json.loads(got) if is_json else got, response.headers
    finally:
        connection.close()


def upload(hub: GitHub, release: Any, name: str, content: bytes = BYTES, **more: Any) -> Any:
    """Upload to the address that the release gives."""
    _, about, _ = call(hub, "GET", f"{REPO}/releases/{release.id}")
    path = f"{about['upload_url'].split('{')[0]}?name={name}"
    return call(hub, "POST", path, content, **{"Content_Type": "application/octet-stream", **more})


def error_of(answer: Any) -> tuple[int, str, str]:
    """Return status, code and field of an answer that says what is invalid."""
    status, payload, _ = answer
    assert payload["message"] == "Validation Failed"
    assert payload["documentation_url"]
    return status, payload["errors"][0]["code"], payload["errors"][0].get("field", "")


def names(release: Any) -> list[tuple[str, str]]:
    return [(asset.name, asset.state) for asset in release.assets]


def until(happened: Callable[[], Any]) -> None:
    """Wait for what the server does in its own time."""
    deadline = time.monotonic() + 10
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.01)


# ---- the flow that is right


def test_a_release_is_drafted_filled_compared_and_published(hub: GitHub, repo, tmp_path) -> None:
    """The whole way of an uploader, as PyGithub goes it."""
    (tmp_path / "m.keras").write_bytes(BYTES)
    release = repo.create_git_release("v1", "One", "notes", draft=True, target_commitish="main")
    assert (release.draft, hub.tags) == (True, {})
    asset = release.upload_asset(str(tmp_path / "m.keras"), content_type="application/zip")
    assert (asset.name, asset.state, asset.size, asset.content_type) == ("m.keras", "uploaded", 5000, "application/zip")
    assert asset.digest == f"sha256:{hashlib.sha256(BYTES).hexdigest()}"
    published = release.update_release("One", "notes", draft=False, make_latest="true")
    assert [a.id for a in repo.get_release("v1").assets] == [asset.id]
    assert repo.get_latest_release().id == published.id
    assert hub.tags == {"v1": hub.branches["main"]}
    assert (hub.releases[0].make_latest, hub.releases[0].assets[0].content) == ("true", BYTES)


def test_two_uploads_share_a_connection(hub: GitHub) -> None:
    """A refused body is read to its end, so that it is not taken for the next request."""
    release = hub.add_release("v1", draft=True)
    path = f"/api/uploads/repos/acme/models/releases/{release.id}/assets?name=a"
    connection = http.client.HTTPConnection("127.0.0.1", hub.server.server_port)
    try:
        for token, status in [("wrong", 401), (hub.read_token, 403), (hub.token, 201), (hub.token, 422)]:
            connection.request("POST", path, BYTES, {"Authorization": f"token {token}", "Content-Type": "a/b"})
            local = connection.sock.getsockname()
            response = connection.getresponse()
            response.read()
            assert response.status == status
            assert connection.sock.getsockname() == local
    finally:
        connection.close()


# ---- who may do what


@pytest.mark.parametrize("token", [None, "ghs_wrong"], ids=["absent", "unknown"])
@pytest.mark.parametrize("path", [REPO, f"{REPO}/releases", "/api/v3/repos/other/models"])
def test_a_bad_token_is_401(hub: GitHub, token, path: str) -> None:
    """Even for reading, and before anything is said about the repository."""
    status, payload, _ = call(hub, "GET", path, token=token)
    assert (status, payload["message"]) == (401, "Bad credentials")


def test_a_bad_token_does_not_upload(hub: GitHub) -> None:
    """The upload root asks for the token as the API does."""
    release = hub.add_release("v1", draft=True)
    path = f"/api/uploads/repos/acme/models/releases/{release.id}/assets?name=a"
    assert call(hub, "POST", path, BYTES, token=None)[0] == 401
    assert release.assets == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/releases", DRAFT),
        ("PATCH", "/releases/{release}", {"name": "x"}),
        ("DELETE", "/releases/{release}", None),
        ("PATCH", "/releases/assets/{asset}", {"name": "x"}),
        ("DELETE", "/releases/assets/{asset}", None),
    ],
)
def test_a_read_token_writes_nothing(hub: GitHub, method: str, path: str, body) -> None:
    """403, in the words by which a user can tell that the permission is missing."""
    release = hub.add_release("v1", assets={"a": b"1"})
    where = REPO + path.format(release=release.id, asset=release.assets[0].id)
    status, payload, _ = call(hub, method, where, body, token=hub.read_token)
    assert (status, payload["message"]) == (403, "Resource not accessible by integration")
    assert (len(hub.releases), release.name, names(release)) == (1, None, [("a", "uploaded")])


def test_a_read_token_uploads_nothing(hub: GitHub) -> None:
    """The upload root tells the tokens apart too."""
    release = hub.add_release("v1")
    path = f"/api/uploads/repos/acme/models/releases/{release.id}/assets?name=a"
    assert call(hub, "POST", path, BYTES, token=hub.read_token, Content_Type="a/b")[0] == 403
    assert release.assets == []


def test_what_is_not_there_is_404(hub: GitHub) -> None:
    """Another repository, release, asset, tag."""
    paths = [REPO + rest for rest in ("/releases/1", "/releases/assets/1", "/releases/tags/v1", "/git/ref/tags/v1")]
    for path in ["/api/v3/repos/acme/other", "/api/v3/repos/acme/other/releases", *paths]:
        assert call(hub, "GET", path)[:2][0] == 404, path
    assert call(hub, "POST", "/api/v3/repos/acme/other/releases", DRAFT)[0] == 404
    assert call(hub, "GET", f"{REPO}/commits/nowhere")[0] == 422


def test_what_the_server_does_not_know_is_remembered() -> None:
    """So that a test can assert that nothing else was asked for."""
    with GitHub() as hub:
        for method, path in [("GET", "/"), ("GET", f"{REPO}/tags"), ("PUT", f"{REPO}/releases"), ("ODD", REPO)]:
            assert call(hub, method, path)[0] == 404
            assert hub.unknown[-1] == (method, path)
        assert [status for _, _, status in hub.requests] == [404] * 4


# ---- drafts


def test_a_draft_is_not_found_by_its_tag(hub: GitHub) -> None:
    """It is in the list alone, and has no tag."""
    draft = hub.add_release("v1", draft=True)
    assert call(hub, "GET", f"{REPO}/releases/tags/v1")[0] == 404
    assert call(hub, "GET", f"{REPO}/releases/latest")[0] == 404
    assert call(hub, "GET", f"{REPO}/git/ref/tags/v1")[0] == 404
    assert [found["id"] for found in call(hub, "GET", f"{REPO}/releases")[1]] == [draft.id]


def test_a_reader_sees_no_draft(hub: GitHub) -> None:
    """Not in the list, nor by its number, nor its assets."""
    draft = hub.add_release("v1", draft=True, assets={"a": b"1"})
    assert call(hub, "GET", f"{REPO}/releases", token=hub.read_token)[1] == []
    for path in (f"{draft.id}", f"{draft.id}/assets", f"assets/{draft.assets[0].id}"):
        assert call(hub, "GET", f"{REPO}/releases/{path}", token=hub.read_token)[0] == 404
        assert call(hub, "GET", f"{REPO}/releases/{path}")[0] == 200


def test_a_tag_may_have_several_drafts_but_one_publication(hub: GitHub) -> None:
    """As on the real one: the second draft is found out only when it is published."""
    first, second = (call(hub, "POST", f"{REPO}/releases", DRAFT)[1] for _ in range(2))
    assert first["id"] != second["id"]
    assert call(hub, "PATCH", f"{REPO}/releases/{first['id']}", {"draft": False})[0] == 200
    answer = call(hub, "PATCH", f"{REPO}/releases/{second['id']}", {"draft": False})
    assert error_of(answer) == (422, "already_exists", "tag_name")
    assert hub.releases[1].draft


def test_publishing_creates_the_tag_where_it_was_asked_for(hub: GitHub) -> None:
    """At the commit of the draft; a tag that is there is not moved."""
    sha = "a" * 40
    hub.tags["v2"] = "b" * 40
    for tag in ("v1", "v2"):
        made = call(hub, "POST", f"{REPO}/releases", {**DRAFT, "tag_name": tag, "target_commitish": sha})[1]
        assert tag == "v2" or tag not in hub.tags
        call(hub, "PATCH", f"{REPO}/releases/{made['id']}", {"draft": False})
    assert hub.tags == {"v1": sha, "v2": "b" * 40}
    assert call(hub, "GET", f"{REPO}/git/ref/tags/v1")[1]["object"]["sha"] == sha
    assert call(hub, "GET", f"{REPO}/commits/v1")[1]["sha"] == sha


def test_a_release_of_its_own_tag_exists_once(hub: GitHub) -> None:
    """The race of matrix jobs: the later create is refused."""
    assert call(hub, "POST", f"{REPO}/releases", {**DRAFT, "draft": False})[0] == 201
    again = call(hub, "POST", f"{REPO}/releases", {**DRAFT, "draft": False})
    assert error_of(again) == (422, "already_exists", "tag_name")
    assert len(hub.releases) == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"draft": "true"}, 422),
        ({"prerelease": 1}, 422),
        ({"name": 1}, 422),
        ({"make_latest": True}, 422),
        ({"make_latest": "yes"}, 422),
        ({"make_latest": "legacy"}, 201),
        ({"tag_name": ""}, 422),
        ({"tag_name": "a b"}, 422),
        ({"tag_name": "a/b"}, 201),
        ({"target_commitish": "no-such-branch"}, 422),
        ({"assets": []}, 422),
        ({"name": None, "body": None}, 201),
    ],
    ids=str,
)
def test_the_fields_of_a_release_are_checked(hub: GitHub, change: dict[str, Any], status: int) -> None:
    """Their types, their values, and that they exist at all; when creating and when changing."""
    assert call(hub, "POST", f"{REPO}/releases", {**DRAFT, **change})[0] == status
    assert len(hub.releases) == (status == 201)
    release = hub.add_release("v0", draft=True)
    assert call(hub, "PATCH", f"{REPO}/releases/{release.id}", change)[0] == (200 if status == 201 else 422)


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"[]", 400), (None, 400), ({"name": "x"}, 422)], ids=str)
def test_a_release_needs_json_with_a_tag(hub: GitHub, body, status: int) -> None:
    """Nothing is guessed."""
    assert call(hub, "POST", f"{REPO}/releases", body)[0] == status
    assert hub.releases == []


@pytest.mark.parametrize(("length", "status"), [("abc", 400), ("-1", 400), ("5, 5", 400)])
def test_a_length_that_is_none_is_refused(hub: GitHub, length: str, status: int) -> None:
    """And the connection closed, as nobody can tell where the next request begins."""
    got = call(hub, "POST", f"{REPO}/releases", DRAFT, Content_Length=length)
    assert (got[0], got[2]["Connection"]) == (status, "close")


def test_a_deleted_release_leaves_its_tag(hub: GitHub) -> None:
    """And nothing else."""
    release = hub.add_release("v1", assets={"a": b"1"})
    assert call(hub, "DELETE", f"{REPO}/releases/{release.id}")[:2] == (204, b"")
    assert (hub.releases, list(hub.tags)) == ([], ["v1"])
    assert call(hub, "GET", f"{REPO}/releases/assets/{release.assets[0].id}")[0] == 404


# ---- uploads


def test_uploads_go_to_the_upload_root_only() -> None:
    """The API's own root, where somebody would guess the address, has no such thing."""
    with GitHub() as hub:
        release = hub.add_release("v1", draft=True)
        path = f"{REPO}/releases/{release.id}/assets?name=a"
        assert call(hub, "POST", path, BYTES, Content_Type="a/b")[0] == 404
        assert (release.assets, hub.unknown) == ([], [("POST", path)])
        _, about, _ = call(hub, "GET", f"{REPO}/releases/{release.id}")
        assert about["upload_url"].endswith(
            f"/api/uploads/repos/acme/models/releases/{release.id}/assets{{?name,label}}"
        )


def test_the_same_name_again_is_refused(hub: GitHub) -> None:
    """The first file stays as it is."""
    release = hub.add_release("v1", draft=True)
    assert upload(hub, release, "a")[0] == 201
    assert error_of(upload(hub, release, "a", b"other")) == (422, "already_exists", "name")
    assert release.assets[0].content == BYTES


def test_two_at_once_get_one_name(hub: GitHub) -> None:
    """The name is taken from the first byte on, not from the last."""
    release = hub.add_release("v1", draft=True)
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.append(upload(hub, release, "a")[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [201] + [422] * 7
    assert names(release) == [("a", "uploaded")]


def test_a_starter_blocks_its_name_until_it_is_deleted(hub: GitHub) -> None:
    """It looks like an asset, without a digest, and cannot be downloaded."""
    release = hub.add_release("v1")
    hub.faults.append(fault := Fault("POST", r"name=a$", "starter", after=1000))
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        upload(hub, release, "a")
    assert fault.times == 0
    starter = call(hub, "GET", f"{REPO}/releases/{release.id}/assets")[1][0]
    assert (starter["name"], starter["state"], starter["digest"]) == ("a", "starter", None)
    assert call(hub, "GET", starter["url"], Accept="application/octet-stream")[0] == 404
    assert call(hub, "GET", starter["browser_download_url"], token=None)[0] == 404
    assert error_of(upload(hub, release, "a")) == (422, "already_exists", "name")
    assert call(hub, "DELETE", starter["url"])[0] == 204
    assert upload(hub, release, "a")[0] == 201


def test_a_client_that_goes_away_leaves_a_starter(hub: GitHub) -> None:
    """Without any fault: half a body, then nothing."""
    release = hub.add_release("v1", draft=True)
    head = f"POST /api/uploads/repos/acme/models/releases/{release.id}/assets?name=a HTTP/1.1\r\nHost: x\r\n"
    head += f"Authorization: token {hub.token}\r\nContent-Type: a/b\r\nContent-Length: 5000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", hub.server.server_port)) as client:
        client.sendall(head.encode() + BYTES[:2500])
    until(lambda: hub.requests)
    assert [status for _, _, status in hub.requests] == [0]
    assert names(release) == [("a", "starter")]


@pytest.mark.parametrize(
    ("size", "answer"),
    [
        (0, (422, "custom", "size")),
        (1, 201),
        (999, 201),
        (1000, (422, "custom", "size")),
        (5000, (422, "custom", "size")),
    ],
)
def test_a_file_is_neither_empty_nor_as_big_as_the_limit(size: int, answer) -> None:
    """Smaller than the limit, not equal to it; refused without leaving a starter."""
    with GitHub(size_limit=1000) as hub:
        release = hub.add_release("v1", draft=True)
        got = upload(hub, release, "a", b"x" * size)
        assert (got[0] if answer == 201 else error_of(got)) == answer
        assert len(release.assets) == (answer == 201)


def test_pygithub_cannot_upload_an_empty_file(hub: GitHub, repo, tmp_path) -> None:
    """It sends both a length and chunks, and gets the answer that it gets from GitHub."""
    github = pytest.importorskip("github", reason="needs PyGithub")
    (tmp_path / "empty").touch()
    release = repo.create_git_release("v1", "One", "", draft=True)
    with pytest.raises(github.GithubException, match="Bad Content-Length") as refused:
        release.upload_asset(str(tmp_path / "empty"), content_type="a/b")
    assert (refused.value.status, hub.releases[0].assets) == (400, [])


def test_a_release_has_so_many_assets_and_no_more() -> None:
    """The one too many is refused."""
    with GitHub(max_assets=2) as hub:
        release = hub.add_release("v1", draft=True, assets={"a": b"1", "b": b"2"})
        assert error_of(upload(hub, release, "c")) == (422, "custom", "file_count")
        assert len(release.assets) == 2


def test_an_upload_needs_a_length_a_type_and_a_name(hub: GitHub) -> None:
    """Each of them, or nothing is stored."""
    release = hub.add_release("v1", draft=True)
    path = f"/api/uploads/repos/acme/models/releases/{release.id}/assets"
    assert call(hub, "POST", f"{path}?name=a", BYTES, Content_Type="a/b", Transfer_Encoding="chunked")[0] == 411
    assert call(hub, "POST", f"{path}?name=a", BYTES)[0] == 400
    assert error_of(call(hub, "POST", path, BYTES, Content_Type="a/b")) == (422, "missing_field", "name")
    assert release.assets == []


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("my%20model%20(1).keras", "my.model.1.keras"),
        ("a~b%3Ac.h5", "a.b.c.h5"),
        ("a%2Bb-c_d%40e.h5", "a+b-c_d@e.h5"),
        (".hidden", "default.hidden"),
        ("caf%C3%A9.h5", "cafe.h5"),
        ("SHA256SUMS", "SHA256SUMS"),
    ],
)
def test_odd_characters_in_a_name_become_dots(hub: GitHub, sent: str, stored: str) -> None:
    """So that an uploader that looks for the name that it sent does not find it."""
    release = hub.add_release("v1", draft=True)
    assert upload(hub, release, sent)[1]["name"] == stored
    assert error_of(upload(hub, release, sent)) == (422, "already_exists", "name")


def test_renaming_is_refused_where_the_name_is_taken(hub: GitHub) -> None:
    """And works where it is not, keeping the bytes: the safe way to replace a file."""
    release = hub.add_release("v1", assets={"a": b"old", "a.new": b"new"})
    old, new = (f"{REPO}/releases/assets/{asset.id}" for asset in release.assets)
    assert error_of(call(hub, "PATCH", new, {"name": "a"})) == (422, "already_exists", "name")
    assert call(hub, "PATCH", new, {"name": 1})[0] == 422
    assert call(hub, "DELETE", old)[0] == 204
    assert call(hub, "PATCH", new, {"name": "a", "label": ""})[0] == 200
    assert [(asset.name, asset.content) for asset in release.assets] == [("a", b"new")]


def test_an_old_server_has_no_digests() -> None:
    """The key is absent, as it is on older versions of GitHub Enterprise Server."""
    with GitHub(digests=False) as hub:
        release = hub.add_release("v1", draft=True)
        assert "digest" not in upload(hub, release, "a")[1]
        assert "digest" not in call(hub, "GET", f"{REPO}/releases/{release.id}")[1]["assets"][0]


# ---- lists


def test_lists_come_in_pages(hub: GitHub, repo) -> None:
    """Of 30 unless asked for more, of 100 at the most, newest first, with links to the others."""
    for number in range(205):
        hub.add_release(f"v{number}", draft=True)
    assert len(call(hub, "GET", f"{REPO}/releases")[1]) == 30
    _, first, headers = call(hub, "GET", f"{REPO}/releases?per_page=200")
    assert [found["tag_name"] for found in first] == [f"v{number}" for number in range(204, 104, -1)]
    links = headers["Link"].split(", ")
    assert [link.split("; ")[1] for link in links] == ['rel="next"', 'rel="last"']
    _, last, headers = call(hub, "GET", links[1].split(">")[0][1:])
    assert [found["tag_name"] for found in last] == [f"v{number}" for number in range(4, -1, -1)]
    assert [link.split("; ")[1] for link in headers["Link"].split(", ")] == ['rel="prev"', 'rel="first"']
    assert [found.tag_name for found in repo.get_releases()][-1] == "v0"


def test_assets_come_in_pages_too(hub: GitHub, repo) -> None:
    """The one looked for may be on the second."""
    release = hub.add_release("v1", assets={f"a{number}": b"1" for number in range(31)})
    assert len(call(hub, "GET", f"{REPO}/releases/{release.id}/assets")[1]) == 30
    assert [asset.name for asset in repo.get_release("v1").get_assets()][-1] == "a30"
    assert "Link" not in call(hub, "GET", f"{REPO}/releases/{release.id}/assets?per_page=31")[2]


# ---- immutable releases


def test_a_published_release_is_locked() -> None:
    """Where the repository says so: no asset comes, goes or changes, and of the release only its texts do."""
    with GitHub(immutable=True) as hub:
        release = hub.add_release("v1", draft=True)
        assert upload(hub, release, "a")[0] == 201
        about = f"{REPO}/releases/{release.id}"
        assert call(hub, "PATCH", about, {"draft": False})[1]["immutable"] is True
        status, payload, _ = upload(hub, release, "b")
        assert (status, payload["message"]) == (422, "Cannot upload assets to an immutable release.")
        asset = f"{REPO}/releases/assets/{release.assets[0].id}"
        assert call(hub, "DELETE", asset)[0] == 422
        assert call(hub, "PATCH", asset, {"name": "c"})[0] == 422
        for change in ({"draft": True}, {"tag_name": "v2"}, {"prerelease": True}, {"target_commitish": "a" * 40}):
            field = next(iter(change)).replace("draft", "state")
            assert error_of(call(hub, "PATCH", about, change)) == (422, "custom", field)
        assert call(hub, "PATCH", about, {"name": "x", "body": "y", "draft": False, "tag_name": "v1"})[0] == 200
        assert names(release) == [("a", "uploaded")]


def test_the_tag_of_an_immutable_release_is_burnt() -> None:
    """Deleting the release does not give it back; a draft is told so when it is published."""
    with GitHub() as hub:
        release = hub.add_release("v1", immutable=True)
        assert call(hub, "DELETE", f"{REPO}/releases/{release.id}")[0] == 204
        status, again, _ = call(hub, "POST", f"{REPO}/releases", DRAFT)
        assert status == 201
        answer = call(hub, "PATCH", f"{REPO}/releases/{again['id']}", {"draft": False})
        assert error_of(answer) == (422, "custom", "tag_name")


# ---- downloads


def test_the_token_is_refused_where_the_download_is_redirected_to(hub: GitHub) -> None:
    """Another host, a signed address: with the token of the API it is 400, without the signature 403."""
    asset = hub.add_release("v1", draft=True, assets={"a": BYTES}).assets[0]
    path = f"{REPO}/releases/assets/{asset.id}"
    status, nothing, headers = call(hub, "GET", path, Accept="application/octet-stream")
    assert (status, nothing) == (302, b"")
    assert urlsplit(headers["Location"]).hostname != urlsplit(hub.url).hostname
    assert call(hub, "GET", headers["Location"])[0] == 400
    assert call(hub, "GET", headers["Location"].split("?")[0], token=None)[0] == 403
    assert call(hub, "GET", headers["Location"], token=None)[1] == BYTES
    assert call(hub, "GET", path)[1]["name"] == "a"


def test_a_client_that_takes_its_token_along_gets_no_download(hub: GitHub) -> None:
    """As urllib does; what keeps it to one host, as requests does, gets the bytes."""
    asset = hub.add_release("v1", draft=True, assets={"a": BYTES}).assets[0]
    headers = {"Authorization": f"Bearer {hub.token}", "Accept": "application/octet-stream"}
    url = f"{hub.url}/repos/acme/models/releases/assets/{asset.id}"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20)
    refused.value.close()
    assert refused.value.code == 400
    requests = pytest.importorskip("requests")
    assert requests.get(url, headers=headers, timeout=20).content == BYTES


def test_anybody_downloads_what_is_published_and_nobody_a_draft(hub: GitHub) -> None:
    """At the address for browsers, which a draft has too and which leads nowhere."""
    for draft, status in ((True, 404), (False, 200)):
        release = hub.add_release(f"v/{draft}", draft=draft, assets={"a": BYTES})
        url = call(hub, "GET", f"{REPO}/releases/{release.id}")[1]["assets"][0]["browser_download_url"]
        assert ("/untagged-" in url) is draft
        got = call(hub, "GET", url, token=None)
        assert got[0] == status
        assert (got[1] == BYTES) is not draft
        assert call(hub, "GET", f"/acme/models/releases/download/v/{draft}/a", token=None)[0] == status


# ---- faults


def test_a_status_fault_does_nothing_and_counts(hub: GitHub) -> None:
    """It lets `skip` requests pass, answers `times`, and then is over; others are not touched."""
    fault = Fault("POST", r"/releases$", "status", status=502, times=2, skip=1, retry_after=7, message="Server Error")
    hub.faults.append(fault)
    got = [call(hub, "POST", f"{REPO}/releases", DRAFT) for _ in range(2)]
    assert call(hub, "GET", f"{REPO}/releases")[0] == 200
    got += [call(hub, "POST", f"{REPO}/releases", DRAFT) for _ in range(2)]
    assert [status for status, _, _ in got] == [201, 502, 502, 201]
    assert (got[1][2]["Retry-After"], got[0][2]["Retry-After"]) == ("7", None)
    assert (got[1][1]["message"], fault.times, len(hub.releases)) == ("Server Error", 0, 2)
    assert [status for _, _, status in hub.requests] == [201, 502, 200, 502, 201]


@pytest.mark.parametrize("kind", ["status-after", "drop-after"])
def test_what_was_carried_out_may_look_as_if_it_was_not(hub: GitHub, kind: str) -> None:
    """The release is there, and the client is told of an error or of nothing at all."""
    hub.faults.append(Fault("POST", r"/releases$", kind, status=502))
    if kind == "status-after":
        assert call(hub, "POST", f"{REPO}/releases", DRAFT)[0] == 502
    else:
        with pytest.raises(http.client.RemoteDisconnected):
            call(hub, "POST", f"{REPO}/releases", DRAFT)
    assert [release.tag_name for release in hub.releases] == ["v1"]


def test_a_dropped_upload_stores_nothing(hub: GitHub) -> None:
    """The connection ends after so many bytes of a body that is larger than what the network buffers."""
    release = hub.add_release("v1", draft=True)
    hub.faults.append(fault := Fault("POST", "name=a", "drop", after=100_000))
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        upload(hub, release, "a", bytes(20_000_000))
    assert (fault.times, release.assets, hub.requests[-1][2]) == (0, [], 0)
    assert upload(hub, release, "a")[0] == 201


def test_pygithub_meets_a_dropped_connection(hub: GitHub, repo, tmp_path) -> None:
    """It raises what requests raises, and what is left is a starter in the list."""
    requests = pytest.importorskip("requests")
    (tmp_path / "m.keras").write_bytes(BYTES)
    release = repo.create_git_release("v1", "One", "", draft=True)
    hub.faults.append(Fault("POST", "m.keras", "starter", after=10))
    with open(tmp_path / "m.keras", "rb") as file, pytest.raises(requests.exceptions.ConnectionError):
        release.upload_asset_from_memory(file, len(BYTES), "m.keras")
    assert [(asset.name, asset.state) for asset in release.get_assets()] == [("m.keras", "starter")]


def test_pygithub_retries_after_the_wait_that_is_asked_for(hub: GitHub) -> None:
    """Its own retry sends the create again, once the seconds of our header are over."""
    github = pytest.importorskip("github", reason="needs PyGithub")
    with pygithub(hub, retry=github.GithubRetry(total=2, backoff_factor=0)) as client:
        repo = client.get_repo("acme/models")
        hub.faults.append(Fault("POST", r"/releases$", "status", status=502, retry_after=1))
        before = time.monotonic()
        repo.create_git_release("v1", "One", "", draft=True)
        assert time.monotonic() - before >= 1
    assert [status for method, _, status in hub.requests if method == "POST"] == [502, 201]
    assert len(hub.releases) == 1


def test_a_corrupt_upload_has_the_digest_of_what_was_stored(hub: GitHub) -> None:
    """One bit is another, the size is right, and only a comparison finds it."""
    release = hub.add_release("v1", draft=True)
    hub.faults.append(Fault("POST", "name=a", "corrupt"))
    payload, asset = upload(hub, release, "a")[1], release.assets[0]
    different = [a ^ b for a, b in zip(asset.content, BYTES, strict=True) if a != b]
    assert different == [1]
    assert payload["digest"] == asset.digest == f"sha256:{hashlib.sha256(asset.content).hexdigest()}"
    assert payload["state"] == "uploaded"


def test_a_stalled_answer_comes_late(hub: GitHub) -> None:
    """After so many seconds; what was asked for is done meanwhile."""
    hub.faults.append(Fault("POST", r"/releases$", "stall", after=0.3))
    before = time.monotonic()
    assert call(hub, "POST", f"{REPO}/releases", DRAFT)[0] == 201
    assert time.monotonic() - before >= 0.3


def test_leaving_ends_what_is_under_way() -> None:
    """A stalled answer, a connection kept alive: neither keeps the tests waiting."""
    with GitHub() as hub:
        hub.faults.append(fault := Fault("GET", "releases", "stall", after=30))
        connection = http.client.HTTPConnection("127.0.0.1", hub.server.server_port)
        connection.request("GET", f"{REPO}/releases")
        until(lambda: fault.times == 0)
        before = time.monotonic()
    connection.close()
    assert time.monotonic() - before < 10


def test_a_big_upload_needs_no_memory(hub: GitHub) -> None:
    """It goes to the disk piece by piece: the digest is there without the content having been held."""
    release = hub.add_release("v1", draft=True)
    piece, count = bytes(1 << 20), 64
    path = f"/api/uploads/repos/acme/models/releases/{release.id}/assets?name=big"
    connection = http.client.HTTPConnection("127.0.0.1", hub.server.server_port)
    length = {"Content-Length": str(count << 20), "Content-Type": "a/b", "Authorization": f"Bearer {hub.token}"}
    try:
        connection.request("POST", path, (piece for _ in range(count)), length)
        payload = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    assert (payload["size"], payload["digest"]) == (64 << 20, f"sha256:{hashlib.sha256(bytes(64 << 20)).hexdigest()}")


# ---- tags, notes, and the faults that publishing is tested with


def test_a_tag_is_asked_for_by_its_ref(hub: GitHub) -> None:
    """A plain tag names a commit; an annotated one a tag object, which is asked for by its id and names the commit."""
    hub.tags.update({"v1": "a" * 40, "v/2": "b" * 40})
    hub.annotated["b" * 40] = "c" * 40
    for tag, kind, sha in (("v1", "commit", "a" * 40), ("v/2", "tag", "b" * 40)):
        found = call(hub, "GET", f"{REPO}/git/ref/tags/{tag}")[1]
        assert (found["ref"], found["object"]["type"], found["object"]["sha"]) == (f"refs/tags/{tag}", kind, sha)
    assert call(hub, "GET", f"{REPO}/git/tags/{'b' * 40}")[1]["object"]["sha"] == "c" * 40
    assert call(hub, "GET", f"{REPO}/git/tags/{'a' * 40}")[0] == 404
    assert call(hub, "GET", f"{REPO}/git/ref/tags/v")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_notes_have_an_end(hub: GitHub, method: str) -> None:
    """125,000 characters are taken, one more is refused, in GitHub's words, and nothing of it is stored."""
    release = hub.add_release("v0", draft=True, body="old")
    path = f"{REPO}/releases" + (f"/{release.id}" if method == "PATCH" else "")
    answer = call(hub, method, path, {**DRAFT, "body": "x" * 125_001})
    assert error_of(answer) == (422, "custom", "body")
    assert "maximum is 125000 characters" in answer[1]["errors"][0]["message"]
    assert [found.body for found in hub.releases] == ["old"]
    assert call(hub, method, path, {**DRAFT, "body": "\u00e9" * 125_000})[0] in (200, 201)


def test_a_rename_is_cleaned_and_may_be_to_its_own_name(hub: GitHub) -> None:
    """Twice the same is no clash; a starter's name is taken as any other's; odd characters become dots."""
    release = hub.add_release("v1", assets={"a": b"1"})
    hub.new_asset(release, "b", 3, "a/b", "")
    path = f"{REPO}/releases/assets/{release.assets[0].id}"
    assert call(hub, "PATCH", path, {"name": "a"})[0] == 200
    assert error_of(call(hub, "PATCH", path, {"name": "b"})) == (422, "already_exists", "name")
    assert call(hub, "PATCH", path, {"name": "c (1)"})[1]["name"] == "c.1"
    assert call(hub, "PATCH", path, {"name": "x"}, token=hub.read_token)[0] == 403


def test_a_fault_of_any_method_has_its_headers(hub: GitHub) -> None:
    """The star takes every request; what GitHub says of limits is in headers."""
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}
    hub.faults.append(Fault("*", "", "status", status=403, times=2, headers=headers, retry_after="tomorrow"))
    for method, path in (("GET", REPO), ("POST", f"{REPO}/releases")):
        status, _, got = call(hub, method, path, DRAFT if method == "POST" else None)
        assert (status, got["X-RateLimit-Remaining"], got["Retry-After"]) == (403, "0", "tomorrow")
    assert hub.releases == []


def test_an_answer_can_come_byte_by_byte(hub: GitHub) -> None:
    """What was asked for is done, and the answer takes as long as it has bytes."""
    hub.faults.append(Fault("POST", r"/releases$", "drip", after=0.0005))
    before = time.monotonic()
    status, release, _ = call(hub, "POST", f"{REPO}/releases", DRAFT)
    assert time.monotonic() - before >= 0.0005 * len(json.dumps(release))
    assert (status, len(hub.releases)) == (201, 1)
