"""What a release holds against what it is to hold: what is in the way, what is missing, and the last step to ours.

Where others already see a release, or another file has the name, a file is sent under a name for the way, made of its
own digest: the next run, or another job, takes it from there. Once all of them are there and compared they get their
names; a file that has to give way is put aside for that moment, so that it can come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Literal

import github
import requests
from github.GitRelease import GitRelease
from github.GitReleaseAsset import GitReleaseAsset

from tfstrip_core import signals
from tfstrip_core.errors import CannotPublish
from tfstrip_core.release import retries
from tfstrip_core.release.names import ON_THE_WAY
from tfstrip_core.release.transfer import Asset, Hub, bring_back, delete, held, listed, rename, same

OnExisting = Literal["skip-identical", "replace", "fail"]

MOST_ASSETS = 1000
_STALE = timedelta(hours=1)  # older than what another job may still be sending


def on_the_way(asset: Asset) -> str:
    """Return the name under which a file is sent that may not appear under its own yet."""
    return f"{asset.name}.tfstrip-{asset.sha256[:16]}"


def _aside(name: str) -> str:
    return f"{name}.tfstrip-old"


def missing(hub: Hub, release: GitRelease, wanted: Sequence[Asset], existing: OnExisting) -> list[tuple[Asset, str]]:
    """Return what has to be sent, each with the name for it; remains of broken uploads do not count.

    Raises CannotPublish for what may not be there, for too many, and for a release that can no longer be changed.
    """
    assets = listed(hub, release)
    there = held(assets)
    taken = {asset.name for asset in wanted if asset.name in there}
    kept = {name for name in taken if existing != "fail" and same(hub, there[name], _named(wanted, name))}
    if taken - kept and existing != "replace":
        raise _clash(release, min(taken - kept), existing)
    new = [asset for asset in wanted if asset.name not in kept]
    if new and _is_locked(hub, release):
        raise CannotPublish(
            f"release {release.tag_name} is published and immutable, nothing can be attached to it any more",
            "run the action when the tag is pushed, it creates the release itself, or attach to a draft",
        )
    to_send = []
    for asset in new:
        name = on_the_way(asset)
        if name not in there or not same(hub, there[name], asset):
            to_send.append((asset, name if asset.name in taken or not release.draft else asset.name))
    # What gives way is still there when the last of ours comes.
    count = len([asset for asset in assets if not _is_left(asset, wanted)]) + len(new)
    if new and count > MOST_ASSETS:
        raise CannotPublish(
            f"release {release.tag_name} would hold {count:,} assets, and GitHub takes 1,000",
            "attach to several releases; nothing was uploaded",
        )
    return to_send


def _clash(release: GitRelease, name: str, existing: OnExisting) -> CannotPublish:
    what, which = ("a", "") if existing == "fail" else ("another", " if this one is right")
    return CannotPublish(
        f"release {release.tag_name} holds {what} {name}",
        f"delete it there{which}, set on-existing, or attach to another tag; nothing was changed",
    )


def _is_locked(hub: Hub, release: GitRelease) -> bool:
    """Whether nothing of it can be changed; an old server has no word for this, and PyGithub asks it again."""
    return not release.draft and bool(hub.ask(f"release {release.tag_name}", lambda: release.immutable))


def _named(wanted: Sequence[Asset], name: str) -> Asset:
    return next(asset for asset in wanted if asset.name == name)


def _is_left(there: GitReleaseAsset, wanted: Sequence[Asset]) -> bool:
    """Whether it is what a broken run or upload left of a file that we bring."""
    names = {asset.name for asset in wanted}
    base = ON_THE_WAY.sub("", there.name)
    return base in names and (base != there.name or there.state != "uploaded")


def compare(
    hub: Hub, release: GitRelease, wanted: Sequence[Asset], sent: Sequence[tuple[Asset, str]]
) -> list[GitReleaseAsset]:
    """Read the list of assets afresh; raise CannotPublish unless each of ours is there with our bytes.

    What this run itself `sent`, and GitHub stored otherwise, is removed.
    """
    assets, names = listed(hub, release), {asset.name: name for asset, name in sent}
    there = held(assets)
    for asset in wanted:
        # Another job may have given it its name already.
        found = [there[name] for name in (asset.name, on_the_way(asset)) if name in there]
        if not any(same(hub, item, asset) for item in found):
            wrong = there.get(names.get(asset.name, ""))
            if wrong is not None:
                delete(hub, wrong)
            raise _incomplete(release, asset, found)
    return assets


def _incomplete(release: GitRelease, asset: Asset, found: Sequence[GitReleaseAsset]) -> CannotPublish:
    state = "has other bytes than were sent" if found else "is not complete"
    return CannotPublish(
        f"{asset.name} {state} in release {release.tag_name}",
        "run the job again" + ("; the release stays a draft" if release.draft else ""),
    )


def settle(
    hub: Hub, release: GitRelease, wanted: Sequence[Asset], assets: list[GitReleaseAsset], existing: OnExisting
) -> None:
    """Give all that is there under a name for the way its own; where that fails, everything gets its old name back.

    Then remove what gave way, and what earlier runs left. `assets` are those that were compared.
    """
    assets = _unblocked(hub, release, wanted, assets)
    steps = _steps(hub, release, wanted, held(assets), existing)
    if steps:
        with signals.held():
            assets = _rename_all(hub, release, wanted, steps)
        signals.obey()
    if _is_locked(hub, release):
        return
    for there in _leftovers(wanted, assets):
        if release.draft:
            delete(hub, there)
        else:  # everybody has the right files by now
            bring_back(hub, f"{there.name}: deleting it", there.delete_asset)


def _steps(
    hub: Hub,
    release: GitRelease,
    wanted: Sequence[Asset],
    there: dict[str, GitReleaseAsset],
    existing: OnExisting,
) -> list[tuple[GitReleaseAsset, str]]:
    """Return what has to be renamed, in order; what is in the way of that goes first."""
    steps: list[tuple[GitReleaseAsset, str]] = []
    for asset in wanted:
        new, old = there.get(on_the_way(asset)), there.get(asset.name)
        if old is not None and same(hub, old, asset):
            continue
        if old is not None and existing != "replace":  # another job was quicker
            raise _clash(release, asset.name, existing)
        if old is not None:
            if _aside(asset.name) in there:  # of a run that was killed when all was done but this
                delete(hub, there[_aside(asset.name)])
            steps.append((old, _aside(asset.name)))
        if new is not None:
            steps.append((new, asset.name))
    return steps


def _unblocked(
    hub: Hub, release: GitRelease, wanted: Sequence[Asset], assets: list[GitReleaseAsset]
) -> list[GitReleaseAsset]:
    """Return the assets once no upload that never ended has one of our names: it may be under way, for a while."""
    names = {asset.name for asset in wanted}
    for pause in (*retries.PAUSES, None):
        blocking = [there for there in assets if there.name in names and there.state != "uploaded"]
        if not blocking:
            break
        if pause is None:
            for there in blocking:
                delete(hub, there)
        else:
            hub.bound.tell(f"{blocking[0].name}: another upload has this name; looking again in {pause:.0f} s")
            retries.rest(pause)
        assets = listed(hub, release)
    return assets


def _rename_all(
    hub: Hub, release: GitRelease, wanted: Sequence[Asset], steps: Sequence[tuple[GitReleaseAsset, str]]
) -> list[GitReleaseAsset]:
    """Rename, and return the list in which all of ours are there under their names."""
    done: list[GitReleaseAsset] = []
    try:
        for asset, name in steps:
            done.append(asset)  # before it is asked for: an answer that is lost may have been a yes
            rename(hub, asset, name)
        return _settled(hub, release, wanted)
    except BaseException:
        with suppress(CannotPublish, github.GithubException, requests.RequestException):
            return _settled(hub, release, wanted)  # by another job, whose work is not to be undone
        for asset in reversed(done):
            back = partial(asset.update_asset, asset.name, asset.label or "")
            bring_back(hub, f"{asset.name}: giving it its name back", back)
        raise


def _settled(hub: Hub, release: GitRelease, wanted: Sequence[Asset]) -> list[GitReleaseAsset]:
    """Return the list of assets; raise CannotPublish unless all of ours are in it under their names."""
    assets = listed(hub, release)
    there = held(assets)
    for asset in wanted:
        if asset.name not in there or not same(hub, there[asset.name], asset):
            raise _incomplete(release, asset, [there[asset.name]] if asset.name in there else [])
    return assets


def withdraw(hub: Hub, release: GitRelease, sent: Sequence[tuple[Asset, str]]) -> None:
    """Take out of a published release what a run that failed sent to it under names for the way."""
    names = {name for asset, name in sent if name != asset.name}

    def remove() -> None:
        for there in listed(hub, release):
            if there.name in names:
                there.delete_asset()

    if names:
        bring_back(hub, f"release {release.tag_name}: removing what was sent to it", remove)


def _leftovers(wanted: Sequence[Asset], assets: Sequence[GitReleaseAsset]) -> Iterator[GitReleaseAsset]:
    """Yield what earlier runs left of our files, and of others once no other job can be sending them any more."""
    bases = {asset.name for asset in assets}
    for there in assets:
        base = ON_THE_WAY.sub("", there.name)
        if base == there.name or base not in bases:
            continue  # a file, or the only copy of one
        ours = base in {asset.name for asset in wanted}
        if ours or datetime.now(timezone.utc) - _aware(there.created_at) > _STALE:
            yield there


def _aware(then: datetime) -> datetime:
    return then if then.tzinfo else then.replace(tzinfo=timezone.utc)
