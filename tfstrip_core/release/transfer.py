"""Asking GitHub's API, sending files to a release and reading back what it holds of them.

The token goes to the API's own hosts only: uploads to an address that is the API's, reading to the API, which sends
us on to a storage without it. Nothing is asked without a bound on the time that it takes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import github
import requests
from github.GithubObject import GithubObject
from github.GitRelease import GitRelease
from github.GitReleaseAsset import GitReleaseAsset
from github.PaginatedList import PaginatedList
from github.Repository import Repository
from github.Requester import HTTPRequestsConnectionClass, HTTPSRequestsConnectionClass, Requester, RequestsResponse

from tfstrip_core.release import retries
from tfstrip_core.release.retries import TIMEOUT

_MOST_PAGES = 100
_BETWEEN_WRITES = 1.0  # seconds, as GitHub asks of its clients
_BLOCK = 1 << 20
# Nothing in it that two readers of addresses could take for different hosts.
ADDRESS = re.compile(r"https?://[\w.-]+(:\d{1,5})?(/[\w./-]*)?", re.ASCII)

_T = TypeVar("_T", bound=GithubObject)
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file to attach: its base name is the asset's, `size` is in bytes, `sha256` in hex."""

    path: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """Name in the release."""
        return os.path.basename(self.path)


@dataclass(frozen=True, slots=True)
class Place:
    """Where to publish: `commit` is what the models are of, and what the tag must name; "" where that is not known."""

    api: str
    repository: str
    tag: str
    commit: str = ""


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository that answers to a token, until the bound is over."""

    place: Place
    repository: Repository
    token: str = field(repr=False)
    bound: retries.Bound

    def ask(self, what: str, work: Callable[[], _R]) -> _R:
        """Do what may be done twice, until it is done or there is no use."""
        return retries.insist(self.bound, what, work)


def _is_unfinished(answer: RequestsResponse) -> RequestsResponse:
    """Let a 202 be a failure that passes: PyGithub would ask again and again, for as long as there are such answers."""
    if answer.status == 202:
        headers = {name.lower(): value for name, value in answer.getheaders()}
        raise github.GithubException(202, {"message": "not done yet"}, headers)
    return answer


class _Http(HTTPRequestsConnectionClass):
    def getresponse(self) -> RequestsResponse:
        return _is_unfinished(super().getresponse())


class _Https(HTTPSRequestsConnectionClass):
    def getresponse(self) -> RequestsResponse:
        return _is_unfinished(super().getresponse())


def client(place: Place, token: str) -> github.Github:
    """Return PyGithub's client, which keeps to the writes that GitHub allows in a second."""
    Requester.injectConnectionClasses(_Http, _Https)
    try:
        return github.Github(
            auth=github.Auth.Token(token),
            base_url=place.api,
            timeout=TIMEOUT,
            retry=None,  # its retries would send an upload again whose remains block the name
            per_page=100,
            seconds_between_requests=None,
            seconds_between_writes=_BETWEEN_WRITES,
            user_agent="tfstrip",
        )
    finally:
        Requester.resetConnectionClasses()


def listed(hub: Hub, release: GitRelease) -> list[GitReleaseAsset]:
    """Return the assets of a release, remains of broken uploads included."""
    return every(hub, "the list of assets", release.get_assets())


def held(assets: list[GitReleaseAsset]) -> dict[str, GitReleaseAsset]:
    """Return by name those that are whole."""
    return {asset.name: asset for asset in assets if asset.state == "uploaded"}


def every(hub: Hub, what: str, listing: PaginatedList[_T]) -> list[_T]:
    """Return a whole list, page by page until one is empty: what the API calls the next page may have no end."""
    found: list[_T] = []
    for number in range(_MOST_PAGES):
        page = hub.ask(what, partial(listing.get_page, number))
        if not page:
            break
        found += page
    return found


def same(hub: Hub, there: GitReleaseAsset, asset: Asset) -> bool:
    """Whether an uploaded asset has our bytes: by GitHub's own digest, or where it has none by reading it back."""
    if there.size != asset.size:
        return False
    told = hub.ask(f"{there.name}: its digest", lambda: there.digest)  # where it is not in a list it is asked for
    kind, _, digest = (told or "").lower().partition(":")
    if kind != "sha256":
        what = f"{asset.name}: reading it back"
        digest = retries.insist(hub.bound, what, lambda: _read_back(hub, there.id, asset.size), asset.size)
    return digest == asset.sha256


def _read_back(hub: Hub, number: int, size: int) -> str:
    """Return the SHA-256 of the stored asset's first `size` bytes; the storage behind the API gets no token."""
    accept = {"Accept": "application/octet-stream"}
    answer = requests.get(
        f"{hub.place.api}/repos/{hub.place.repository}/releases/assets/{number:d}",
        headers={**accept, "Authorization": f"Bearer {hub.token}"},
        auth=_as_it_is,
        timeout=TIMEOUT,
        allow_redirects=False,
        stream=True,
    )
    if answer.is_redirect:
        answer.close()
        target = answer.headers["Location"]
        answer = requests.get(target, headers=accept, auth=_as_it_is, timeout=TIMEOUT, stream=True)
    with answer:
        if answer.status_code != 200:
            raise _refused(answer, next(answer.iter_content(_BLOCK), b""))
        digest, left = hashlib.sha256(), size
        for block in answer.iter_content(_BLOCK):
            digest.update(block[:left])
            left -= len(block[:left])
            if not left:
                break
    return digest.hexdigest()


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep a request's headers: without this, passwords of a .netrc would replace the token."""
    return request


def upload(hub: Hub, release: GitRelease, asset: Asset, name: str) -> bool:
    """Send one file under `name`, again if that breaks; what is in the way of the name is waited for, then removed.

    Return whether what has the name now may be ours, and not another job's.

    What our own broken try left is removed at once. What was there before may be another job's upload that is under
    way: it has as long as there are pauses.
    """
    broken = False
    for pause in (*retries.PAUSES, None):
        try:
            _send(hub, release, asset, name)
        except (github.GithubException, requests.RequestException) as error:
            taken = _is_taken(error)
            retries.again(hub.bound, f"{name}: upload", error, pause, helps=taken)
            left = next((item for item in listed(hub, release) if item.name == name), None)
            if left is not None and left.state == "uploaded":
                return broken or not taken  # the try arrived after all, or another job was quicker
            broken = broken or not taken
            if left is not None and (broken or pause == retries.PAUSES[-1]):
                delete(hub, left)
        else:
            break
    return True


def _is_taken(error: Exception) -> bool:
    return isinstance(error, github.GithubException) and error.status == 422 and "already_exists" in str(error.data)


def delete(hub: Hub, there: GitReleaseAsset) -> None:
    """Delete an asset; one that is gone already is what was wanted."""
    try:
        hub.ask(f"{there.name}: deleting it", there.delete_asset)
    except github.UnknownObjectException:
        return


def bring_back(hub: Hub, what: str, work: Callable[[], object]) -> None:
    """Do what undoes a step of ours, again whatever the answer is; where that does not help, tell and go on."""
    for pause in (*retries.PAUSES, None):
        try:
            retries.within(hub.bound, what, work)
        except github.UnknownObjectException:
            pass
        except (github.GithubException, requests.RequestException) as error:
            if pause is None or pause > hub.bound.left:
                hub.bound.tell(f"{what}: {retries.brief(error)}; the next run does it")
                return
            retries.rest(pause)
            continue
        return


def rename(hub: Hub, there: GitReleaseAsset, name: str) -> None:
    """Give an asset another name; doing so twice is no mistake."""
    hub.ask(f"{name}: renaming", lambda: there.update_asset(name, there.label or ""))


def _send(hub: Hub, release: GitRelease, asset: Asset, name: str) -> None:
    """Post the file where the release says. Not PyGithub's way, which waits for another host without a limit."""
    address = release.upload_url.partition("{")[0]
    api, there = urlsplit(hub.place.api), urlsplit(address)
    own = (api.hostname or "").removeprefix("api.")
    known = there.scheme == api.scheme and there.port == api.port and there.hostname in (api.hostname, f"uploads.{own}")
    if not (known and ADDRESS.fullmatch(address)):
        raise ValueError("the API names an upload address that is not its own")
    # A try that is left has no file to read from any more, and ends.
    with open(asset.path, "rb") as file:
        headers = {
            "Authorization": f"Bearer {hub.token}",
            "Content-Type": "application/octet-stream",
            "Accept": "application/vnd.github+json",
        }
        post = partial(
            requests.post,
            address,
            params={"name": name},
            data=file,
            headers=headers,
            auth=_as_it_is,
            timeout=TIMEOUT,
            allow_redirects=False,
        )
        progress = partial(_progress, file.tell, asset.size)
        answer = retries.within(hub.bound, f"{name}: upload", post, asset.size, progress)
    if answer.status_code != 201:
        raise _refused(answer, answer.content)


def _progress(sent: Callable[[], int], size: int) -> str:
    count = sent()
    return f"{count:,} of {size:,} bytes sent" + (", no answer yet" if count >= size else "")


def _refused(answer: requests.Response, body: bytes) -> github.GithubException:
    """Return what PyGithub would raise for an answer that it does not know of."""
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        data = {}
    return github.GithubException(answer.status_code, data, dict(answer.headers.lower_items()))
