"""What the JSON of GitHub's releases looks like, and the addresses in it."""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from github_store import Asset, Release

if TYPE_CHECKING:
    from github_server import GitHub

API, UPLOADS, STORAGE = "/api/v3", "/api/uploads", "/storage"
REPOSITORY_ID = 4711
WHEN = "2026-01-02T03:04:05Z"
BOT = {"login": "github-actions[bot]", "id": 2, "type": "Bot"}


def repository_json(hub: "GitHub", *, write: bool) -> dict[str, Any]:
    """Return a public repository, with what this token may do there."""
    owner, name = hub.repository.split("/")
    url = f"{hub.url}/repos/{hub.repository}"
    return {
        "id": REPOSITORY_ID,
        "node_id": f"R_{REPOSITORY_ID}",
        "name": name,
        "full_name": hub.repository,
        "owner": {"login": owner, "id": 1, "type": "Organization"},
        "private": False,
        "visibility": "public",
        "archived": False,
        "html_url": f"{hub.root}/{hub.repository}",
        "url": url,
        "releases_url": f"{url}/releases{{/id}}",
        "default_branch": next(iter(hub.branches)),
        "permissions": {"admin": False, "maintain": False, "push": write, "triage": write, "pull": True},
    }


def release_json(hub: "GitHub", release: Release) -> dict[str, Any]:
    """Return a release with its assets; a draft's page is not under its tag, because it has none yet."""
    repository, tag = f"{hub.url}/repos/{hub.repository}", quote(release.tag_name)
    url = f"{repository}/releases/{release.id}"
    return {
        "id": release.id,
        "node_id": f"RE_{release.id}",
        "url": url,
        "assets_url": f"{url}/assets",
        "upload_url": f"{hub.root}{UPLOADS}/repos/{hub.repository}/releases/{release.id}/assets{{?name,label}}",
        "html_url": f"{hub.root}/{hub.repository}/releases/tag/{public_tag(release)}",
        "tarball_url": None if release.draft else f"{repository}/tarball/{tag}",
        "zipball_url": None if release.draft else f"{repository}/zipball/{tag}",
        "author": BOT,
        "tag_name": release.tag_name,
        "target_commitish": release.target_commitish,
        "name": release.name,
        "body": release.body,
        "draft": release.draft,
        "prerelease": release.prerelease,
        "immutable": release.immutable,
        "created_at": WHEN,
        "updated_at": WHEN,
        "published_at": WHEN if release.published else None,
        "assets": [asset_json(hub, release, asset) for asset in list(release.assets)],
    }


def asset_json(hub: "GitHub", release: Release, asset: Asset) -> dict[str, Any]:
    """Return an asset; an old server has no digests."""
    page = f"{hub.root}/{hub.repository}/releases"
    return {
        "id": asset.id,
        "node_id": f"RA_{asset.id}",
        "url": f"{hub.url}/repos/{hub.repository}/releases/assets/{asset.id}",
        "browser_download_url": f"{page}/download/{public_tag(release)}/{quote(asset.name)}",
        "name": asset.name,
        "label": asset.label,
        "state": asset.state,
        "size": asset.size,
        "content_type": asset.content_type,
        "uploader": BOT,
        "download_count": 0,
        "created_at": WHEN,
        "updated_at": WHEN,
        **({"digest": asset.digest} if hub.digests else {}),
    }


def public_tag(release: Release) -> str:
    """Return the tag as it stands in the addresses that anybody may open."""
    return f"untagged-{release.id:020x}" if release.draft else quote(release.tag_name)
