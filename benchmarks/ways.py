"""What the benchmarks have the frameworks do, each as a program of its own: from the first word to the second."""

MAKE = """
import sys, keras, numpy as np, tensorflow as tf
keras.utils.set_random_seed(0)
folder = sys.argv[1]
for name, width, depth in (("small", 48, 3), ("big", 4096, 4)):
    model = keras.Sequential([keras.Input((width,)), *[keras.layers.Dense(width) for _ in range(depth)]])
    if name == "big":
        model.add(keras.layers.Dense(1900))
    model.compile(optimizer="adam", loss="mse")
    x = np.zeros((1, width), "float32")
    model.train_on_batch(x, model.predict_on_batch(x))
    for form in ("keras", "h5"):
        model.save(f"{folder}/{name}.{form}")
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(f"{folder}/{name}.ckpt")
    tf.saved_model.save(model, f"{folder}/{name}.saved")
    model.export(f"{folder}/{name}.export", verbose=False)
"""

# The same by Keras 2, which runs in a process of its own.
MAKE_KERAS2 = """
import sys, tf_keras, numpy as np
for name, width, depth in (("small", 48, 3), ("big", 4096, 4)):
    model = tf_keras.Sequential([tf_keras.Input((width,)), *[tf_keras.layers.Dense(width) for _ in range(depth)]])
    if name == "big":
        model.add(tf_keras.layers.Dense(1900))
    model.compile(optimizer="adam", loss="mse")
    x = np.zeros((1, width), "float32")
    model.train_on_batch(x, model.predict_on_batch(x))
    model.save(f"{sys.argv[1]}/{name}.keras2", save_format="tf")
"""

LOAD_AND_SAVE = """
import sys, os, keras
model = keras.models.load_model(sys.argv[1], compile=False)
target = sys.argv[2] + os.path.splitext(sys.argv[1])[1]
model.save(target)
os.remove(target)
"""

REBUILD = """
import sys, keras, shutil, tensorflow as tf
model = keras.models.load_model(sys.argv[1], compile=False)
fresh = keras.Sequential.from_config(model.get_config())
fresh.set_weights(model.get_weights())
shutil.rmtree(sys.argv[2], ignore_errors=True)
tf.saved_model.save(fresh, sys.argv[2])
"""

LOAD_ALL_WRITE_SOME = """
import sys, tensorflow as tf
reader = tf.train.load_checkpoint(sys.argv[1])
names = sorted(name for name in reader.get_variable_to_dtype_map() if "optimizer/_variables" not in name)
tf.raw_ops.SaveV2(
    prefix=sys.argv[2], tensor_names=names, shape_and_slices=[""] * len(names),
    tensors=[reader.get_tensor(name) for name in names],
)
"""

LOAD_AND_SAVE_SIGNATURES = """
import sys, shutil, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
module = tf.Module()
module.held = {name: function.variables for name, function in loaded.signatures.items()}
shutil.rmtree(sys.argv[2], ignore_errors=True)
tf.saved_model.save(module, sys.argv[2], signatures=dict(loaded.signatures))
"""

LOAD_AND_SAVE_KERAS2 = """
import sys, shutil, tf_keras
model = tf_keras.models.load_model(sys.argv[1], compile=False)
shutil.rmtree(sys.argv[2], ignore_errors=True)
model.save(sys.argv[2], save_format="tf", include_optimizer=False)
"""

_KERAS = (("load in Keras and save", LOAD_AND_SAVE), ("rebuild, tf.saved_model.save", REBUILD))
_SIGNATURES = ("load, save the signatures", LOAD_AND_SAVE_SIGNATURES)
# How to do it with the framework, for each form.
WAYS = {
    "keras": _KERAS,
    "h5": _KERAS,
    "ckpt": (("load all in TensorFlow, write some", LOAD_ALL_WRITE_SOME),),
    "saved": (_SIGNATURES,),
    "export": (_SIGNATURES,),
    "keras2": (_SIGNATURES, ("load_model, save", LOAD_AND_SAVE_KERAS2)),
}
