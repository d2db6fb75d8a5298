"""Every fault at every step of publishing, alone and in pairs: the right bytes in the end, or a release as it was.

The server is real and in this process; what it and the uploader wait is shortened, and time that is only waited for
passes on a clock of the test's own.
"""

import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from attaching import attach, two_files
from github_server import Fault, GitHub, Release

from tfstrip_core.errors import CannotPublish
from tfstrip_core.release import exchange, retries
from tfstrip_core.release import github as publishing

A, B, OLD = b"a" * 3000, b"b" * 70000, b"old" * 500
MORE = {"readme.txt": b"mine"}


@dataclass
class Clock:
    """Time that passes where it is waited for, and a little with each look at it."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        self.now += 1e-6
        return self.now

    def time(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let the uploader live by such a clock, with its own pauses."""
    clock = Clock()
    monkeypatch.setattr(retries, "time", clock)
    return clock


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    pauses = retries.PAUSES
    paths = two_files(tmp_path, monkeypatch)
    monkeypatch.setattr(retries, "PAUSES", pauses)
    return paths


# What there is before, and what is asked for.


@dataclass(frozen=True)
class Scene:
    """What the repository holds when the job begins, and the wish with which files are attached."""

    prepare: Callable[[GitHub], Any] = lambda hub: None
    existing: exchange.OnExisting = "skip-identical"
    options: dict[str, Any] = field(default_factory=dict)


def leftovers(hub: GitHub) -> None:
    """What replacing runs left: one killed in its last step, and one of another content killed before that."""
    assets = {"a.bin": OLD, "b.bin.tfstrip-old": OLD, f"a.bin.tfstrip-{'0' * 16}": b"other", **MORE}
    release = hub.add_release("v1", assets=assets)
    asset = hub.new_asset(release, "b.bin", 100, "a/b", "")
    assert asset.state == "starter"


SCENES = {
    "nothing": Scene(),
    "a draft": Scene(lambda hub: hub.add_release("v1", draft=True, body="Notes.", assets={"a.bin": A, **MORE})),
    "a release": Scene(lambda hub: hub.add_release("v1", body="Notes.", assets={"a.bin": A, **MORE})),
    "replacing": Scene(lambda hub: hub.add_release("v1", assets={"a.bin": OLD, "b.bin": OLD, **MORE}), "replace"),
    "replacing in a draft": Scene(lambda hub: hub.add_release("v1", draft=True, assets={"a.bin": OLD}), "replace"),
    "leftovers": Scene(leftovers, "replace"),
    "immutable": Scene(options={"immutable": True}),
    "without digests": Scene(options={"digests": False}),
}

FAULTS: dict[str, dict[str, Any]] = {
    "500": {"kind": "status", "status": 500},
    "502 afterwards": {"kind": "status-after", "status": 502},
    "dropped": {"kind": "drop", "after": 50},
    "dropped afterwards": {"kind": "drop-after"},
    "starter": {"kind": "starter", "after": 100},
    "corrupt": {"kind": "corrupt"},
    "202": {"kind": "status", "status": 202, "message": "Accepted"},
    "429": {"kind": "status", "status": 429, "retry_after": 30},
    "403 with a date": {"kind": "status", "status": 403, "retry_after": formatdate(time.time() + 60, usegmt=True)},
    "403 in words": {"kind": "status", "status": 403, "message": "You have exceeded a secondary rate limit, wait."},
    "403 until": {
        "kind": "status",
        "status": 403,
        "message": "API rate limit exceeded",
        "headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 60)},
    },
    "404": {"kind": "status", "status": 404},
    "422": {"kind": "status", "status": 422},
}


def view(release: Release) -> dict[str, Any]:
    """What everybody sees of a release, but for its notes."""
    assets = {asset.name: asset.content for asset in release.assets if asset.state == "uploaded"}
    return {"assets": assets, "draft": release.draft, "body": release.body, "tag": release.tag_name}


def is_right(hub: GitHub, scene: Scene) -> bool:
    """One published release with our bytes, what else was there, and nothing that was left over."""
    if [release.draft for release in hub.releases] != [False]:
        return False
    held = view(hub.releases[0])["assets"]
    others = {name: content for name, content in held.items() if name not in ("a.bin", "b.bin")}
    return bool((held.get("a.bin"), held.get("b.bin")) == (A, B) and set(others) <= set(MORE))


def run(scene: Scene, faults: list[Fault], files: list[str]) -> tuple[bool, str, Any]:
    """Attach with these faults, then check what the world looks like, then attach again without any."""
    with GitHub(**scene.options) as hub:
        scene.prepare(hub)
        before = [view(release) for release in hub.releases]
        hub.faults += faults
        log: list[str] = []
        wishes = publishing.Wishes(existing=scene.existing)
        said = ""
        try:
            attach(hub, files, tell=log.append, wishes=wishes)
        except CannotPublish as error:
            said = str(error)
        assert hub.unknown == []
        assert hub.token not in said + "".join(log)
        assert len(said.splitlines()) <= 1
        right = is_right(hub, scene)
        after = [view(release) for release in hub.releases]
        if not said:
            assert right, after
        elif not right:
            was = all(release.draft for release in hub.releases) or after == before
            assert was, (said, faults, [asset.name for asset in hub.releases[0].assets])
            # A release that somebody wrote is never less than it was, nor told of twice.
            for old in before:
                if old["draft"]:
                    kept = [content for release in after for content in release["assets"].values()]
                    assert set(old["assets"].values()) - {OLD} <= set(kept)
        if right:  # that another run changes nothing then has its own test
            return right, said, hub
        hub.faults.clear()
        attach(hub, files, tell=log.append, wishes=wishes)
        assert is_right(hub, scene), [view(release)["assets"].keys() for release in hub.releases]
        starters = [asset.name for release in hub.releases for asset in release.assets if asset.state == "starter"]
        assert starters == []
        return right, said, hub


def steps(scene: Scene, files: list[str]) -> list[tuple[str, str]]:
    """The requests of an attachment without faults."""
    with GitHub(**scene.options) as hub:
        scene.prepare(hub)
        attach(hub, files, tell=lambda line: None, wishes=publishing.Wishes(existing=scene.existing))
        return [(method, path) for method, path, _ in hub.requests]


def fault(name: str, step: int, times: int = 1) -> Fault:
    return Fault("*", "", skip=step, times=times, **FAULTS[name])


PASSING = [name for name in FAULTS if name not in ("corrupt", "404", "422")]


# Everything where most can go wrong; elsewhere one fault of each kind.
TABLE = [*itertools.product(("nothing", "replacing"), FAULTS)]
TABLE += [*itertools.product(sorted(set(SCENES) - {"nothing", "replacing"}), ("500", "dropped afterwards", "starter"))]
TABLE += [("leftovers", "corrupt"), ("without digests", "corrupt"), ("a release", "corrupt"), ("a release", "422")]


@pytest.mark.parametrize(("scene", "name"), TABLE)
def test_a_fault_at_any_step(scene: str, name: str, files: list[str], clock: Clock) -> None:
    """Once at each request: what passes is survived, what does not is told, and nothing is worse than before."""
    requests = steps(SCENES[scene], files)
    for step, (method, _) in enumerate(requests):
        if (name, method) == ("404", "DELETE"):
            continue  # that it is gone is what was wanted
        injected = fault(name, step)
        right, said, _ = run(SCENES[scene], [injected], files)
        if name in PASSING:
            assert (right, said) == (True, ""), (step, said)
    assert len(requests) >= 6


@pytest.mark.parametrize("scene", SCENES)
def test_a_fault_that_lasts(scene: str, files: list[str], clock: Clock) -> None:
    """From each request on nothing works any more: the job is red and names the cause."""
    for step in range(len(steps(SCENES[scene], files))):
        lasting = fault(("500", "dropped")[step % 2], step, times=10**6)
        with GitHub(**SCENES[scene].options) as hub:
            SCENES[scene].prepare(hub)
            before = {asset.content for release in hub.releases for asset in release.assets}
            hub.faults.append(lasting)
            wishes = publishing.Wishes(existing=SCENES[scene].existing)
            with pytest.raises(CannotPublish, match=r"500|cannot be reached"):
                attach(hub, files, tell=lambda line: None, wishes=wishes)
            left = {asset.content for release in hub.releases for asset in release.assets}
            # What gave way goes when ours is there under its name, and not before.
            assert before <= left or {A, B} <= left
            hub.faults.clear()
            attach(hub, files, tell=lambda line: None, wishes=wishes)
            assert is_right(hub, SCENES[scene])


PAIRS = list(itertools.product(sorted(SCENES), range(8)))


@pytest.mark.parametrize(("scene", "seed"), PAIRS, ids=str)
def test_two_faults(scene: str, seed: int, files: list[str], clock: Clock) -> None:
    """Pairs of faults at any two steps, the same in each run of this test."""
    dice = random.Random(f"{scene} {seed}")
    count = len(steps(SCENES[scene], files))
    for _ in range(3):
        names = [dice.choice(list(FAULTS)) for _ in range(2)]
        places = sorted(dice.randrange(count + 2) for _ in range(2))
        pair = [fault(name, step, times=dice.choice((1, 1, 3))) for name, step in zip(names, places, strict=True)]
        right, said, _ = run(SCENES[scene], pair, files)
        if set(names) <= set(PASSING):
            assert (right, said) == (True, ""), (names, places, said)
