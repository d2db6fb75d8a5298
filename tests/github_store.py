"""GitHub's rules for releases, without the HTTP: what is kept, and what is refused with which answer."""

import hashlib
import os
import re
import secrets
import tempfile
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

BODY_LIMIT = 125_000  # characters
DOCS = "https://docs.github.com/rest"
# What stays changeable once a release is immutable, after GitHub's documentation. It was seen to let `prerelease` and
# `make_latest` through as well (github/docs#45718); who asks for less is safe with both.
EDITABLE_WHEN_IMMUTABLE = {"name", "body"}
# Every key that a release may be sent with, and the types that it may have.
FIELDS: dict[str, tuple[type, ...]] = {
    "tag_name": (str,),
    "target_commitish": (str,),
    "name": (str, type(None)),
    "body": (str, type(None)),
    "draft": (bool,),
    "prerelease": (bool,),
    "generate_release_notes": (bool,),
    "make_latest": (str,),
    "discussion_category_name": (str,),
}
UNSTORED = {"generate_release_notes", "discussion_category_name"}
ASSET_FIELDS: dict[str, tuple[type, ...]] = {"name": (str,), "label": (str, type(None)), "state": (str,)}
TYPES = {str: "a string", bool: "a boolean"}


class Refused(Exception):
    """An answer that is an error: its status and what its JSON says."""

    def __init__(self, status: int, message: str, *errors: dict[str, str]) -> None:
        super().__init__(f"{status} {message} {errors or ''}")
        self.status = status
        self.payload: dict[str, Any] = {"message": message, "documentation_url": DOCS, "status": str(status)}
        if errors:
            self.payload["errors"] = list(errors)


def invalid(resource: str, code: str, about: str = "", message: str = "") -> Refused:
    """Return the 422 that says which field is the matter; GitHub words it only where the code is custom."""
    error = {"resource": resource, "code": code, "field": about, "message": message}
    return Refused(422, "Validation Failed", {key: value for key, value in error.items() if value})


def not_found() -> Refused:
    """Return GitHub's answer for everything that is not there, or that this token must not know of."""
    return Refused(404, "Not Found")


@dataclass(eq=False)
class Asset:
    """A file of a release. Its size and type are what the client declared, its digest is that of the stored bytes."""

    id: int
    name: str
    state: str  # "uploaded", or "starter" as long as it is not whole
    size: int
    content_type: str
    path: str
    digest: str | None = None
    label: str = ""

    @property
    def content(self) -> bytes:
        """The stored bytes; for a big one use `path`."""
        with open(self.path, "rb") as file:
            return file.read()


@dataclass(eq=False)
class Release:
    """A release as it is stored."""

    id: int
    tag_name: str
    name: str | None = None
    body: str | None = None
    draft: bool = False
    prerelease: bool = False
    immutable: bool = False
    target_commitish: str = "main"
    make_latest: str | None = None  # as it was sent last
    assets: list[Asset] = field(default_factory=list)
    published: int = 0  # the how manieth to be published, 0 for one that never was


def clean_name(name: str) -> str:
    """Return the name under which GitHub stores a file: runs of odd characters become one dot, accents go."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    dotted = re.sub(r"[^A-Za-z0-9_+@-]+", ".", plain)
    if dotted.startswith("."):
        dotted = "default" + dotted
    return dotted.rstrip(".")


def is_valid_tag(tag: str) -> bool:
    """Return whether git would take it as a tag's name."""
    odd = re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)", tag)
    return bool(tag) and odd is None and tag[0] not in "/.-" and tag[-1] not in "/."


def check_fields(sent: object, known: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    """Return what was sent as a JSON object, refused where a key is not known or its value has another type."""
    if not isinstance(sent, dict):
        raise Refused(400, "Body should be a JSON object")
    for key, value in sent.items():
        if key not in known:
            raise Refused(422, f'Invalid request.\n\n"{key}" is not a permitted key.')
        if type(value) not in known[key]:
            raise Refused(422, f"Invalid request.\n\nFor 'properties/{key}', {value!r} is not {TYPES[known[key][0]]}.")
    return sent


class Store:
    """One repository with its releases. Every method locks; what it refuses it raises as Refused."""

    def __init__(
        self,
        repository: str = "acme/models",
        *,
        immutable: bool = False,
        digests: bool = True,
        size_limit: int = 2**31,
        max_assets: int = 1000,
    ) -> None:
        self.repository = repository
        self.immutable = immutable
        self.digests = digests
        self.size_limit = size_limit
        self.max_assets = max_assets
        self.releases: list[Release] = []
        self.branches = {"main": secrets.token_hex(20)}
        self.tags: dict[str, str] = {}
        self.annotated: dict[str, str] = {}  # tag objects, which tags may name, and the commits that those name
        self.burnt: set[str] = set()  # tags of deleted immutable releases: nobody gets them again
        self.lock = threading.RLock()
        self.folder = tempfile.TemporaryDirectory(prefix="github-server-")
        self.last_id = 1000

    def next_id(self) -> int:
        """Return a number that nothing else has."""
        self.last_id += 1
        return self.last_id

    def add_release(
        self,
        tag: str,
        draft: bool = False,
        immutable: bool = False,
        assets: dict[str, bytes] | None = None,
        name: str | None = None,
        body: str | None = "",
    ) -> Release:
        """Put a release there, for tests: no rule is asked, and the assets keep their names as they are."""
        with self.lock:
            release = Release(self.next_id(), tag, name, body, draft)
            for title, content in (assets or {}).items():
                asset = self.new_asset(release, title, len(content), "application/octet-stream", "")
                with open(asset.path, "wb") as file:
                    file.write(content)
                asset.state, asset.digest = "uploaded", f"sha256:{hashlib.sha256(content).hexdigest()}"
            self.releases.append(release)
            if not draft:
                self.make_public(release)
            release.immutable = release.immutable or immutable
            return release

    def new_asset(self, release: Release, name: str, size: int, content_type: str, label: str) -> Asset:
        """Add an asset whose bytes are still to come."""
        number = self.next_id()
        path = os.path.join(self.folder.name, str(number))
        with open(path, "wb"):
            asset = Asset(number, name, "starter", size, content_type, path, label=label)
        release.assets.append(asset)
        return asset

    # ---- releases

    def sha_of(self, commitish: str) -> str:
        """Return the commit of a branch; a full commit id is taken at its word, as there is no git behind this."""
        branch = self.branches.get(commitish.removeprefix("refs/heads/"))
        if branch is None and not re.fullmatch(r"[0-9a-f]{40}", commitish):
            raise invalid("Release", "invalid", "target_commitish")
        return branch or commitish

    def check_publishing(self, tag: str, own: Release | None) -> None:
        """Refuse a tag that is another published release's, or that belonged to an immutable one."""
        if any(other is not own and not other.draft and other.tag_name == tag for other in self.releases):
            raise invalid("Release", "already_exists", "tag_name")
        if tag in self.burnt:
            raise invalid("Release", "custom", "tag_name", "tag_name was used by an immutable release")

    def make_public(self, release: Release) -> None:
        """Create the tag where there is none, and lock the release where the repository says so."""
        self.tags.setdefault(release.tag_name, self.sha_of(release.target_commitish))
        release.draft = False
        release.immutable = self.immutable
        release.published = 1 + max(other.published for other in self.releases)

    def check_release(self, sent: object) -> dict[str, Any]:
        """Return the fields of a release as they were sent, once each of them is valid in itself."""
        fields = check_fields(sent, FIELDS)
        if fields.get("make_latest", "true") not in {"true", "false", "legacy"}:
            raise Refused(422, "Invalid request.\n\n\"make_latest\" must be one of 'true', 'false', 'legacy'.")
        if not is_valid_tag(fields.get("tag_name", "valid")):
            raise invalid("Release", "custom", "tag_name", "tag_name is not a valid tag")
        if len(fields.get("body") or "") > BODY_LIMIT:
            raise invalid("Release", "custom", "body", f"body is too long (maximum is {BODY_LIMIT} characters)")
        self.sha_of(fields.get("target_commitish", "main"))
        return {key: value for key, value in fields.items() if key not in UNSTORED}

    def create_release(self, sent: object) -> Release:
        """Create a draft, of which a tag may have several, or a published release, of which it has one."""
        with self.lock:
            fields = self.check_release(sent)
            if "tag_name" not in fields:
                raise Refused(422, 'Invalid request.\n\n"tag_name" wasn\'t supplied.')
            release = Release(self.next_id(), **fields)
            if not release.draft:
                self.check_publishing(release.tag_name, None)
            self.releases.append(release)
            if not release.draft:
                self.make_public(release)
            return release

    def update_release(self, release: Release, sent: object) -> Release:
        """Change what was sent, and publish where `draft` goes from true to false."""
        with self.lock:
            fields = self.check_release(sent)
            changed = {key for key, value in fields.items() if getattr(release, key) != value}
            if release.immutable and changed - EDITABLE_WHEN_IMMUTABLE:
                about = min(changed - EDITABLE_WHEN_IMMUTABLE).replace("draft", "state")  # GitHub's word for it
                raise invalid("Release", "custom", about, f"{about} cannot be changed when release is immutable")
            was_draft, draft = release.draft, fields.get("draft", release.draft)
            if not draft and (was_draft or "tag_name" in changed):
                self.check_publishing(fields.get("tag_name", release.tag_name), release)
            for key, value in fields.items():
                setattr(release, key, value)
            if was_draft and not draft:
                self.make_public(release)
            elif not draft:
                self.tags.setdefault(release.tag_name, self.sha_of(release.target_commitish))
            return release

    def delete_release(self, release: Release) -> None:
        """Delete it with its assets; the tag stays, and is lost for ever if the release was immutable."""
        with self.lock:
            self.releases.remove(release)
            if release.immutable:
                self.burnt.add(release.tag_name)

    def visible(self, *, drafts: bool) -> list[Release]:
        """Return the releases that somebody with or without write access sees, newest first."""
        with self.lock:
            return [release for release in reversed(self.releases) if drafts or not release.draft]

    def release_of_id(self, number: int, *, drafts: bool) -> Release:
        """Return that release."""
        for release in self.visible(drafts=drafts):
            if release.id == number:
                return release
        raise not_found()

    def release_of_tag(self, tag: str) -> Release:
        """Return the published release of a tag, never a draft."""
        for release in self.visible(drafts=False):
            if release.tag_name == tag:
                return release
        raise not_found()

    def latest_release(self) -> Release:
        """Return the one published last that neither is a prerelease nor asked not to be the latest."""
        able = [r for r in self.visible(drafts=False) if not r.prerelease and r.make_latest != "false"]
        if not able:
            raise not_found()
        return max(able, key=lambda release: release.published)

    # ---- assets

    def asset_of_id(self, number: int, *, drafts: bool) -> tuple[Release, Asset]:
        """Return that asset and its release."""
        for release in self.visible(drafts=drafts):
            for asset in release.assets:
                if asset.id == number:
                    return release, asset
        raise not_found()

    def check_name(self, release: Release, name: str, own: Asset | None = None) -> str:
        """Return the name as it will be stored, refused where the release has it, be it from a broken upload."""
        clean = clean_name(name)
        if not clean:
            raise invalid("ReleaseAsset", "missing_field", "name")
        if any(other.name == clean and other is not own for other in release.assets):
            raise invalid("ReleaseAsset", "already_exists", "name")
        return clean

    def check_upload(self, release: Release, name: str, size: int) -> str:
        """Return the name that an upload will have, or refuse it for what is known before its first byte."""
        with self.lock:
            if release.immutable:
                raise Refused(422, "Cannot upload assets to an immutable release.")
            if size < 1:
                raise invalid("ReleaseAsset", "custom", "size", "size must be greater than or equal to 1")
            if size >= self.size_limit:
                message = f"size must be less than or equal to {self.size_limit}"  # GitHub's words; it means less than
                raise invalid("ReleaseAsset", "custom", "size", message)
            if len(release.assets) >= self.max_assets:
                message = f"file_count limited to {self.max_assets} assets per release"
                raise invalid("ReleaseAsset", "custom", "file_count", message)
            return self.check_name(release, name)

    @contextmanager
    def upload(self, release: Release, name: str, label: str, content_type: str, size: int) -> Iterator[Asset]:
        """Give a starter to write to; it becomes an asset if the block ends well, and stays a starter if it does not.

        The block sets its digest.
        """
        with self.lock:
            clean = self.check_upload(release, name, size)
            asset = self.new_asset(release, clean, size, content_type, label)
        yield asset
        with self.lock:
            if release not in self.releases or asset not in release.assets:
                raise not_found()
            if release.immutable:
                raise Refused(422, "Cannot upload assets to an immutable release.")
            asset.state = "uploaded"

    def update_asset(self, release: Release, asset: Asset, sent: object) -> Asset:
        """Rename it, or give it another label."""
        with self.lock:
            fields = check_fields(sent, ASSET_FIELDS)
            if release.immutable:
                raise invalid("ReleaseAsset", "custom", message="Cannot update asset of an immutable release")
            if "name" in fields:
                asset.name = self.check_name(release, fields["name"], asset)
            asset.label = fields.get("label", asset.label) or ""
            return asset

    def delete_asset(self, release: Release, asset: Asset) -> None:
        """Delete it, whether whole or a starter."""
        with self.lock:
            if release.immutable:
                raise invalid("ReleaseAsset", "custom", message="Cannot delete asset from an immutable release")
            release.assets.remove(asset)
