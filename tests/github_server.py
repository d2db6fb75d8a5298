"""A strict stand-in for the part of GitHub's REST API that releases need, with faults on demand.

    with GitHub(repository="acme/models") as hub:
        ...  # GITHUB_API_URL is hub.url, the token hub.token; see hub.releases and hub.tags afterwards

What it does not know is answered 404 and kept in `hub.unknown`. As on GitHub, files are uploaded to another root than
the API's, which each release names, and downloads are redirected to another host, which refuses the token.
"""

import http
import re
import secrets
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

from github_http import Answer, Handler
from github_json import API, UPLOADS
from github_store import Asset, Refused, Release, Store

__all__ = ["Asset", "Fault", "GitHub", "Release"]

KINDS = {"status", "status-after", "drop", "drop-after", "starter", "corrupt", "stall", "drip"}


@dataclass(eq=False)
class Fault:
    """What goes wrong with the next requests of that method ("*": of any) whose path and query match.

    `skip` and `times` count down, so that a test can tell that the fault has happened: `fault.times == 0`.
    """

    method: str
    path: str  # a regular expression, searched in path and query
    kind: str
    times: int = 1
    status: int = 500
    message: str | None = None
    after: float = 0  # bytes of the body, or seconds for "stall", or seconds for each byte of the answer for "drip"
    retry_after: int | str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    skip: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault is called {self.kind}")

    def answer(self) -> "Answer":
        """Return the error in GitHub's form."""
        message = self.message if self.message is not None else http.HTTPStatus(self.status).phrase
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        headers |= self.headers
        return Answer(self.status, Refused(self.status, message).payload, headers)


class GitHub(Store):
    """The server. The rules, the releases and the other options are the Store's."""

    def __init__(
        self, repository: str = "acme/models", *, page_size_cap: int = 100, port: int = 0, **options: Any
    ) -> None:
        super().__init__(repository, **options)
        self.page_size_cap = page_size_cap
        self.token = f"ghs_{secrets.token_hex(18)}"
        self.read_token = f"ghs_{secrets.token_hex(18)}"
        self.signature = secrets.token_hex(8)
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, int]] = []  # with status 0 where no answer was sent
        self.unknown: list[tuple[str, str]] = []
        self.errors: list[BaseException] = []  # of the server itself
        self.stopping = threading.Event()
        self.server = Server(("127.0.0.1", port), Handler)
        self.server.hub = self
        self.root = f"http://127.0.0.1:{self.server.server_port}"
        self.url = self.root + API
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.server.hang_up()
        self.server.server_close()  # waits for the threads
        self.thread.join()
        self.folder.cleanup()
        if self.errors and kind is None:
            raise self.errors[0]

    def take_fault(self, method: str, path: str) -> Fault | None:
        """Return the fault that this request gets, if any, and count it."""
        with self.lock:
            for fault in self.faults:
                upload = method == "POST" and path.startswith(UPLOADS)
                if fault.kind in {"starter", "corrupt"} and not upload:
                    continue
                if fault.method not in {method, "*"} or fault.times < 1 or not re.search(fault.path, path):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None


class Server(ThreadingHTTPServer):
    """One thread for each connection, all of them ended and waited for in the end."""

    daemon_threads = False
    request_queue_size = 64
    hub: GitHub

    def __init__(self, *arguments: Any) -> None:
        self.open: set[socket.socket] = set()
        self.open_lock = threading.Lock()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.open_lock:
            self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.open_lock:
            self.open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients keep alive."""
        with self.open_lock:
            for connection in self.open:
                with suppress(OSError):  # the client was faster
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.hub.errors.append(error)
