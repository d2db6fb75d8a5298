"""The GitHub Action's door: inputs from INPUT_* variables, then the core, then the release."""

import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from tfstrip_core import runner
from tfstrip_core.errors import TfstripError, UsageError
from tfstrip_core.inventory import Artifact
from tfstrip_core.process import guarded, say
from tfstrip_core.release import artifacts
from tfstrip_core.release.gather import gather
from tfstrip_core.reports import github, summary, table, text

if TYPE_CHECKING:
    from tfstrip_core.inventory import Profile
    from tfstrip_core.plan import Ema
    from tfstrip_core.release.github import Attached


def main() -> int:
    """Strip what the inputs name or gather what was stripped, attach it if there is a tag; return 0, or 2."""
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
            "bytes-before": str(sum(artifact.result.bytes_before for artifact in made)),
            "bytes-after": str(sum(artifact.result.bytes_after for artifact in made)),
            "release-url": url,
        }
    )
    return 0


def _run() -> "tuple[artifacts.Bundle, Attached | None]":
    output, tag, draft = runner.option("output-dir", "dist"), runner.option("tag"), runner.switch("draft")
    # Imported where there is a tag only: without a release nothing of the network is loaded.
    hub = importlib.import_module("tfstrip_core.release.github") if tag else None
    place = hub.place(tag, os.environ) if hub else None
    finish = _gathering(output) if runner.lines("artifacts") else _stripping(output)
    if not hub:
        print("no release: no tag was pushed, and the input tag is empty")
        return _told(finish()), None
    with hub.connect(place, runner.option("token")) as connection:
        bundle = _told(finish())
        with runner.group(f"Release {tag}"):
            attached: Attached = hub.attach(connection, hub.assets(output, bundle.digests), draft=draft)
            for line in text.attached(attached.uploaded, attached.skipped):
                print(line)
    print(f"{'draft ' if attached.draft else ''}release {tag}: {attached.url}")
    return bundle, attached


def _stripping(output: str) -> Callable[[], artifacts.Bundle]:
    """Return what makes the artifacts of the models that the inputs name; all that can be refused is refused here."""
    patterns = runner.lines("models")
    profile = cast("Profile", runner.choice("profile", "inference", "serving"))
    ema = cast("Ema", runner.choice("ema", "", "drop", "apply"))
    runner.choice("prove", "bytes")
    if not patterns:
        raise UsageError("the input models is empty", "name your models, one glob a line")
    with runner.group("Models"):
        inventories = artifacts.survey(artifacts.match(patterns, output), output)
        for inventory in inventories:
            print(text.read(inventory))
        for line in github.problems(inventories):
            print(line)
        jobs = artifacts.plan(inventories, ema=ema, also=runner.lines("also"))
        for job in jobs:
            if job.name != os.path.basename(job.inventory.path):
                print(f"{text.shown(job.inventory.path)} becomes {job.name}")
    return lambda: _make(jobs, output, profile)


def _gathering(output: str) -> Callable[[], artifacts.Bundle]:
    """Return what brings together the artifacts of earlier jobs, and compares them with their manifests."""
    for name in ("ema", "also"):
        if runner.option(name):
            raise UsageError(f"the inputs artifacts and {name} exclude each other", "say it where models are stripped")

    def work() -> artifacts.Bundle:
        made, commit = [output], os.environ.get("GITHUB_SHA", "")
        try:
            with runner.group("Compare with the manifests"):
                bundle = gather(runner.lines("artifacts"), output, sources=runner.lines("models"), commit=commit)
                made += [os.path.join(output, name) for name, _ in bundle.digests]
                table.before_and_after([artifact.result for artifact in bundle.artifacts])
        finally:
            runner.hand_over(made)
        return bundle

    return work


def _make(jobs: Sequence[artifacts.Job], output: str, profile: "Profile") -> artifacts.Bundle:
    try:
        with runner.group("Strip and prove"):
            bundle = artifacts.make(jobs, output, profile, os.environ.get("GITHUB_SHA", ""))
            results = [artifact.result for artifact in bundle.artifacts]
            for result in results:
                for line in text.strip_notices(result):
                    say(line)
            table.before_and_after(results)
    finally:
        runner.hand_over([output, *artifacts.outputs(jobs, output)])
    for line in github.kept(results):
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
        "format": result.inventory.format,
        "bytes_before": result.bytes_before,
        "bytes_after": result.bytes_after,
        "bytes": artifact.bytes,
        "sha256": artifact.sha256,
    }


if __name__ == "__main__":
    sys.exit(guarded(main))
