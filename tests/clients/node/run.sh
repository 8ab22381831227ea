#!/usr/bin/env bash
# Generates the stubs from proto/, builds the client, and tests it against the sandbox given by the environment:
# USERADMIN_ADDRESS (HOST:PORT), USERADMIN_CREDENTIALS (the folder of `--secure`), USERADMIN_LOG (its standard error).
set -euo pipefail
: "${USERADMIN_ADDRESS:?}" "${USERADMIN_CREDENTIALS:?}" "${USERADMIN_LOG:?}" "${USERADMIN_PLAINTEXT_ADDRESS:?}"

source=$(cd "$(dirname "$0")" && pwd)
target=$(cd "$source/../../.." && pwd)/target/clients/node

# Builds in target/, in a copy of this folder at the same depth, because buf.gen.yaml contains a relative path to
# proto/.
mkdir -p "$target"
cd "$target"
rm -rf src test gen dist
cp -R "$source"/{src,test,buf.gen.yaml,package.json,package-lock.json,tsconfig.json} .

# No package requires its install script.
if ! cmp -s package-lock.json node_modules/installed.json; then
    npm ci --ignore-scripts --prefer-offline --no-audit --no-fund
    cp package-lock.json node_modules/installed.json
fi
npm run --silent generate
npm run --silent build
npm run --silent test
