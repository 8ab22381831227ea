#!/usr/bin/env bash
# Generates the Python client from proto/ and tests it against the sandbox given by the environment, which ../run.sh
# sets. Creates files only in target/.
set -euo pipefail
: "${USERADMIN_ADDRESS:?}" "${USERADMIN_CREDENTIALS:?}" "${USERADMIN_LOG:?}" "${USERADMIN_PLAINTEXT_ADDRESS:?}"
source=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$source/../../.." && pwd)
made=$root/target/clients/python

"$made/venv/bin/python" -m pip --version >/dev/null 2>&1 || python3 -m venv --clear "$made/venv"
"$made/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$source/requirements-test.txt"

rm -rf "$made/gen"
mkdir -p "$made/gen"
cd "$root"
"$made/venv/bin/python" -m grpc_tools.protoc -I proto \
    --python_out="$made/gen" --pyi_out="$made/gen" --grpc_python_out="$made/gen" \
    proto/useradmin/v1/*.proto

# Keeps the source folder unchanged.
export PYTHONPATH=$made/gen PYTHONPYCACHEPREFIX=$made/cache
"$made/venv/bin/python" -m pytest -v -p no:cacheprovider "$source"
