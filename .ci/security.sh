#!/usr/bin/env bash
# Runs every `sh` block of docs/security.md, in their order and in one shell, in an empty folder, and compares what each
# prints with the `text` block behind it. Needs openssl, grpcurl and python3, and the ports that the document uses.
# `.ci/security.sh --update` writes the real outputs into the document.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
document="$PWD/docs/security.md"

for tool in openssl grpcurl python3; do
    command -v "$tool" >/dev/null || { echo "FAILED: no $tool" >&2; exit 1; }
done
cargo build --quiet --locked --bin useradmin
PATH="${CARGO_TARGET_DIR:-$PWD/target}/debug:$PATH"

work=$(mktemp -d)
mkdir "$work/blocks" "$work/trial"
trap 'kill $(jobs -p) 2>/dev/null || true; rm -r "$work"' EXIT
# A `text` block is the output of the `sh` block before it, if nothing but an empty line is between them.
awk -v to="$work/blocks/" '
    /^```sh$/ { block = sprintf("%s%02d", to, ++blocks); out = block ".sh"; next }
    /^```text$/ { out = fresh ? block ".text" : ""; if (fresh) printf "" >out; next }
    /^```/ { if (out) close(out); fresh = out ~ /\.sh$/; out = ""; next }
    out { print >out; next }
    /./ { fresh = 0 }' "$document"

# What differs from run to run.
same() {
    sed -E -e 's/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/ID/g' -e 's/20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z/TIME/g' \
        -e 's/("peer":"127\.0\.0\.1:)[0-9]+/\1PORT/' -e 's/ [0-9]{10}$/ SECONDS/' "$1"
}

run() {
    cd "$work/trial"
    local block
    for block in "$work"/blocks/*.sh; do
        set +eu
        . "$block" >"${block%.sh}.real" 2>&1
        set -eu
    done
    cd - >/dev/null
}

run
failed=0
for text in "$work"/blocks/*.text; do
    if ! diff -u --label documented --label real <(same "$text") <(same "${text%.text}.real"); then
        echo "FAILED: the output of" >&2
        cat "${text%.text}.sh" >&2
        failed=1
    fi
done
if [ "${1:-}" = --update ]; then
    awk -v from="$work/blocks/" '
        /^```sh$/ { block = sprintf("%s%02d", from, ++blocks); inside = 1 }
        skipping && /^```$/ { while ((getline line < (block ".real")) > 0) print line; skipping = 0 }
        !skipping { print }
        /^```text$/ && fresh { skipping = 1 }
        /^```$/ { fresh = inside; inside = 0; next }
        /./ { fresh = 0 }' "$document" >"$work/document"
    cp "$work/document" "$document"
fi
exit "$failed"
