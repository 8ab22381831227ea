#!/usr/bin/env bash
# Generates the stubs from proto/, builds the client, and tests it against the sandbox given by the environment:
# USERADMIN_ADDRESS (HOST:PORT), USERADMIN_CREDENTIALS (the folder of `--secure`), USERADMIN_LOG (its standard error).
set -euo pipefail
: "${USERADMIN_ADDRESS:?}" "${USERADMIN_CREDENTIALS:?}" "${USERADMIN_LOG:?}" "${USERADMIN_PLAINTEXT_ADDRESS:?}"

# Builds in target/clients/java, which pom.xml configures.
cd "$(dirname "$0")"
mvn --batch-mode --no-transfer-progress test
