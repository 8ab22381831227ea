#!/usr/bin/env bash
# Generates the stubs from proto/, builds the client, and runs it against the sandbox that the environment names:
# USERADMIN_ADDRESS (HOST:PORT), USERADMIN_CREDENTIALS (the folder of `--secure`), USERADMIN_LOG (its standard error).
set -euo pipefail
: "${USERADMIN_ADDRESS:?}" "${USERADMIN_CREDENTIALS:?}" "${USERADMIN_LOG:?}"

# Everything is made below target/clients/java, as pom.xml says.
cd "$(dirname "$0")"
mvn --batch-mode --no-transfer-progress test
