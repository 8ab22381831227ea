#!/usr/bin/env bash
# Tests the generated clients, each against a fresh sandbox: run.sh [LANGUAGE...]; without arguments, all languages.
# The server is $USERADMIN, or else the one that cargo has built. Creates files only in target/.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
readonly LANGUAGES="go python node java"
passed="" skipped="" failed=""
sandboxes=()

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Prints a tool that the language needs and that is not installed, or nothing.
missing() {
    local tool tools
    case $1 in
        go) tools="go" ;;
        python) tools="python3" ;;
        node) tools="node npm" ;;
        java) tools="javac mvn" ;;
    esac
    for tool in $tools; do
        command -v "$tool" >/dev/null || { echo "$tool" && return; }
    done
    if [ "$1" = python ] && ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
        echo "venv of python3 (python3-venv)"
    fi
}

# start_sandbox FOLDER OPTION...: starts a sandbox, waits until it is ready, and sets `address`.
start_sandbox() {
    local folder=$1
    shift
    mkdir -p "$folder"
    "$server" serve --sandbox --listen 127.0.0.1:0 "$@" >"$folder/stdout" 2>"$folder/stderr" </dev/null &
    sandboxes+=($!)
    for _ in $(seq 300); do
        address=$(sed -n 's/^listening on //p' "$folder/stdout")
        [ -z "$address" ] || return 0
        kill -0 $! 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$folder/stderr" >&2
    return 1
}

stop_sandboxes() {
    local code=0 sandbox
    for sandbox in ${sandboxes[@]+"${sandboxes[@]}"}; do
        kill -TERM "$sandbox" 2>/dev/null || true
        wait "$sandbox" || code=$?
    done
    sandboxes=()
    return "$code"
}

# Tests one language with separate sandboxes: one with TLS and credentials, and one without.
run() {
    local folder=$root/target/clients/sandbox-$1 code=0
    rm -rf "$folder"
    start_sandbox "$folder" --secure "$folder/credentials" || { stop_sandboxes || true; return 1; }
    export USERADMIN_ADDRESS=$address USERADMIN_CREDENTIALS=$folder/credentials USERADMIN_LOG=$folder/stderr
    start_sandbox "$folder/plaintext" || { stop_sandboxes || true; return 1; }
    export USERADMIN_PLAINTEXT_ADDRESS=$address
    "$here/$1/run.sh" </dev/null || code=$?
    stop_sandboxes || { echo "a sandbox ended with $?" >&2 && code=1; }
    return "$code"
}

server=${USERADMIN:-${CARGO_TARGET_DIR:-target}/debug/useradmin}
[ -x "$server" ] || fail "there is no $server; run \`cargo build\`, or set USERADMIN"
USERADMIN_PROGRAM=$(realpath "$server")
export USERADMIN_PROGRAM
trap 'stop_sandboxes || true' EXIT
# Connections to the sandbox must not use a proxy of the environment.
export no_proxy="127.0.0.1,localhost${no_proxy:+,$no_proxy}"

# shellcheck disable=SC2086 # a list of words
[ $# -gt 0 ] || set -- $LANGUAGES
for language in "$@"; do
    [[ " $LANGUAGES " == *" $language "* ]] || fail "$language is none of: $LANGUAGES"
done
"$here/excerpts.sh"
mkdir -p target/clients
# Concurrent runs would build in the same folders.
if command -v flock >/dev/null; then
    exec 9>target/clients/lock
    flock 9
fi
for language in "$@"; do
    echo "== $language"
    lack=$(missing "$language")
    if [ -n "$lack" ]; then
        echo "SKIPPED: $language: there is no $lack" >&2
        skipped+=" $language"
    elif run "$language"; then
        passed+=" $language"
    else
        failed+=" $language"
        echo "FAILED: $language; the log of its sandbox is target/clients/sandbox-$language/stderr" >&2
    fi
done

echo "== clients: passed:${passed:- none}; skipped:${skipped:- none}; failed:${failed:- none}"
[ -z "$failed" ]
