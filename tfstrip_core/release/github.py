"""Attaching artifacts to a GitHub release: a draft first, every asset compared with ours, published last.

With what it stands on (exchange, transfer, retries) the only module that talks to a network. Nothing is created before
everything that can be checked has been, and what an interrupted run leaves is a draft that the next run completes, or
a published release as it was. What the API answers is not trusted: an odd answer is one sentence.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import github
import requests
from github.GithubObject import NotSet
from github.GitRelease import GitRelease

from tfstrip_core import signals
from tfstrip_core.errors import CannotPublish, UsageError, printable
from tfstrip_core.inventory import Artifact
from tfstrip_core.release import checksums, exchange, notes, retries, transfer
from tfstrip_core.release.answers import telling
from tfstrip_core.release.exchange import MOST_ASSETS, OnExisting
from tfstrip_core.release.transfer import ADDRESS, Asset, Hub, Place, every, upload

_MOST_TAGS = 5  # that name one another
SIZE_LIMIT = 2 << 30  # an asset of exactly 2 GiB is refused


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the author of the workflow wants of the release.

    `prerelease` marks one that is not published yet, `existing` says what becomes of files that are there already,
    `described` are the artifacts that its notes tell of.
    """

    draft: bool = False
    prerelease: bool = False
    existing: OnExisting = "skip-identical"
    described: tuple[Artifact, ...] = ()


@dataclass(frozen=True, slots=True)
class Attached:
    """What a release holds now: names of the assets that were sent, and of those that were there already."""

    url: str
    draft: bool
    uploaded: tuple[str, ...]
    skipped: tuple[str, ...]


def place(tag: str, environment: Mapping[str, str], checkout: str = "") -> Place:
    """Return where the job whose environment this is publishes `tag`; `checkout` is the commit in the work tree.

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
    # The models are those of the work tree, whatever commit started the job.
    return Place(api.rstrip("/"), repository, tag, checkout or environment.get("GITHUB_SHA", ""))


def assets(folder: str, digests: Sequence[tuple[str, str]]) -> list[Asset]:
    """Return the files of these (name, SHA-256) as assets, read from disk.

    Raises UsageError for what GitHub would not take, and CannotPublish for a file that is not what was proven.
    """
    if len(digests) > MOST_ASSETS:
        raise UsageError(f"{len(digests):,} files are to be attached, and GitHub takes 1,000", "release them in parts")
    found = []
    for name, digest in digests:
        path = os.path.join(folder, name)
        size = os.path.getsize(path)
        if not 0 < size < SIZE_LIMIT:
            what = "is empty" if not size else f"has {size:,} bytes, and GitHub takes less than 2 GiB"
            raise UsageError(f"{printable(path)} cannot be attached: it {what}", "nothing was uploaded")
        asset = Asset(path, size, checksums.sha256(path))
        if asset.sha256 != digest:
            raise CannotPublish(f"{printable(path)} was changed after it was proven", "run the job again")
        found.append(asset)
    return found


@contextmanager
def connect(place: Place, token: str, tell: Callable[[str], None] = print) -> Iterator[Hub]:
    """Open the repository for the block; what is waited for is told.

    Reads it once, and the commit that the tag names, so that a wrong token, name or tag is known before any work is
    done. Raises CannotPublish.
    """
    if not token.isascii() or not token.isprintable() or not token:
        what = "empty" if not token else "no token of GitHub's"
        raise UsageError(f"the input token is {what}, and release {place.tag} needs one", "leave the input out")
    logging.getLogger("github").setLevel(logging.CRITICAL)  # it prints addresses as the server spells them
    with telling(place, token):
        client, limit = transfer.client(place, token), retries.bound(0, tell)
        repository = retries.insist(limit, place.repository, lambda: client.get_repo(place.repository))
        hub = Hub(place, repository, token, limit)
        _is_tagged(hub)
    try:
        yield hub
    finally:
        client.close()


def attach(hub: Hub, wanted: Sequence[Asset], wishes: Wishes) -> Attached:
    """Bring the release of the tag to hold all of `wanted`, byte for byte; publish it unless a draft is wished for.

    A release or draft of the tag is used, else one is created. An asset that is there with the same bytes is left.
    Raises CannotPublish, before anything is created, for what may not be replaced, for too many assets, for an
    immutable release, and for a tag that names another commit.
    """
    limit = retries.bound(sum(asset.size for asset in wanted), hub.bound.tell)
    hub = Hub(hub.place, hub.repository, hub.token, limit)
    with telling(hub.place, hub.token):
        tagged, release = _is_tagged(hub), _find(hub)
        to_send = exchange.missing(hub, release, wanted, wishes.existing) if release else []
        if release is None:
            signals.obey()
            release = _create(hub, wishes, tagged=tagged)
            to_send = exchange.missing(hub, release, wanted, wishes.existing)  # another job may have been quicker
        try:
            ours = []
            for asset, name in to_send:
                signals.obey()
                hub.bound.tell(f"{name}: sending {asset.size:,} bytes")
                if upload(hub, release, asset, name):
                    ours.append((asset, name))
            there = exchange.compare(hub, release, wanted, ours)
            exchange.settle(hub, release, wanted, there, wishes.existing)
        except BaseException:
            if not release.draft:
                with signals.held():
                    exchange.withdraw(hub, release, to_send)
            raise
        # Sending takes hours: a tag that somebody else made or moved meanwhile is not published under.
        release = _finish(hub, release, wishes, tagged=_is_tagged(hub) if release.draft else tagged)
        sent = tuple(asset.name for asset, _ in to_send)
        skipped = tuple(asset.name for asset in wanted if asset.name not in sent)
        return Attached(printable(release.html_url), release.draft, sent, skipped)


def _is_tagged(hub: Hub) -> bool:
    """Return whether the tag exists; raise CannotPublish where it names another commit than the one of the job.

    Who downloads the models of a tag takes them for those of its commit.
    """
    tag, commit = hub.place.tag, hub.place.commit

    def named() -> tuple[str, str]:
        found = hub.repository.get_git_ref(f"tags/{tag}").object
        return found.sha, found.type

    try:
        sha, kind = hub.ask(f"tag {tag}", named)
    except github.UnknownObjectException:
        return False
    for _ in range(_MOST_TAGS):
        if kind != "tag":
            break
        annotated = hub.ask(f"tag {tag}", partial(hub.repository.get_git_tag, sha))
        sha, kind = annotated.object.sha, annotated.object.type
    if commit and sha != commit:
        raise CannotPublish(
            f"tag {tag} names commit {sha[:12]}, and these models are of {commit[:12]}",
            "run the workflow on the tag, check the tag out, or name another tag; nothing was published",
        )
    return True


def _find(hub: Hub) -> GitRelease | None:
    """Return the release of the tag: a draft is found in the list only, and of several the oldest counts."""
    tag = hub.place.tag
    try:
        return hub.ask(f"release {tag}", lambda: hub.repository.get_release(tag))
    except github.UnknownObjectException:
        releases = every(hub, "the list of releases", hub.repository.get_releases())
        found = [release for release in releases if release.tag_name == tag]
        return min(found, key=lambda release: release.id, default=None)


def _create(hub: Hub, wishes: Wishes, *, tagged: bool) -> GitRelease:
    """Create the draft; where other jobs do so at the same time, all of them go on with the oldest."""
    tag, commit = hub.place.tag, hub.place.commit
    target = commit if commit and not tagged else NotSet

    def create() -> GitRelease:
        return hub.repository.create_git_release(
            tag, name=tag, message="", draft=True, prerelease=wishes.prerelease, target_commitish=target
        )

    for pause in (*retries.PAUSES, None):
        try:
            made = retries.within(hub.bound, f"release {tag}", create)
            break
        except (github.GithubException, requests.RequestException) as error:
            found = _find(hub)  # by another job, or by a request whose answer was lost
            if found is not None:
                return found
            retries.again(hub.bound, f"release {tag}: creating it", error, pause)
    first = _find(hub) or made
    if first.id != made.id:
        with suppress(github.UnknownObjectException):
            hub.ask(f"release {tag}: deleting the second draft", made.delete_release)
    return first


def _finish(hub: Hub, release: GitRelease, wishes: Wishes, *, tagged: bool) -> GitRelease:
    """Write the notes and publish a draft, as its author wrote it meanwhile, in one request if there is anything to do.

    A draft whose tag does not exist yet may be of an earlier commit: its tag will name the job's, as the models do.
    "legacy" lets GitHub find the latest release by version and date; of one that is published nothing is said.
    """
    tag, number = release.tag_name, release.id
    now = hub.ask(f"release {tag}", lambda: hub.repository.get_release(number).complete())
    body, draft = now.body or "", now.draft and wishes.draft
    text = notes.merged(body, wishes.described) if wishes.described else body
    if wishes.described and notes.BEGIN not in text:
        hub.bound.tell(f"release {tag}: its notes are full, the table of what was stripped is left out")
    prerelease = now.prerelease or (now.draft and wishes.prerelease)
    commit = hub.place.commit
    moves = bool(now.draft and commit and not tagged and now.target_commitish != commit)
    if (text, draft, prerelease) == (body, now.draft, now.prerelease) and not moves:
        return now
    signals.obey()
    latest = "legacy" if now.draft and not draft else NotSet
    done = hub.ask(
        f"release {tag}: {'publishing' if now.draft and not draft else 'writing its notes'}",
        lambda: now.update_release(
            now.name or "",
            text,
            draft=draft,
            prerelease=prerelease,
            target_commitish=commit if moves else NotSet,
            make_latest=latest,
        ),
    )
    if done.draft is not draft:
        raise CannotPublish(f"release {tag} is still a draft", "publish it by hand, everything is in it")
    return done
