"""What is said of a release's artifacts wherever it is said: what they come to, what ran, how each is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tfstrip_core.inventory import Artifact
from tfstrip_core.reports.text import less

# For inference.
_LOAD = {
    "keras-zip": 'keras.models.load_model("{name}")',
    "keras-directory": 'keras.models.load_model("{name}")',
    "keras-hdf5": 'keras.models.load_model("{name}", compile=False)',
    "keras-hdf5-weights": 'model.load_weights("{name}")',
    "keras-weights": 'model.load_weights("{name}")',
    "keras-shards": 'model.load_weights("{name}")',
    "tf-checkpoint": 'tf.train.Checkpoint(model=model).read("{name}").expect_partial()',
    "tf-checkpoint-names": 'tf.compat.v1.train.Saver().restore(session, "{name}")',
    "tf-checkpoint-v1": 'tf.compat.v1.train.Saver().restore(session, "{name}")',
    "graph-def": 'tf.compat.v1.GraphDef.FromString(open("{name}", "rb").read())',
    "graph-def-text": 'google.protobuf.text_format.Parse(open("{name}").read(), tf.compat.v1.GraphDef())',
    "meta-graph": 'tf.compat.v1.train.import_meta_graph("{name}")',
    "tfjs-layers": 'await tf.loadLayersModel("{name}")',
    "tfjs-graph": 'await tf.loadGraphModel("{name}")',
    "saved-model": 'tf.saved_model.load("{name}")',
    "frozen": 'tf.saved_model.load("{name}")',
    "tflite": 'tf.lite.Interpreter(model_path="{name}")',
}


def load(artifact: Artifact) -> str:
    """Return the code that loads an artifact, of an archive once it is unpacked; "" for a format unheard of.

    The name in it is an asset's: letters, digits and ".", "_", "+", "-".
    """
    return _LOAD.get(artifact.format, "").format(name=artifact.inside or artifact.name)


def sums(artifacts: Sequence[Artifact]) -> Iterator[str]:
    """Yield what all artifacts of a release come to, and what was proven of them; each model counts once."""
    stripped, exports = [one for one in artifacts if not one.to], [one for one in artifacts if one.to]
    if stripped:
        before, after = (sum(sizes) for sizes in zip(*map(_sizes, stripped), strict=True))
        yield f"{before:,} bytes before, {after:,} bytes after ({less(before, after)} less)."
        yield "Every tensor kept was compared with the original, byte for byte."
    if exports:
        what = ", ".join(sorted({one.format for one in exports}))
        yield f"Exported as {what}: {sum(one.result.bytes_after for one in exports):,} bytes."
    if any(one.outputs for one in artifacts):
        count = sum(1 for one in artifacts if one.outputs and one.outputs.ran)
        yield f"Run beside the original, on the same inputs, with the same results: {count} of {len(artifacts)}."


def _sizes(artifact: Artifact) -> tuple[int, int]:
    return artifact.result.bytes_before, artifact.result.bytes_after


def tensors(artifact: Artifact) -> str:
    """Return how many tensors were compared byte for byte; an export has other ones than its model."""
    return "" if artifact.to else str(artifact.result.proof.kept_tensors)


def ran(artifact: Artifact) -> str:
    """Return what running an artifact beside its original came to, in words and numbers of our own."""
    if artifact.outputs is None:
        return ""
    calls = artifact.outputs.ran
    if not calls:
        return "not run"
    close = max(call.difference for call in calls)
    how = f"at most {close:.1e} apart" if any(call.state == "close" for call in calls) else "the same bytes"
    count = sum(call.outputs for call in calls)
    return f"{count:,} output{'' if count == 1 else 's'}: {how}"
