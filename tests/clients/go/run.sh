#!/usr/bin/env bash
# Generates the Go client from proto/ and tests it against the sandbox given by the environment, which ../run.sh sets.
# Creates files only in target/.
set -euo pipefail
: "${USERADMIN_ADDRESS:?}" "${USERADMIN_CREDENTIALS:?}" "${USERADMIN_LOG:?}" "${USERADMIN_PLAINTEXT_ADDRESS:?}" \
    "${USERADMIN_PROGRAM:?}"
source=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$source/../../.." && pwd)
module=$root/target/clients/go
readonly BUF_VERSION=1.75.0

find_buf() {
    local tools=$root/target/tools
    for buf in "${BUF:-buf}" "$tools/venv/bin/buf" "$tools/node_modules/.bin/buf" "$tools/bin/buf"; do
        "$buf" --version >/dev/null 2>&1 && return
    done
    mkdir -p "$tools"
    if python3 -m venv "$tools/venv" >"$tools/buf-pip.log" 2>&1 \
        && "$tools/venv/bin/pip" install --quiet "buf-bin==$BUF_VERSION" >>"$tools/buf-pip.log" 2>&1; then
        buf=$tools/venv/bin/buf
    else
        GOBIN=$tools/bin go install "github.com/bufbuild/buf/cmd/buf@v$BUF_VERSION"
        buf=$tools/bin/buf
    fi
}

# A copy, so that the generated package can be part of the module, as in a real program.
rm -rf "$module"
mkdir -p "$module"
cp "$source"/*.go "$source"/go.mod "$source"/go.sum "$source"/buf.gen.yaml "$module"
cd "$module"

find_buf
"$buf" generate "$root"
go vet ./...
go test -count=1 -v .
