"""What publishing waits for, how long, what it says meanwhile, and that it comes to an end."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import github
import pytest
import requests
from attaching import Mangled, attach, mangled, stored, two_files
from github_http import Answer, Handler
from github_server import Fault, GitHub

from tfstrip_core.errors import CannotPublish
from tfstrip_core.release import github as publishing
from tfstrip_core.release import retries, transfer

HERE = Path(__file__).parent
NOW = 1_800_000_000


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mangled]:
    with mangled(monkeypatch) as server:
        yield server


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two small files to attach; nobody waits between tries."""
    return two_files(tmp_path, monkeypatch)


def failure(status: int, message: str = "", **headers: str) -> github.GithubException:
    spelt = {name.replace("_", "-"): value for name, value in headers.items()}
    return github.GithubException(status, {"message": message}, spelt)


SERVER_TIME = formatdate(NOW, usegmt=True)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (failure(503, Retry_After="7"), 7),
        (failure(429, Retry_After="90"), 90),
        (failure(403, Retry_After="90"), 90),
        (failure(503, Retry_After=formatdate(NOW + 40, usegmt=True), Date=SERVER_TIME), 40),
        (failure(503, Retry_After=formatdate(NOW - 40, usegmt=True), Date=SERVER_TIME), 0),
        (failure(429), retries.CROWDED),
        (failure(403, "You have exceeded a secondary rate limit. Please wait"), retries.CROWDED),
        (failure(403, "You have triggered an abuse detection mechanism."), retries.CROWDED),
        (failure(403, "x", X_RateLimit_Remaining="0", X_RateLimit_Reset=str(NOW + 9), Date=SERVER_TIME), 10),
        (failure(403, "API rate limit exceeded", X_RateLimit_Remaining="0"), retries.CROWDED),
        (failure(403, "x", X_RateLimit_Remaining="17", X_RateLimit_Reset=str(NOW + 9)), None),
        (failure(403, "Resource not accessible by integration"), None),
        (failure(202), 0),
        (failure(408), 0),
        (failure(500), 0),
        (failure(401, Retry_After="7"), None),
        (failure(404), None),
        (failure(422, Retry_After="7"), None),
        (requests.ConnectionError(), 0),
        (requests.ReadTimeout(), 0),
    ],
    ids=str,
)
def test_what_is_worth_a_wait_and_how_long(error: Exception, seconds: float | None) -> None:
    """What GitHub asks for, by its own clock; a minute where it limits us and says no time; nothing for a mistake."""
    assert retries.wait(error) == seconds


def test_pauses_grow_and_are_never_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that failed in one moment come back in several, and never sooner than asked."""
    slept: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", slept.append)
    limit = retries.Bound(time.monotonic() + 10_000, lambda line: None)
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            retries.insist(limit, "x", lambda: (_ for _ in ()).throw(requests.ConnectionError()))
    first, second = slept[: len(slept) // 2], slept[len(slept) // 2 :]
    assert len(first) == len(retries.PAUSES)
    assert all(pause <= wait <= 1.25 * pause for pause, wait in zip(retries.PAUSES, first, strict=True))
    assert first != second


def test_a_wait_that_goes_beyond_the_bound_is_not_begun(hub: Mangled, files: list[str]) -> None:
    """An hour is not waited for; the log says why, the job is red and names the limit."""
    said: list[str] = []
    hub.faults.append(Fault("GET", "/assets", "status", status=429, retry_after=3600, times=99))
    hub.add_release("v1", draft=True)
    begun = time.monotonic()
    with pytest.raises(CannotPublish, match="limits how much"):
        attach(hub, files, tell=said.append)
    assert time.monotonic() - begun < 30
    assert re.search(r"answered 429; [34],[0-9]{3} s to wait, and 1,[0-9]{3} s left for all", said[-1])


def test_the_bound_grows_with_what_is_sent() -> None:
    """The biggest asset that GitHub takes has more than an hour on the slowest line, and twice over."""
    small, big = (retries.bound(size, print).left for size in (0, 2**31))
    assert 15 * 60 < small < 30 * 60
    assert 2 * 3600 < big < 4 * 3600


@pytest.mark.parametrize("kind", ["stall", "drip"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/repos/acme/models$"), ("POST", "/releases$"), ("POST", "name=a.bin"), ("PATCH", "/releases")],
)
def test_an_answer_that_never_ends_is_left(
    kind: str, method: str, path: str, hub: Mangled, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing comes, or a byte now and then, which no timeout of a socket ends: it is asked again."""
    monkeypatch.setattr(retries, "TIMEOUT", 1)
    hub.faults.append(fault := Fault(method, path, kind, after={"stall": 60, "drip": 0.2}[kind]))
    begun = time.monotonic()
    attach(hub, files)
    assert fault.times == 0
    assert time.monotonic() - begun < 20
    assert stored(hub) == {"a.bin": b"a" * 3000, "b.bin": b"b" * 70000}


def test_all_that_drips_ends_with_the_bound(hub: Mangled, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The one bound holds for everything together."""
    monkeypatch.setattr(retries, "PATIENCE", 2)
    hub.faults.append(Fault("*", "", "drip", after=0.2, times=99))
    begun = time.monotonic()
    with pytest.raises(CannotPublish, match="cannot be reached"):
        attach(hub, files)
    assert 1 < time.monotonic() - begun < 15


def test_202_for_ever_is_asked_a_few_times(hub: Mangled, files: list[str]) -> None:
    """PyGithub alone would ask every two seconds until it runs out of stack."""
    hub.faults.append(Fault("GET", "/releases", "status", status=202, times=99))
    with pytest.raises(CannotPublish, match="202"):
        attach(hub, files)
    asked = [path for _, path, status in hub.requests if status == 202]
    assert len(asked) == 1 + len(retries.PAUSES)


def test_the_log_says_what_is_sent_and_what_is_waited_for(
    hub: Mangled, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name, bytes, how long, why a pause; no word of the server's."""
    said: list[str] = []
    monkeypatch.setattr(retries, "HEARTBEAT", 0.3)
    hub.faults.append(Fault("POST", "name=b.bin", "stall", after=1))
    hub.faults.append(Fault("POST", "name=a.bin", "status", status=502, message="secret words"))
    attach(hub, files, tell=said.append)
    assert "a.bin: sending 3,000 bytes" in said
    assert any(re.fullmatch(r"a\.bin: upload: answered 502; again in [0-9]+ s", line) for line in said)
    assert any(
        re.fullmatch(r"b\.bin: upload: 70,000 of 70,000 bytes sent, no answer yet after 0 s", line) for line in said
    )
    assert "secret" not in "".join(said)


def test_a_try_that_is_left_sends_no_more(hub: Mangled, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is closed: nothing competes with the next try."""
    big = Path(files[0]).parent / "big.bin"
    big.write_bytes(os.urandom(40 << 20))
    monkeypatch.setattr(retries, "TIMEOUT", 0.8)
    monkeypatch.setattr(retries, "SLOWEST", 1 << 30)
    read, tries = Handler.read, []

    def reading(handler: Handler, size: int) -> bytes:
        if "name=big.bin" in handler.path:
            tries.append(handler)
            if tries[0] is handler and tries.count(handler) <= 15:
                handler.hub.stopping.wait(0.1)  # longer than the first try may take, all in all
        return read(handler, size)

    monkeypatch.setattr(Handler, "read", reading)
    attach(hub, [*files, str(big)])

    def seen() -> list[int]:
        return [status for _, path, status in hub.requests if "name=big.bin" in path]

    end = time.monotonic() + 20
    while 0 not in seen() and time.monotonic() < end:  # the server has the first try's last bytes to read yet
        time.sleep(0.05)
    assert 0 in seen()
    assert 201 in seen()
    assert stored(hub)["big.bin"] == big.read_bytes()


# Signals, and being killed.

CHILD = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from tfstrip_core import process
from tfstrip_core.release import github, retries, transfer
from attaching import as_assets
retries.PAUSES, transfer._BETWEEN_WRITES = (0.0, 0.1, 0.2), None

def work():
    place = github.place("v1", {{"GITHUB_API_URL": {url!r}, "GITHUB_REPOSITORY": "acme/models", "GITHUB_SHA": {sha!r}}})
    with github.connect(place, {token!r}) as hub:
        print("connected", flush=True)
        github.attach(hub, as_assets({files!r}), github.Wishes(existing="replace"))
    return 0

sys.exit(process.guarded(work))
"""


def start(hub: GitHub, files: list[str]) -> subprocess.Popen[str]:
    """Attach the files in a process of its own."""
    facts = {"url": hub.url, "token": hub.token, "files": files, "sha": hub.branches["main"]}
    code = CHILD.format(tests=str(HERE), root=str(HERE.parent), **facts)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not happened() and time.monotonic() < end:
        time.sleep(0.005)
    assert happened()


def test_sigterm_is_heard_while_an_answer_is_waited_for(hub: Mangled, files: list[str]) -> None:
    """The job ends at once with 143, and nothing is published."""
    hub.faults.append(fault := Fault("POST", "name=b.bin", "stall", after=60))
    child = start(hub, files)
    until(lambda: fault.times == 0)
    begun = time.monotonic()
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 128 + signal.SIGTERM, err
    assert time.monotonic() - begun < 10
    assert hub.releases[0].draft
    assert "Traceback" not in out + err
    assert hub.token not in out + err


def test_sigterm_leaves_a_published_release_as_it_was(hub: Mangled, files: list[str]) -> None:
    """What was sent under other names goes before the job ends."""
    release = hub.add_release("v1", assets={"b.bin": b"old"})
    hub.faults.append(fault := Fault("POST", "name=b.bin", "drip", after=0.2))
    child = start(hub, files)
    until(lambda: fault.times == 0)
    time.sleep(0.3)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 128 + signal.SIGTERM, err
    assert [(asset.name, asset.content) for asset in release.assets] == [("b.bin", b"old")], out


def test_sigterm_amid_the_renaming_waits_for_its_end(hub: Mangled, files: list[str]) -> None:
    """Asked to stop between two renames, the release gets all of them, and nothing is lost."""
    release = hub.add_release("v1", assets={"a.bin": b"old", "b.bin": b"old"})
    child: list[subprocess.Popen[str]] = []

    def mangle(handler: Handler, answer: Answer) -> Answer:
        if handler.command == "PATCH" and len(hub.requests) and child and child[0].poll() is None and not asked:
            asked.append(1)
            child[0].send_signal(signal.SIGTERM)
            time.sleep(0.3)
        return answer

    asked: list[int] = []
    hub.mangle = mangle
    child.append(start(hub, files))
    out, err = child[0].communicate(timeout=60)
    assert asked
    assert child[0].returncode == 128 + signal.SIGTERM, out + err
    held = {asset.name: asset.content for asset in release.assets if not asset.name.endswith("-old")}
    assert held == {"a.bin": b"a" * 3000, "b.bin": b"b" * 70000}


@pytest.mark.parametrize("published", [True, False], ids=["replacing", "new"])
@pytest.mark.parametrize("moment", range(3, 17, 2))
def test_a_run_that_was_killed_is_completed_by_the_next(
    moment: int, published: bool, hub: Mangled, files: list[str]
) -> None:
    """Killed with -9 at that many requests: no byte of what was there is lost, all is right after the next run."""
    if published:
        hub.add_release("v1", assets={"a.bin": b"old", "b.bin": b"old", "mine.txt": b"x"})
    child: list[subprocess.Popen[str]] = []
    kill_after = [True]

    def mangle(handler: Handler, answer: Answer) -> Answer:
        if len(hub.requests) == moment and child and kill_after[0]:
            child[0].kill()
            child[0].wait()
        return answer

    hub.mangle = mangle
    child.append(start(hub, files))
    child[0].communicate(timeout=60)
    kill_after[0] = False
    left = [asset.content for release in hub.releases for asset in release.assets if asset.state == "uploaded"]
    if published:
        assert b"x" in left
        assert b"old" in left or {b"a" * 3000, b"b" * 70000} <= set(left)
    attach(hub, files, wishes=publishing.Wishes(existing="replace"))
    expected = {"a.bin": b"a" * 3000, "b.bin": b"b" * 70000, **({"mine.txt": b"x"} if published else {})}
    assert stored(hub) == expected
    assert not hub.releases[0].draft
    assert all(asset.state == "uploaded" for asset in hub.releases[0].assets)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("published", [True, False], ids=["replacing", "new"])
def test_two_runs_at_once_make_one_right_release(seed: int, published: bool, hub: Mangled, files: list[str]) -> None:
    """Two jobs with the same files: both end well, or one is red and the release is right all the same."""
    if published:
        hub.add_release("v1", assets={"a.bin": b"old", "b.bin": b"old"})
    problems: list[str] = []
    gate = threading.Barrier(2)

    def job(delay: float) -> None:
        gate.wait()
        time.sleep(delay)
        try:
            attach(hub, files, wishes=publishing.Wishes(existing="replace"))
        except CannotPublish as error:
            problems.append(str(error))

    threads = [threading.Thread(target=job, args=(number * seed * 0.01,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(problems) < 2, problems
    assert stored(hub) == {"a.bin": b"a" * 3000, "b.bin": b"b" * 70000}
    assert not hub.releases[0].draft


@pytest.mark.parametrize("step", range(4))
def test_a_job_that_is_a_step_behind_undoes_nothing(step: int, hub: Mangled, files: list[str]) -> None:
    """Another job finishes everything between two of our renames, and removes what gave way: both are content."""
    release = hub.add_release("v1", assets={"a.bin": b"old", "b.bin": b"old"})
    seen: list[int] = []

    def mangle(handler: Handler, answer: Answer) -> Answer:
        if handler.command == "PATCH" and "/assets/" in handler.path:
            seen.append(1)
            if len(seen) == step + 1:
                hub.mangle = lambda handler, answer: answer
                attach(hub, files, wishes=publishing.Wishes(existing="replace"))
        return answer

    hub.mangle = mangle
    attach(hub, files, wishes=publishing.Wishes(existing="replace"))
    assert len(seen) == step + 1
    assert {asset.name: asset.content for asset in release.assets} == {"a.bin": b"a" * 3000, "b.bin": b"b" * 70000}


def test_another_job_s_file_is_not_deleted(hub: Mangled, files: list[str]) -> None:
    """Its bytes are others than ours and came between: this job is red, the file stays."""
    release = hub.add_release("v1", draft=True)

    def mangle(handler: Handler, answer: Answer) -> Answer:
        if handler.command == "POST" and "name=a.bin" in handler.path and len(release.assets) == 1:
            asset = hub.new_asset(release, "b.bin", 5, "a/b", "")
            Path(asset.path).write_bytes(b"their")
            asset.state = "uploaded"
        return answer

    hub.mangle = mangle
    with pytest.raises(CannotPublish, match=r"b\.bin has other bytes"):
        attach(hub, files)
    assert stored(hub)["b.bin"] == b"their"


def test_a_listing_asks_no_more_than_it_needs(hub: Mangled, files: list[str]) -> None:
    """A second run with nothing to do writes nothing, and asks for a handful of things."""
    attach(hub, files)
    before = len(hub.requests)
    attach(hub, files)
    again = hub.requests[before:]
    assert {method for method, _, _ in again} == {"GET"}
    assert len(again) <= 12
    assert transfer.held([]) == {}
