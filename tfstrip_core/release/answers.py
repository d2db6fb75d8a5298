"""What GitHub's failures mean to the author of a workflow: one sentence each, never with the token in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import github
import requests

from tfstrip_core.errors import CannotPublish
from tfstrip_core.release import retries
from tfstrip_core.release.transfer import Place

# What PyGithub raises for answers that it does not understand, besides its own exceptions.
_ODD = (github.BadAttributeException, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@contextmanager
def telling(place: Place, token: str) -> Iterator[None]:
    """Turn what goes wrong with GitHub in the block into CannotPublish, one sentence without the token."""
    try:
        yield
    except (github.GithubException, requests.RequestException, *_ODD) as error:
        raise _sentence(error, place, _said(error).replace(token, "***")[:300]) from None


def _sentence(error: Exception, place: Place, said: str) -> CannotPublish:
    """Return what GitHub said as one sentence, with what to change in the workflow."""
    status = error.status if isinstance(error, github.GithubException) else 0
    if isinstance(error, github.GithubException) and retries.is_limit(error):
        return CannotPublish(
            f"GitHub limits how much this token may ask for ({status} {said})",
            "run the job again later; a draft is completed then",
        )
    if status == 401:
        return CannotPublish(
            f"GitHub does not accept the token for {place.repository} (401 {said})",
            "leave the input token out, or give one that is valid",
        )
    if status == 403:
        return CannotPublish(
            f"the token may not write releases of {place.repository} (403 {said})",
            "give the job `permissions: {contents: write}`; pull requests from forks never have it",
        )
    if status == 404:
        return CannotPublish(
            f"{place.repository} has no releases that this token can reach (404 {said})",
            "give the job `permissions: {contents: write}`, and check the repository's name",
        )
    if status == 422 and "immutable" in said:
        return CannotPublish(
            f"release {place.tag} is, or was, published and immutable (422 {said})", "release under another tag"
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
