#!/usr/bin/env bash
# Calls the sandbox with the real grpcurl as README.md, docs/debugging.md and the sandbox's own guide show it, with and
# without reflection, and compares what comes back with what they show.
#
# `tests/grpcurl/run.sh --update` writes the real outputs into README.md and docs/debugging.md. The program is the one
# that `cargo build` makes, or USERADMIN. Where there is no grpcurl, go installs it below target/.
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
step "when grpcurl cannot call"
no_call

[ "$failed" = 0 ] || die "grpcurl does not show what the documents show"
echo "grpcurl: everything as documented, in $SECONDS s"
