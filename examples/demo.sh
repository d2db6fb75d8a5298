#!/bin/sh
# The main job on a real example, as a release would run it: refuse, strip, prove, pack. `make demo` calls this.
set -eu

echo "1. The check refuses a model that still carries Adam:"
if tfstrip check examples/digits; then
    echo "the check should have refused it" >&2
    exit 1
fi

echo
echo "2. What a release will run strips them, proves the results and packs them:"
env "INPUT_MODELS=examples/digits/*.keras
examples/digits/*.h5" "INPUT_OUTPUT-DIR=dist" INPUT_PROVE=bytes python entrypoint.py

echo
echo "3. What lies in dist/ now passes:"
tfstrip check dist
ls -l dist
