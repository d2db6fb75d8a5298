"""Attaching artifacts to a GitHub release: a draft first, every asset compared with ours, published last.

The only module that talks to a network. Nothing is created before everything that can be checked has been, and what
an interrupted run leaves is a draft that the next run completes.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import github
import requests
from github.GithubObject import NotSet
from github.GitRelease import GitRelease
from github.GitReleaseAsset import GitReleaseAsset
from github.Repository import Repository
from requests import RequestException

from tfstrip_core.errors import CannotPublish, UsageError, printable
from tfstrip_core.release import checksums

SIZE_LIMIT = 2 << 30  # an asset of exactly 2 GiB is refused
MOST_ASSETS = 1000
_TIMEOUT = 120  # seconds without a byte
_BETWEEN_WRITES = 1.0  # seconds, as GitHub asks of its clients
_PAUSES = (1.0, 4.0, 10.0)  # seconds between tries
_LONGEST_PAUSE = 60.0

_T = TypeVar("_T")
_Failure = (github.GithubException, github.BadAttributeException, RequestException, AssertionError)


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
class Attached:
    """What a release holds now: names of the assets that were sent, and of those that were there already."""

    url: str
    draft: bool
    uploaded: tuple[str, ...]
    skipped: tuple[str, ...]


def place(tag: str, environment: Mapping[str, str]) -> Place:
    """Return where the job whose environment this is publishes `tag`.

    Raises UsageError outside of a job, and for a tag that git could not make: GitHub says so only on publishing.
    """
    if tag.startswith("refs/"):
        short = re.sub(r"^refs/(tags|heads)/", "", tag)
        raise UsageError(f"the input tag is {tag!r}, a full reference", f"give its short name, {short}")
    if re.search(r"[\s\x00-\x1f\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|^[-./]|[./]$|^@$", tag):
        raise UsageError(f"the input tag is {tag!r}, and git allows no such name", "correct it")
    if environment.get("GITHUB_REF") == f"refs/heads/{tag}":
        raise UsageError(f"the input tag is {tag!r}, which is the branch", "name a tag, or leave the input out")
    repository = environment.get("GITHUB_REPOSITORY", "")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
        raise UsageError("there is a tag to release, and GITHUB_REPOSITORY names no repository", "run in a workflow")
    exists = environment.get("GITHUB_REF") == f"refs/tags/{tag}"
    api = environment.get("GITHUB_API_URL") or "https://api.github.com"
    return Place(api, repository, tag, "" if exists else environment.get("GITHUB_SHA", ""))


def assets(paths: Sequence[str]) -> list[Asset]:
    """Return the files as assets, read from disk; raises UsageError for what GitHub would not take."""
    found = [Asset(path, os.path.getsize(path), checksums.sha256(path)) for path in paths]
    for asset in found:
        if not 0 < asset.size < SIZE_LIMIT:
            what = "is empty" if not asset.size else f"has {asset.size:,} bytes, and GitHub takes less than 2 GiB"
            raise UsageError(f"{printable(asset.path)} cannot be attached: it {what}", "nothing was uploaded")
    return found


@contextmanager
def connect(place: Place, token: str) -> Iterator[Repository]:
    """Open the repository; what goes wrong with GitHub in the block is raised as CannotPublish.

    Reads the repository once, so that a wrong token or name is known before any work is done.
    """
    if not token:
        raise UsageError(f"the input token is empty, and release {place.tag} needs one", "leave the input out")
    client = github.Github(
        auth=github.Auth.Token(token),
        base_url=place.api,
        timeout=_TIMEOUT,
        retry=None,  # its retries would send an upload again whose remains block the name
        per_page=100,
        seconds_between_requests=None,
        seconds_between_writes=_BETWEEN_WRITES,
        user_agent="tfstrip",
    )
    try:
        yield _insist(lambda: client.get_repo(place.repository))
    except _Failure as error:
        raise _sentence(error, place) from None
    finally:
        client.close()


def attach(repository: Repository, place: Place, wanted: Sequence[Asset], *, draft: bool) -> Attached:
    """Bring the release of the tag to hold all of `wanted`, byte for byte; publish it unless `draft`.

    A release or draft of the tag is used, else one is created. An asset that is there with the same bytes is left.
    Raises CannotPublish, before anything is created, for an asset of that name with other bytes, for too many, and
    for an immutable release.
    """
    release = _find(repository, place.tag)
    missing = _missing(release, wanted) if release else list(wanted)
    if release is None:
        release = _create(repository, place)
        missing = _missing(release, wanted)  # another job may have been quicker
    for asset in missing:
        _upload(release, asset)
    _compare(release, wanted)
    if release.draft and not draft:
        release = _publish(release)
    sent = tuple(asset.name for asset in missing)
    skipped = tuple(asset.name for asset in wanted if asset.name not in sent)
    return Attached(release.html_url, release.draft, sent, skipped)


def _find(repository: Repository, tag: str) -> GitRelease | None:
    """Return the release of the tag: a draft is found in the list only, and of several the oldest counts."""
    try:
        return _insist(lambda: repository.get_release(tag))
    except github.UnknownObjectException:
        drafts = _insist(lambda: [release for release in repository.get_releases() if release.tag_name == tag])
        return min(drafts, key=lambda release: release.id, default=None)


def _missing(release: GitRelease, wanted: Sequence[Asset]) -> list[Asset]:
    """Return what the release lacks; remains of broken uploads do not count. Raises CannotPublish for a clash."""
    there = _held(release)
    for asset in wanted:
        if asset.name in there and not _same(there[asset.name], asset):
            raise CannotPublish(
                f"release {release.tag_name} holds another {asset.name}",
                "delete it there if this one is right, or attach to another tag; nothing was uploaded",
            )
    missing = [asset for asset in wanted if asset.name not in there]
    if missing and release.immutable and not release.draft:
        raise CannotPublish(
            f"release {release.tag_name} is published and immutable, nothing can be attached to it any more",
            "run the action when the tag is pushed, it creates the release itself, or attach to a draft",
        )
    if len(there) + len(missing) > MOST_ASSETS:
        raise CannotPublish(
            f"release {release.tag_name} would hold {len(there) + len(missing):,} assets, and GitHub takes 1,000",
            "attach to several releases; nothing was uploaded",
        )
    return missing


def _held(release: GitRelease) -> dict[str, GitReleaseAsset]:
    return {asset.name: asset for asset in _insist(lambda: list(release.get_assets())) if asset.state == "uploaded"}


def _same(there: GitReleaseAsset, asset: Asset) -> bool:
    """Whether an uploaded asset has our bytes: by GitHub's own digest, or where it has none by reading it back."""
    if there.size != asset.size:
        return False
    return (there.digest or f"sha256:{_insist(lambda: _read_back(there))}") == f"sha256:{asset.sha256}"


def _read_back(there: GitReleaseAsset) -> str:
    """Return the SHA-256 of what GitHub stores; the storage that it redirects to must not get the token."""
    token = there.requester.auth.token if there.requester.auth else ""
    accept = {"Accept": "application/octet-stream"}
    answer = requests.get(
        there.url,
        headers={**accept, "Authorization": f"Bearer {token}"},
        timeout=_TIMEOUT,
        allow_redirects=False,
        stream=True,
    )
    if answer.is_redirect:
        answer.close()
        answer = requests.get(answer.headers["Location"], headers=accept, timeout=_TIMEOUT, stream=True)
    with answer:
        answer.raise_for_status()
        digest = hashlib.sha256()
        for block in answer.iter_content(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _create(repository: Repository, place: Place) -> GitRelease:
    """Create the draft; where other jobs do so at the same time, all of them go on with the oldest."""
    target = place.commit or NotSet
    try:
        made = repository.create_git_release(place.tag, name=place.tag, message="", draft=True, target_commitish=target)
    except (github.GithubException, RequestException) as error:
        found = _find(repository, place.tag)  # by another job, or by a request whose answer was lost
        if found is None:
            raise error from None
        return found
    first = _find(repository, place.tag) or made
    if first.id != made.id:
        made.delete_release()
    return first


def _upload(release: GitRelease, asset: Asset) -> None:
    """Send one file; what a broken try left under its name is removed before the next."""

    def send() -> None:
        for left in release.get_assets():
            if left.name == asset.name:
                if left.state == "uploaded":
                    return  # the last try arrived after all, or another job was quicker: _compare tells
                left.delete_asset()
        with open(asset.path, "rb") as file:
            release.upload_asset_from_memory(file, asset.size, asset.name, "application/octet-stream")

    try:
        _insist(send)
    except github.GithubException as error:
        if error.status != 422 or asset.name not in _held(release):
            raise


def _compare(release: GitRelease, wanted: Sequence[Asset]) -> None:
    """Read the list of assets afresh; raise CannotPublish unless each of ours is there with our bytes."""
    there = _held(release)
    for asset in wanted:
        if asset.name not in there or not _same(there[asset.name], asset):
            state = "is not complete" if asset.name not in there else "has other bytes than were sent"
            raise CannotPublish(
                f"{asset.name} {state} in release {release.tag_name}",
                "delete it there and run the job again" + ("; the release stays a draft" if release.draft else ""),
            )


def _publish(release: GitRelease) -> GitRelease:
    """Publish a draft as its author wrote it; "legacy" lets GitHub find the latest release by version and date."""
    return _insist(
        lambda: release.update_release(
            release.name or "",
            release.body or "",
            draft=False,
            prerelease=release.prerelease,
            make_latest="legacy",
        )
    )


def _insist(work: Callable[[], _T]) -> _T:
    """Do what may be done twice, again where GitHub or the network fails for the moment."""
    pauses = iter(_PAUSES)
    while True:
        try:
            return work()
        except (github.GithubException, RequestException) as error:
            wait, pause = _wait(error), next(pauses, None)
            if wait is None or pause is None:
                raise
            time.sleep(max(pause, wait))


def _wait(error: Exception) -> float | None:
    """Return the seconds that a failure asks to wait; None where waiting does not help."""
    if isinstance(error, RequestException):
        return 0.0
    if not isinstance(error, github.GithubException):
        return None
    asked = (error.headers or {}).get("retry-after", "")
    if asked.isdigit():
        return float(asked) if float(asked) <= _LONGEST_PAUSE else None
    limited = isinstance(error, github.RateLimitExceededException) or error.status == 429
    return 0.0 if error.status >= 500 and not limited else None


def _sentence(error: Exception, place: Place) -> CannotPublish:
    """Return what GitHub said as one sentence, with what to change in the workflow."""
    status = error.status if isinstance(error, github.GithubException) else 0
    said = _said(error)
    if status == 401:
        return CannotPublish(
            f"GitHub does not accept the token for {place.repository} (401 {said})",
            "leave the input token out, or give one that is valid",
        )
    if status == 403 and "rate limit" not in said.lower():
        return CannotPublish(
            f"the token may not write releases of {place.repository} (403 {said})",
            "give the job `permissions: {contents: write}`; pull requests from forks never have it",
        )
    if status == 404:
        return CannotPublish(
            f"{place.repository} has no releases that this token can reach (404 {said})",
            "give the job `permissions: {contents: write}`, and check the repository's name",
        )
    if status == 422:
        return CannotPublish(f"GitHub refused release {place.tag} (422 {said})", "check the tag and its rules")
    if status:
        return CannotPublish(f"GitHub answered {status} {said}", "run the job again; a draft is completed then")
    return CannotPublish(f"GitHub cannot be reached at {place.api} ({said})", "run the job again")


def _said(error: Exception) -> str:
    """Return the API's own words, cut to a line; another error's class is all that is safe to show."""
    if not isinstance(error, github.GithubException):
        return type(error).__name__
    data = error.data if isinstance(error.data, dict) else {}
    parts = [str(data.get("message") or "no message")]
    errors = data.get("errors")
    for item in errors if isinstance(errors, list) else []:
        words = item if isinstance(item, dict) else {"message": item}
        parts.append(" ".join(str(words[key]) for key in ("field", "code", "message") if words.get(key)))
    return ": ".join(part for part in parts if part)[:300]
