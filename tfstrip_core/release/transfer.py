"""Sending files to a release and reading back what it holds of them.

The token goes to the API's own hosts only: uploads to an address that is the API's, reading to the API, which sends
us on to a storage without it.
"""

from __future__ import annotations

import hashlib
import os
import re
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

from tfstrip_core.release import retries

_MOST_PAGES = 100
TIMEOUT = 120  # seconds without a byte
_BLOCK = 1 << 20
# Nothing in it that two readers of addresses could take for different hosts.
ADDRESS = re.compile(r"https?://[\w.-]+(:\d{1,5})?(/[\w./-]*)?", re.ASCII)

_T = TypeVar("_T", bound=GithubObject)


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
    """Where to publish: `commit` is what the tag will name where it does not exist yet ("": the tag exists)."""

    api: str
    repository: str
    tag: str
    commit: str = ""


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository that answers to a token."""

    place: Place
    repository: Repository
    token: str = field(repr=False)


def held(release: GitRelease) -> dict[str, GitReleaseAsset]:
    """Return the assets of a release by name; remains of broken uploads do not count."""
    return {asset.name: asset for asset in every(release.get_assets()) if asset.state == "uploaded"}


def every(listing: PaginatedList[_T]) -> list[_T]:
    """Return a whole list, page by page until one is empty: what the API calls the next page may have no end."""
    found: list[_T] = []
    for number in range(_MOST_PAGES):
        page = retries.insist(partial(listing.get_page, number))
        if not page:
            break
        found += page
    return found


def same(hub: Hub, there: GitReleaseAsset, asset: Asset) -> bool:
    """Whether an uploaded asset has our bytes: by GitHub's own digest, or where it has none by reading it back."""
    if there.size != asset.size:
        return False
    kind, _, digest = (there.digest or "").lower().partition(":")
    if kind != "sha256":
        digest = retries.insist(lambda: _read_back(hub, there.id, asset.size))
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
        answer.raise_for_status()
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


def upload(hub: Hub, release: GitRelease, asset: Asset) -> None:
    """Send one file, again if that breaks; what is in the way of its name is waited for, then removed.

    What our own broken try left is removed at once. What was there before may be another job's upload that is under
    way: it has as long as there are pauses.
    """
    broken = False
    for pause in (*retries.PAUSES, None):
        try:
            _send(hub, release, asset)
        except (github.GithubException, requests.RequestException) as error:
            taken = _is_taken(error)
            wait = 0.0 if taken else retries.wait(error)
            if wait is None or pause is None:
                raise
            retries.rest(max(pause, wait))
            left = next((item for item in every(release.get_assets()) if item.name == asset.name), None)
            if left is not None and left.state == "uploaded":
                return  # the try arrived after all, or another job was quicker: _compare tells
            broken = broken or not taken
            if left is not None and (broken or pause == retries.PAUSES[-1]):
                left.delete_asset()
        else:
            return


def _is_taken(error: Exception) -> bool:
    return isinstance(error, github.GithubException) and error.status == 422 and "already_exists" in str(error.data)


def _send(hub: Hub, release: GitRelease, asset: Asset) -> None:
    """Post the file where the release says. Not PyGithub's way, which waits for another host without a limit."""
    address = release.upload_url.partition("{")[0]
    api, there = urlsplit(hub.place.api), urlsplit(address)
    own = (api.hostname or "").removeprefix("api.")
    known = there.scheme == api.scheme and there.port == api.port and there.hostname in (api.hostname, f"uploads.{own}")
    if not (known and ADDRESS.fullmatch(address)):
        raise ValueError("the API names an upload address that is not its own")
    with open(asset.path, "rb") as file:
        answer = requests.post(
            address,
            params={"name": asset.name},
            data=file,
            headers={
                "Authorization": f"Bearer {hub.token}",
                "Content-Type": "application/octet-stream",
                "Accept": "application/vnd.github+json",
            },
            auth=_as_it_is,
            timeout=TIMEOUT,
            allow_redirects=False,
        )
    if answer.status_code != 201:
        raise github.GithubException(answer.status_code, _json(answer), dict(answer.headers.lower_items()))


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return {}
