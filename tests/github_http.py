"""The strict test server's HTTP: one connection, its requests, and what each of them does."""

import hashlib
import json
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from github_json import API, REPOSITORY_ID, STORAGE, UPLOADS, asset_json, release_json, repository_json
from github_store import Asset, Refused, Release, not_found

CHUNK = 1 << 20


@dataclass
class Answer:
    """What is sent back: JSON, or nothing, or a file."""

    status: int
    payload: Any = None
    headers: dict[str, str] | None = None
    file: Asset | None = None


class Dropped(Exception):
    """The connection ends here: the client closed it, or a fault says so."""


class Handler(BaseHTTPRequestHandler):
    """One connection: reads each request to its end, answers it, and closes where it cannot do that."""

    protocol_version = "HTTP/1.1"
    server_version = "github.com"
    timeout = 60
    disable_nagle_algorithm = True
    server: Any  # its `hub` is the GitHub

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: the tests read hub.requests."""

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # of every method, so that those not known are answered and remembered too
            return self.answer_request
        raise AttributeError(name)

    def answer_request(self) -> None:
        """Answer one request, with its fault if there is one."""
        self.hub, self.left, self.writes = self.server.hub, 0, False
        self.fault = self.hub.take_fault(self.command, self.path)
        try:
            answer = self.answer_or_drop(self.fault.kind if self.fault else "")
            self.skip(self.left)  # a body that nobody read would be taken for the next request
        except (Dropped, ConnectionError, TimeoutError):
            self.close_connection = True
            self.hub.requests.append((self.command, self.path, 0))
            return
        self.hub.requests.append((self.command, self.path, answer.status))
        try:
            self.send(answer)
            if self.close_connection:
                self.linger()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def answer_or_drop(self, kind: str) -> Answer:
        """Do what is asked for, or what the fault says, or both."""
        try:
            self.left = self.body_size()
            if kind == "drop":
                self.skip(int(self.fault.after))
                raise Dropped
            answer = self.fault.answer() if kind == "status" else self.carry_out()
        except Refused as refused:
            answer = Answer(refused.status, refused.payload)
        if kind == "drop-after":
            raise Dropped
        if kind == "stall":
            self.hub.stopping.wait(self.fault.after)
        return self.fault.answer() if kind == "status-after" else answer

    # ---- the bytes

    def body_size(self) -> int:
        """Return the length of the body; one that is not told leaves nothing but to close the connection."""
        lengths = self.headers.get_all("Content-Length", [])
        chunked = "Transfer-Encoding" in self.headers
        if not lengths and (chunked or (self.command == "POST" and self.path.startswith(UPLOADS))):
            self.close_connection = True
            raise Refused(411, "Length Required")
        # Both at once is what PyGithub sends of an empty file; GitHub's answer has these words and no number either.
        if chunked or len(lengths) > 1 or not all(re.fullmatch("[0-9]+", length) for length in lengths):
            self.close_connection = True
            raise Refused(400, "Bad Content-Length: ")
        return int(lengths[0]) if lengths else 0

    def read(self, size: int) -> bytes:
        """Read that much of the body, and not beyond its end."""
        size = min(size, self.left)
        data = self.rfile.read(size)
        self.left -= len(data)
        if len(data) < size:
            raise Dropped
        return data

    def chunks(self, size: int) -> Iterator[bytes]:
        """Read that much of the body piece by piece."""
        end = max(self.left - size, 0)
        while self.left > end:
            yield self.read(min(CHUNK, self.left - end))

    def skip(self, size: int) -> None:
        for _ in self.chunks(size):
            pass

    def linger(self) -> None:
        """Let the client read the answer: closing on bytes that it still sends would make it lose that."""
        with suppress(OSError):  # the client was faster, or takes longer than we wait
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1)
            while self.connection.recv(CHUNK):
                pass

    def json(self) -> Any:
        """Return the body as JSON."""
        try:
            return json.loads(self.read(self.left))
        except ValueError:
            raise Refused(400, "Problems parsing JSON") from None

    def send(self, answer: Answer) -> None:
        headers = dict(answer.headers or {})
        body = b"" if answer.payload is None else json.dumps(answer.payload).encode()
        if body:
            headers["Content-Type"] = "application/json; charset=utf-8"
        if answer.status != 204:
            headers["Content-Length"] = str(answer.file.size if answer.file else len(body))
        self.send_response(answer.status)
        for name, value in {**headers, "X-GitHub-Request-Id": secrets.token_hex(8)}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        if answer.file:
            with open(answer.file.path, "rb") as file:
                shutil.copyfileobj(file, self.wfile, CHUNK)
        elif self.fault and self.fault.kind == "drip":
            for byte in body:
                if self.hub.stopping.wait(self.fault.after):
                    raise ConnectionError
                self.wfile.write(bytes([byte]))
        else:
            self.wfile.write(body)

    # ---- what is asked for

    def carry_out(self) -> Answer:
        """Find out what is asked for, who asks, and do it."""
        split = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(split.query, keep_blank_values=True).items()}
        method = "GET" if self.command == "HEAD" else self.command
        routes = [route for route in ROUTES if route[1] == method and re.fullmatch(route[0] + route[2], split.path)]
        if not routes:
            self.hub.unknown.append((self.command, self.path))
            if split.path.startswith((API, UPLOADS)):
                self.authorize()
            raise not_found()
        root, _, pattern, action = routes[0]
        match = re.fullmatch(root + pattern, split.path)
        words = {name: unquote(word) for name, word in match.groupdict().items() if word is not None}
        if root not in {API, UPLOADS}:
            return action(self, **words)
        self.authorize()
        if words.pop("number", "") != str(REPOSITORY_ID) and words.pop("repository", "") != self.hub.repository:
            raise not_found()
        if method != "GET" and not self.writes:
            raise Refused(403, "Resource not accessible by integration")
        return action(self, **words)

    def authorize(self) -> None:
        """Tell a token that may write from one that may only read, and refuse any other."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in {"bearer", "token"} or token not in {self.hub.token, self.hub.read_token}:
            raise Refused(401, "Bad credentials")
        self.writes = token == self.hub.token

    def release(self, id: str) -> Release:
        return self.hub.release_of_id(int(id), drafts=self.writes)

    def asset(self, id: str) -> tuple[Release, Asset]:
        return self.hub.asset_of_id(int(id), drafts=self.writes)

    def number(self, key: str) -> int:
        """Return a number of the query, 0 where there is none: GitHub passes over what it cannot read."""
        text = self.query.get(key, "")
        return int(text) if re.fullmatch("[0-9]{1,9}", text) else 0

    def page(self, items: list[Any]) -> Answer:
        """Return one page of a list, with the links to the others that GitHub writes: by the repository's number."""
        size, number = self.number("per_page") or 30, self.number("page") or 1
        size = min(size, self.hub.page_size_cap)
        last = max(-(-len(items) // size), 1)
        path = re.sub(f"^{API}/repos/[^/]+/[^/]+", f"{API}/repositories/{REPOSITORY_ID}", urlsplit(self.path).path)
        keep = f"per_page={size}&" if "per_page" in self.query else ""
        pages = {"prev": number - 1, "next": number + 1, "last": last, "first": 1}
        far = {"prev", "first"} if number >= last else {"next", "last"} if number == 1 else set(pages)
        links = [f'<{self.hub.root}{path}?{keep}page={pages[name]}>; rel="{name}"' for name in pages if name in far]
        headers = {"Link": ", ".join(links)} if last > 1 else {}
        return Answer(200, items[(number - 1) * size : number * size], headers)

    def get_repository(self) -> Answer:
        return Answer(200, repository_json(self.hub, write=self.writes))

    def list_releases(self) -> Answer:
        return self.page([release_json(self.hub, release) for release in self.hub.visible(drafts=self.writes)])

    def create_release(self) -> Answer:
        release = release_json(self.hub, self.hub.create_release(self.json()))
        return Answer(201, release, {"Location": release["url"]})

    def get_latest(self) -> Answer:
        return Answer(200, release_json(self.hub, self.hub.latest_release()))

    def get_release_of_tag(self, tag: str) -> Answer:
        return Answer(200, release_json(self.hub, self.hub.release_of_tag(tag)))

    def get_release(self, id: str) -> Answer:
        return Answer(200, release_json(self.hub, self.release(id)))

    def update_release(self, id: str) -> Answer:
        return Answer(200, release_json(self.hub, self.hub.update_release(self.release(id), self.json())))

    def delete_release(self, id: str) -> Answer:
        self.hub.delete_release(self.release(id))
        return Answer(204)

    def list_assets(self, id: str) -> Answer:
        release = self.release(id)
        return self.page([asset_json(self.hub, release, asset) for asset in list(release.assets)])

    def get_asset(self, id: str) -> Answer:
        release, asset = self.asset(id)
        if "application/octet-stream" not in self.headers.get("Accept", ""):
            return Answer(200, asset_json(self.hub, release, asset))
        if asset.state != "uploaded":
            raise not_found()
        # Another name of this host, so that a client that keeps its token to one host does so here.
        storage = self.hub.root.replace("127.0.0.1", "localhost") + f"{STORAGE}/{asset.id}"
        return Answer(302, None, {"Location": f"{storage}?signature={self.hub.signature}"})

    def update_asset(self, id: str) -> Answer:
        release, asset = self.asset(id)
        return Answer(200, asset_json(self.hub, release, self.hub.update_asset(release, asset, self.json())))

    def delete_asset(self, id: str) -> Answer:
        self.hub.delete_asset(*self.asset(id))
        return Answer(204)

    def upload(self, id: str) -> Answer:
        """Take a file: its name is taken from the first byte on, and stays taken if the last one never comes."""
        release, kind = self.release(id), self.fault.kind if self.fault else ""
        content_type = self.headers.get("Content-Type")
        if not content_type:
            raise Refused(400, "Content-Type is required")
        name, label, digest = self.query.get("name", ""), self.query.get("label", ""), hashlib.sha256()
        with self.hub.upload(release, name, label, content_type, self.left) as asset:
            with open(asset.path, "wb") as file:
                for chunk in self.chunks(int(self.fault.after) if kind == "starter" else self.left):
                    flip = kind == "corrupt" and file.tell() == 0
                    stored = bytes([chunk[0] ^ 1]) + chunk[1:] if flip else chunk
                    digest.update(stored)
                    file.write(stored)
            if kind == "starter":
                raise Dropped
            asset.digest = f"sha256:{digest.hexdigest()}"
        payload = asset_json(self.hub, release, asset)
        return Answer(201, payload, {"Location": payload["url"]})

    def get_ref(self, tag: str) -> Answer:
        if tag not in self.hub.tags:
            raise not_found()
        url, sha = f"{self.hub.url}/repos/{self.hub.repository}/git", self.hub.tags[tag]
        kind = "tag" if sha in self.hub.annotated else "commit"
        target = {"sha": sha, "type": kind, "url": f"{url}/{kind}s/{sha}"}
        return Answer(200, {"ref": f"refs/tags/{tag}", "url": f"{url}/refs/tags/{quote(tag)}", "object": target})

    def get_tag_object(self, sha: str) -> Answer:
        """Give an annotated tag, which names a commit; a commit's own id is none."""
        if sha not in self.hub.annotated:
            raise not_found()
        url, commit = f"{self.hub.url}/repos/{self.hub.repository}/git", self.hub.annotated[sha]
        kind = "tag" if commit in self.hub.annotated else "commit"
        target = {"sha": commit, "type": kind, "url": f"{url}/{kind}s/{commit}"}
        return Answer(200, {"sha": sha, "url": f"{url}/tags/{sha}", "message": "a tag", "object": target})

    def get_commit(self, ref: str) -> Answer:
        known = {**self.hub.branches, **self.hub.tags}
        known.update({sha: sha for sha in known.values()})
        if ref not in known:
            raise Refused(422, f"No commit found for SHA: {ref}")
        url = f"{self.hub.url}/repos/{self.hub.repository}/commits/{known[ref]}"
        return Answer(200, {"sha": known[ref], "url": url, "commit": {"message": "a commit"}, "parents": []})

    def download_from_storage(self, id: str) -> Answer:
        """Give the bytes to whoever has the signed address; the storage behind GitHub takes no second credential."""
        if "Authorization" in self.headers:
            raise Refused(400, "Only one auth mechanism allowed")
        if self.query.get("signature") != self.hub.signature:
            raise Refused(403, "Server failed to authenticate the request")
        return self.file(self.hub.asset_of_id(int(id), drafts=True)[1])

    def download_public(self, repository: str, tag: str, name: str) -> Answer:
        """Give the bytes of a published release's asset to anybody."""
        assets = self.hub.release_of_tag(tag).assets if repository == self.hub.repository else []
        for asset in assets:
            if asset.name == name and asset.state == "uploaded":
                return self.file(asset)
        raise not_found()

    def file(self, asset: Asset) -> Answer:
        return Answer(200, None, {"Content-Type": asset.content_type}, asset)


REPO = r"(?:/repos/(?P<repository>[^/]+/[^/]+)|/repositories/(?P<number>[0-9]+))"
RELEASE, ASSET = r"/releases/(?P<id>[0-9]+)", r"/releases/assets/(?P<id>[0-9]+)"
PUBLIC = "/(?P<repository>[^/]+/[^/]+)/releases/download/(?P<tag>.+)/(?P<name>[^/]+)"
ROUTES: list[tuple[str, str, str, Callable[..., Answer]]] = [
    (API, "GET", REPO, Handler.get_repository),
    (API, "GET", REPO + "/releases", Handler.list_releases),
    (API, "POST", REPO + "/releases", Handler.create_release),
    (API, "GET", REPO + "/releases/latest", Handler.get_latest),
    (API, "GET", REPO + "/releases/tags/(?P<tag>.+)", Handler.get_release_of_tag),
    (API, "GET", REPO + RELEASE, Handler.get_release),
    (API, "PATCH", REPO + RELEASE, Handler.update_release),
    (API, "DELETE", REPO + RELEASE, Handler.delete_release),
    (API, "GET", REPO + RELEASE + "/assets", Handler.list_assets),
    (API, "GET", REPO + ASSET, Handler.get_asset),
    (API, "PATCH", REPO + ASSET, Handler.update_asset),
    (API, "DELETE", REPO + ASSET, Handler.delete_asset),
    (API, "GET", REPO + "/git/ref/tags/(?P<tag>.+)", Handler.get_ref),
    (API, "GET", REPO + "/git/tags/(?P<sha>[0-9a-f]+)", Handler.get_tag_object),
    (API, "GET", REPO + "/commits/(?P<ref>.+)", Handler.get_commit),
    (UPLOADS, "POST", REPO + RELEASE + "/assets", Handler.upload),
    (STORAGE, "GET", "/(?P<id>[0-9]+)", Handler.download_from_storage),
    ("", "GET", PUBLIC, Handler.download_public),
]
