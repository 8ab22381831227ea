#!/usr/bin/env bash
# Runs the grpcurl calls in README.md, in docs/debugging.md and in the output of the sandbox, with and without
# reflection, and compares the results with the documents.
#
# `tests/grpcurl/run.sh --update` writes the real outputs into README.md and docs/debugging.md. The program is the one
# that `cargo build` creates, or USERADMIN. If grpcurl is missing, go installs it in target/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
update="${1:-}"
[ -z "$update" ] || [ "$update" = --update ] || { echo "usage: $0 [--update]" >&2; exit 2; }

. tests/grpcurl/lib.sh
. tests/grpcurl/document.sh
. tests/grpcurl/reflection.sh
. tests/grpcurl/guide.sh
. tests/grpcurl/reasons.sh

find_program
need_grpcurl

step "README.md, with reflection"
run_document README.md "## Call it" "useradmin serve --sandbox"
step "README.md, without reflection"
readme_without_reflection
step "descriptions"
descriptions
step "a server without reflection"
server_without_reflection
step "the sandbox's guide"
guide
step "the sandbox's guide, with TLS"
secure_guide
step "docs/debugging.md"
run_document docs/debugging.md ""
step "a call for each reason"
reasons
all_reasons
step "messages of grpcurl if it cannot make a call"
no_call

[ "$failed" = 0 ] || die "grpcurl does not show what the documents show"
echo "grpcurl: everything as documented, in $SECONDS s"
