"""Arrays as the tensors that a function takes. Ragged and sparse ones are made of dense arrays, as users give them."""

from __future__ import annotations

from typing import Any

from tfstrip_core.running.inputs import Shape, Want


def want(name: str, spec: Any) -> Want:
    """Return what an input must be; `spec` is a TypeSpec, a tensor or a Keras tensor, of a dtype and a shape."""
    import tensorflow as tf

    rank = spec.shape.rank if hasattr(spec.shape, "rank") else len(spec.shape)
    sizes: Shape | None = None if rank is None else tuple(spec.shape)
    return Want(name, tf.as_dtype(spec.dtype).base_dtype.name, sizes)


def takes_tensor(spec: Any) -> bool:
    """Whether a TypeSpec is of a kind that `tensor` makes."""
    import tensorflow as tf

    return isinstance(spec, (tf.TensorSpec, tf.RaggedTensorSpec, tf.SparseTensorSpec))


def tensor(array: Any, dtype: str, spec: Any = None) -> Any:
    """Return an array as a tensor of the dtype, ragged or sparse where `spec`, of a function or of Keras, is that.

    Every row of a ragged one is by one shorter than the row before, as far as it can be.
    """
    import tensorflow as tf

    if dtype == "string":
        dense = tf.constant(array.tolist(), tf.string, shape=array.shape)
    else:
        dense = tf.constant(array, dtype)
    spec = getattr(spec, "type_spec", spec)  # a tensor of Keras 2
    if isinstance(spec, tf.SparseTensorSpec) or getattr(spec, "sparse", False):
        return tf.sparse.from_dense(dense)
    if isinstance(spec, tf.RaggedTensorSpec) or getattr(spec, "ragged", False):
        rank = getattr(spec, "ragged_rank", 1)
        if rank != 1 or array.ndim < 2:
            return tf.RaggedTensor.from_tensor(dense, ragged_rank=rank)
        rows, columns = array.shape[:2]
        return tf.RaggedTensor.from_tensor(dense, lengths=[max(1, columns - row) for row in range(rows)])
    return dense


def array(value: Any) -> Any:
    """Return a tensor's elements."""
    return value.numpy() if hasattr(value, "numpy") else value
