"""Attaching artifacts to a GitHub release: a draft first, every asset compared with ours, published last.

The only module that talks to a network, with transfer, which sends and reads back, and retries. Nothing is created
before everything that can be checked has been, and what an interrupted run leaves is a draft that the next run
completes. What the API answers is not trusted: an odd answer is one sentence.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import github
import requests
from github.GithubObject import NotSet
from github.GitRelease import GitRelease

from tfstrip_core import signals
from tfstrip_core.errors import CannotPublish, UsageError, printable
from tfstrip_core.release import checksums, retries
from tfstrip_core.release.transfer import ADDRESS, TIMEOUT, Asset, Hub, Place, every, held, same, upload

SIZE_LIMIT = 2 << 30  # an asset of exactly 2 GiB is refused
MOST_ASSETS = 1000
_BETWEEN_WRITES = 1.0  # seconds, as GitHub asks of its clients
# What PyGithub raises for answers that it does not understand, besides its own exceptions.
_ODD = (github.BadAttributeException, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


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
    api = environment.get("GITHUB_API_URL") or "https://api.github.com"
    if not ADDRESS.fullmatch(api):
        raise UsageError(f"GITHUB_API_URL is {api!r}, which is no address", "correct it")
    exists = environment.get("GITHUB_REF") == f"refs/tags/{tag}"
    return Place(api.rstrip("/"), repository, tag, "" if exists else environment.get("GITHUB_SHA", ""))


def assets(folder: str, digests: Sequence[tuple[str, str]]) -> list[Asset]:
    """Return the files of these (name, SHA-256) as assets, read from disk.

    Raises UsageError for what GitHub would not take, and CannotPublish for a file that is not what was proven.
    """
    if len(digests) > MOST_ASSETS:
        raise UsageError(f"{len(digests):,} files are to be attached, and GitHub takes 1,000", "release them in parts")
    found = []
    for name, digest in digests:
        path = os.path.join(folder, name)
        asset = Asset(path, os.path.getsize(path), checksums.sha256(path))
        if not 0 < asset.size < SIZE_LIMIT:
            what = "is empty" if not asset.size else f"has {asset.size:,} bytes, and GitHub takes less than 2 GiB"
            raise UsageError(f"{printable(path)} cannot be attached: it {what}", "nothing was uploaded")
        if asset.sha256 != digest:
            raise CannotPublish(f"{printable(path)} was changed after it was proven", "run the job again")
        found.append(asset)
    return found


@contextmanager
def connect(place: Place, token: str) -> Iterator[Hub]:
    """Open the repository for the block.

    Reads it once, so that a wrong token or name is known before any work is done. Raises CannotPublish.
    """
    if not token.isascii() or not token.isprintable() or not token:
        what = "empty" if not token else "no token of GitHub's"
        raise UsageError(f"the input token is {what}, and release {place.tag} needs one", "leave the input out")
    logging.getLogger("github").setLevel(logging.CRITICAL)  # it prints addresses as the server spells them
    with _telling(place, token):
        client = github.Github(
            auth=github.Auth.Token(token),
            base_url=place.api,
            timeout=TIMEOUT,
            retry=None,  # its retries would send an upload again whose remains block the name
            per_page=100,
            seconds_between_requests=None,
            seconds_between_writes=_BETWEEN_WRITES,
            user_agent="tfstrip",
        )
        repository = retries.insist(lambda: client.get_repo(place.repository))
    try:
        yield Hub(place, repository, token)
    finally:
        client.close()


def attach(hub: Hub, wanted: Sequence[Asset], *, draft: bool) -> Attached:
    """Bring the release of the tag to hold all of `wanted`, byte for byte; publish it unless `draft`.

    A release or draft of the tag is used, else one is created. An asset that is there with the same bytes is left.
    Raises CannotPublish, before anything is created, for an asset of that name with other bytes, for too many, and
    for an immutable release.
    """
    with _telling(hub.place, hub.token):
        release = _find(hub)
        missing = _missing(hub, release, wanted) if release else list(wanted)
        if release is None:
            signals.obey()
            release = _create(hub)
            missing = _missing(hub, release, wanted)  # another job may have been quicker
        for asset in missing:
            signals.obey()
            upload(hub, release, asset)
        _compare(hub, release, wanted, missing)
        if release.draft and not draft:
            signals.obey()
            release = _publish(release)
        sent = tuple(asset.name for asset in missing)
        skipped = tuple(asset.name for asset in wanted if asset.name not in sent)
        return Attached(printable(release.html_url), release.draft, sent, skipped)


def _find(hub: Hub) -> GitRelease | None:
    """Return the release of the tag: a draft is found in the list only, and of several the oldest counts."""
    tag = hub.place.tag
    try:
        return retries.insist(lambda: hub.repository.get_release(tag))
    except github.UnknownObjectException:
        found = [release for release in every(hub.repository.get_releases()) if release.tag_name == tag]
        return min(found, key=lambda release: release.id, default=None)


def _missing(hub: Hub, release: GitRelease, wanted: Sequence[Asset]) -> list[Asset]:
    """Return what the release lacks; remains of broken uploads do not count. Raises CannotPublish for a clash."""
    there = held(release)
    for asset in wanted:
        if asset.name in there and not same(hub, there[asset.name], asset):
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


def _create(hub: Hub) -> GitRelease:
    """Create the draft; where other jobs do so at the same time, all of them go on with the oldest."""
    tag = hub.place.tag
    try:
        made = hub.repository.create_git_release(
            tag, name=tag, message="", draft=True, target_commitish=hub.place.commit or NotSet
        )
    except (github.GithubException, requests.RequestException) as error:
        found = _find(hub)  # by another job, or by a request whose answer was lost
        if found is None:
            raise error from None
        return found
    first = _find(hub) or made
    if first.id != made.id:
        made.delete_release()
    return first


def _compare(hub: Hub, release: GitRelease, wanted: Sequence[Asset], sent: Sequence[Asset]) -> None:
    """Read the list of assets afresh; raise CannotPublish unless each of ours is there with our bytes.

    What this run sent and GitHub stored otherwise is removed: in a published release everybody could get it.
    """
    there = held(release)
    for asset in wanted:
        if asset.name not in there or not same(hub, there[asset.name], asset):
            state = "is not complete" if asset.name not in there else "has other bytes than were sent"
            if asset.name in there and asset in sent:
                there[asset.name].delete_asset()
            raise CannotPublish(
                f"{asset.name} {state} in release {release.tag_name}",
                "run the job again" + ("; the release stays a draft" if release.draft else ""),
            )


def _publish(release: GitRelease) -> GitRelease:
    """Publish a draft as its author wrote it; "legacy" lets GitHub find the latest release by version and date."""
    published = retries.insist(
        lambda: release.update_release(
            release.name or "",
            release.body or "",
            draft=False,
            prerelease=release.prerelease,
            make_latest="legacy",
        )
    )
    if published.draft is not False:
        raise CannotPublish(f"release {release.tag_name} is still a draft", "publish it by hand, everything is in it")
    return published


@contextmanager
def _telling(place: Place, token: str) -> Iterator[None]:
    """Turn what goes wrong with GitHub in the block into CannotPublish, one sentence without the token."""
    try:
        yield
    except (github.GithubException, requests.RequestException, *_ODD) as error:
        raise _sentence(error, place, _said(error).replace(token, "***")[:300]) from None


def _sentence(error: Exception, place: Place, said: str) -> CannotPublish:
    """Return what GitHub said as one sentence, with what to change in the workflow."""
    status = error.status if isinstance(error, github.GithubException) else 0
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
    if isinstance(error, requests.RequestException):
        return CannotPublish(f"GitHub cannot be reached at {place.api} ({said})", "run the job again")
    return CannotPublish(
        f"GitHub's answer at {place.api} makes no sense ({said})", "check GITHUB_API_URL, run it again"
    )


def _said(error: Exception) -> str:
    """Return the API's own words; another error's class is all that is safe to show."""
    if not isinstance(error, github.GithubException):
        return type(error).__name__
    data = error.data if isinstance(error.data, dict) else {}
    parts = [str(data.get("message") or "no message")]
    errors = data.get("errors")
    for item in errors if isinstance(errors, list) else []:
        words = item if isinstance(item, dict) else {"message": item}
        parts.append(" ".join(str(words[key]) for key in ("field", "code", "message") if words.get(key)))
    return ": ".join(part for part in parts if part)
