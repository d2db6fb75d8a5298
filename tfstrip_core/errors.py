"""Everything that tfstrip says no with: one exception for each way of not doing what was asked.

This module imports nothing, so that a hook run without models costs a bare Python start.
"""


def printable(text: str) -> str:
    """Return `text` with every character that could move a cursor, end a line or hide escaped.

    Names come out of files and from file systems: control characters, bidirectional overrides and
    undecodable bytes (surrogates) are shown as Python escapes, so that one name stays one visible line. So is what
    GitHub's runner takes for a command anywhere in a line.
    """
    text = text.replace("##[", "##\\x5b")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


class TfstripError(Exception):
    """A user's mistake or a bad file: `cause` is what is wrong, `remedy` is what to do about it."""

    verdict = ""
    path = ""  # which of several files it is about, where only the one who raises it can tell

    def __init__(self, cause: str, remedy: str) -> None:
        """Keep both halves of the one sentence that the user reads."""
        super().__init__(cause, remedy)
        self.cause = printable(cause)
        self.remedy = printable(remedy)

    def __str__(self) -> str:
        """Return the sentence, without the path: whoever reports it knows which file was asked for."""
        return f"{self.cause}; {self.remedy}"


class UsageError(TfstripError):
    """The words of a call do not fit together, or name something that does not exist."""


class Unreadable(TfstripError):
    """The file is damaged, incomplete, absent or not ours to read."""

    verdict = "unreadable"


class Refused(TfstripError):
    """The file is made in a way that no framework makes, and that could do harm."""

    verdict = "refused"


class Unsupported(TfstripError):
    """The file is recognised, and tfstrip does not handle its format."""

    verdict = "unsupported"


class NotAModel(TfstripError):
    """The file holds no TensorFlow or Keras model."""

    verdict = "not-a-model"


class Pointer(TfstripError):
    """The file is a Git LFS pointer whose object is not on this machine."""

    verdict = "pointer"


class NeedsChoice(TfstripError):
    """Averages differ from the weights, or a graph has several outputs: only the user knows what is to be served."""


class NothingLeft(TfstripError):
    """The file holds training state only: without it no weight would be left."""


class ProofFailed(TfstripError):
    """The independent re-read found the result to differ from the plan: a bug of ours, never the user's."""


class CannotReplace(TfstripError):
    """The result is proven, and cannot be put in place."""


class CannotPublish(TfstripError):
    """GitHub, or what a release already holds, does not allow what was asked."""


class CannotRun(TfstripError):
    """A model cannot be run here: its code is absent, its framework fails, or it takes too long."""
