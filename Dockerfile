# The image of the Action. Another base is chosen with --build-arg BASE=...; it needs CPython 3.12.
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}

# Everything is pinned with its hashes, what builds the package included (make locks). Each process that runs a model
# imports TensorFlow anew: compiled here, once, as far as it is used, that takes a quarter of the time.
COPY .github/requirements/action.txt /opt/tfstrip/requirements.txt
RUN python -m pip install --no-cache-dir --no-compile --disable-pip-version-check --root-user-action=ignore \
        --require-hashes --requirement /opt/tfstrip/requirements.txt \
    && python -c "import keras, tensorflow; tensorflow.lite.Interpreter, tensorflow.lite.TFLiteConverter"

COPY pyproject.toml README.md LICENSE /opt/tfstrip/source/
COPY docs/manifest.schema.json /opt/tfstrip/source/docs/manifest.schema.json
COPY tfstrip_core /opt/tfstrip/source/tfstrip_core
RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
        --no-deps --no-build-isolation /opt/tfstrip/source
COPY entrypoint.py /opt/tfstrip/entrypoint.py

# The runner's HOME, PATH and PYTHON* variables reach into the container: -I and a full path keep them out of Python.
# It stays root, because the runner needs that; what is written gets the owner of the work tree.
ENTRYPOINT ["/usr/local/bin/python", "-I", "/opt/tfstrip/entrypoint.py"]
