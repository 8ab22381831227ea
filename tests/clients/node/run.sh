#!/usr/bin/env bash
# Generates the stubs from proto/, builds the client, and runs it against the sandbox that the environment names:
# USERADMIN_ADDRESS (HOST:PORT), USERADMIN_CREDENTIALS (the folder of `--secure`), USERADMIN_LOG (its standard error).
set -euo pipefail
: "${USERADMIN_ADDRESS:?}" "${USERADMIN_CREDENTIALS:?}" "${USERADMIN_LOG:?}"

source=$(cd "$(dirname "$0")" && pwd)
target=$(cd "$source/../../.." && pwd)/target/clients/node

# Everything is made below target/, in a copy that lies as deep as this folder, for the path to proto/ in buf.gen.yaml.
mkdir -p "$target"
cd "$target"
rm -rf src test gen dist
cp -R "$source"/{src,test,buf.gen.yaml,package.json,package-lock.json,tsconfig.json} .

# No package needs its install script.
if ! cmp -s package-lock.json node_modules/installed.json; then
    npm ci --ignore-scripts --prefer-offline --no-audit --no-fund
    cp package-lock.json node_modules/installed.json
fi
npm run --silent generate
npm run --silent build
npm run --silent test
