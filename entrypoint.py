"""The GitHub Action's door: inputs from INPUT_* variables, then the core, then the release."""

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from tfstrip_core import runner
from tfstrip_core.errors import TfstripError, UsageError
from tfstrip_core.inventory import Artifact
from tfstrip_core.process import guarded, say
from tfstrip_core.release import artifacts, names
from tfstrip_core.release.exporting import FORMATS, SAME
from tfstrip_core.release.gather import gather
from tfstrip_core.release.proving import not_run
from tfstrip_core.reports import github, summary, table, text

if TYPE_CHECKING:
    from tfstrip_core.inventory import Profile
    from tfstrip_core.plan import Ema
    from tfstrip_core.release.github import Attached
    from tfstrip_core.release.proving import Prove

FORK = (
    "a pull request from another repository has a token that can only read: the models are stripped and proven, "
    "and attached to no release"
)


def main() -> int:
    """Strip what the inputs name or gather what was stripped, attach it if there is a tag; return 0, or 2."""
    runner.shut()
    try:
        bundle, attached = _run()
    except TfstripError as error:
        print(github.command("error", "tfstrip", str(error)))
        say(str(error))
        return 2
    made, url = bundle.artifacts, attached.url if attached else ""
    runner.put_summary(summary.published(made, url, draft=attached is not None and attached.draft))
    runner.put_outputs(
        {
            "artifacts": json.dumps([_described(bundle.folder, artifact) for artifact in made]),
            "checksums-file": bundle.checksums,
            "manifest": bundle.manifest,
            "bytes-before": str(sum({item.result.source: item.result.bytes_before for item in made}.values())),
            "bytes-after": str(sum(artifact.result.bytes_after for artifact in made)),
            "release-url": url,
        }
    )
    return 0


def _run() -> "tuple[artifacts.Bundle, Attached | None]":
    output, tag = runner.option("output-dir", "dist"), runner.option("tag")
    draft, prerelease, notes = runner.switch("draft"), runner.switch("prerelease"), runner.switch("notes", "true")
    existing = runner.choice("on-existing", "skip-identical", "replace", "fail")
    part_size = runner.size("max-part-size", (2 << 30) - 1, "refuse")
    naming = names.Naming(runner.option("asset-name", "{name}"), tag)
    naming.check()
    runner.check_outputs()
    if tag and runner.comes_from_a_fork():
        print(github.command("notice", "tfstrip", FORK))
        tag = ""
    # Imported where there is a tag only: without a release nothing of the network is loaded.
    hub = importlib.import_module("tfstrip_core.release.github") if tag else None
    place = hub.place(tag, os.environ, runner.checkout()) if hub else None
    if hub and part_size >= hub.SIZE_LIMIT:
        raise UsageError("the input max-part-size is 2 GiB or more", "GitHub takes less; leave the input out")
    form = artifacts.Form(naming, part_size if hub else 0)
    finish = _gathering(output, form) if runner.lines("artifacts") else _stripping(output, form)
    if not hub:
        print("no release: no tag was pushed, and the input tag is empty, or the job may not write")
        return _told(finish()), None
    with hub.connect(place, runner.option("token"), _log) as connection:
        bundle = _told(finish())
        with runner.group(f"Release {tag}"):
            wishes = hub.Wishes(draft, prerelease, existing, bundle.artifacts if notes else ())
            attached: Attached = hub.attach(connection, hub.assets(output, bundle.digests), wishes)
            for line in text.attached(attached.uploaded, attached.skipped):
                print(line)
    print(f"{'draft ' if attached.draft else ''}release {tag}: {attached.url}")
    return bundle, attached


def _stripping(output: str, form: artifacts.Form) -> Callable[[], artifacts.Bundle]:
    """Return what makes the artifacts of the models that the inputs name; all that can be refused is refused here."""
    patterns = runner.lines("models")
    profile = cast("Profile", runner.choice("profile", "inference", "serving"))
    ema = cast("Ema", runner.choice("ema", "", "drop", "apply"))
    formats = runner.words("formats", *FORMATS)
    prove = cast("Prove", runner.choice("prove", "outputs", "bytes"))
    if not patterns:
        raise UsageError("the input models is empty", "name your models, one glob a line")
    _check_framework(formats, prove)
    with runner.group("Models"):
        inventories = artifacts.survey(artifacts.match(patterns, output), output)
        for inventory in inventories:
            print(text.read(inventory))
        for line in github.problems(inventories):
            print(line)
        also = runner.lines("also")
        jobs = artifacts.plan(inventories, ema=ema, also=also, naming=form.naming, formats=formats)
        for job in jobs:
            if job.name != os.path.basename(job.inventory.path):
                print(f"{text.shown(job.inventory.path)} becomes {job.name}")
    return lambda: _make(jobs, output, profile, form, prove)


def _check_framework(formats: Sequence[str], prove: "Prove") -> None:
    """Raise UsageError where models are to be run and no TensorFlow is there: told before anything is made."""
    if importlib.util.find_spec("tensorflow"):
        return
    if any(word != SAME for word in formats):
        raise UsageError("the input formats needs TensorFlow, which is not installed", "set formats to same")
    if prove == "outputs":
        raise UsageError(
            "the input prove is outputs, which needs TensorFlow, and it is not installed",
            "set prove to bytes: every tensor kept is compared with the original",
        )


def _gathering(output: str, form: artifacts.Form) -> Callable[[], artifacts.Bundle]:
    """Return what brings together the artifacts of earlier jobs, and compares them with their manifests."""
    for name in ("ema", "also", "formats"):
        if runner.option(name) not in ("", SAME):
            raise UsageError(f"the inputs artifacts and {name} exclude each other", "say it where models are stripped")

    def work() -> artifacts.Bundle:
        folders, models, commit = runner.lines("artifacts"), runner.lines("models"), os.environ.get("GITHUB_SHA", "")
        try:
            with runner.group("Compare with the manifests"):
                bundle = gather(folders, output, sources=models, commit=commit, form=form)
                table.before_and_after([artifact.result for artifact in bundle.artifacts])
        finally:
            runner.hand_over([output, *artifacts.files_in(output)])
        return bundle

    return work


def _log(line: str) -> None:
    print(text.shown(line), flush=True)


def _make(
    jobs: Sequence[artifacts.Job], output: str, profile: "Profile", form: artifacts.Form, prove: "Prove"
) -> artifacts.Bundle:
    try:
        with runner.group("Strip and prove"):
            commit = runner.checkout() or os.environ.get("GITHUB_SHA", "")
            bundle = artifacts.make(jobs, output, profile, commit, form, prove)
            results = [artifact.result for artifact in bundle.artifacts]
            for result in results:
                for line in text.strip_notices(result):
                    say(line)
            table.before_and_after(results)
    finally:
        runner.hand_over([output, *artifacts.files_in(output)])
    for line in (*github.kept(results), *github.not_run(not_run(bundle.artifacts))):
        print(line)
    return bundle


def _told(bundle: artifacts.Bundle) -> artifacts.Bundle:
    count = len(bundle.artifacts)
    print(f"{text.shown(bundle.folder)}: {count} artifact{'' if count == 1 else 's'}, manifest.json, SHA256SUMS")
    return bundle


def _described(folder: str, artifact: Artifact) -> dict[str, object]:
    result = artifact.result
    return {
        "path": os.path.join(folder, artifact.name),
        "source": result.source,
        "format": artifact.format,
        "bytes_before": result.bytes_before,
        "bytes_after": result.bytes_after,
        "bytes": artifact.bytes,
        "sha256": artifact.sha256,
        "parts": [os.path.join(folder, part.name) for part in artifact.parts],
    }


if __name__ == "__main__":
    sys.exit(guarded(main))
