#!/usr/bin/env bash
# Fills the forms of the real grpcui in a real browser, against the sandbox, and reads what a person would see. grpcui
# is started with the commands of docs/debugging.md. Pictures of the answers are in target/grpcui/.
#
# The program is the one that `cargo build` makes, or USERADMIN. Needs node 20 and npm; grpcui is installed below
# target/ by go, and Chromium, if there is none, as root by apt-get.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

. tests/grpcurl/lib.sh
. tests/grpcurl/document.sh

# Debian's package, or what else is there.
find_chromium() {
    local name
    for name in chromium chromium-browser google-chrome; do
        chromium=$(command -v "$name") && return
    done
    return 1
}

# With a font, for the pictures.
chromium_by_apt() {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
}

need_chromium() {
    find_chromium && return
    [ "$(id -u)" = 0 ] || skip "there is no chromium, and it takes root to install it"
    command -v apt-get >/dev/null || skip "there is no chromium, and no apt-get to install it"
    echo "   installing chromium"
    chromium_by_apt >"$tools/chromium.log" 2>&1 </dev/null || tail -n 3 "$tools/chromium.log" >&2
    find_chromium || skip "apt-get could not install chromium"
}

need_playwright() {
    local folder="$tools/grpcui" file
    node -e 'process.exit(parseInt(process.versions.node, 10) < 20 ? 1 : 0)' 2>/dev/null \
        || skip "there is no node 20 or newer"
    command -v npm >/dev/null || skip "there is no npm"
    mkdir -p "$folder"
    export NODE_PATH="$folder/node_modules"
    cmp -s tests/grpcui/package-lock.json "$folder/package-lock.json" && [ -d "$NODE_PATH/playwright-core" ] && return
    for file in package.json package-lock.json; do
        cp "tests/grpcui/$file" "$folder/$file"
    done
    echo "   installing playwright-core"
    npm ci --loglevel=error --no-audit --no-fund --prefix "$folder" >"$tools/npm.log" 2>&1 </dev/null && return
    rm "$folder/package-lock.json"
    tail -n 3 "$tools/npm.log" >&2
    skip "npm could not install playwright-core"
}

# The variable for the page that a command opens.
page_of() {
    case "$1" in
    *-extra-css*) echo PAGE_STYLED ;;
    *-protoset*) echo PAGE_PROTOSET ;;
    *-cert*) echo PAGE_CERTIFICATE ;;
    *-H*) echo PAGE_TOKEN ;;
    *-cacert*) echo PAGE_TYPED ;;
    *) echo PAGE_PLAIN ;;
    esac
}

# Starts every `grpcui` of the document, on a free port and without a browser of its own, and runs what is between.
open_pages() {
    local file command variable
    split docs/debugging.md "## In a browser" "$work/pages"
    for file in "$work"/pages/*.command; do
        command=$(sed "$documented_to_name$name_to_real" "$file")
        case "$command" in
        "grpcui "*) open_page "$(page_of "$command")" "${command/#grpcui /grpcui -open-browser=false -port 0 }" ;;
        *) (cd "$trial" && bash -c "$command") ;;
        esac
    done
    for variable in PAGE_PLAIN PAGE_PROTOSET PAGE_CERTIFICATE PAGE_TOKEN PAGE_TYPED PAGE_STYLED; do
        wait_for "$work/$variable.out" 'available at http'
        export "$variable=$(sed -n 's/.*available at //p' "$work/$variable.out")"
    done
}

open_page() {
    (cd "$trial" && eval "exec $2") >"$work/$1.out" 2>"$work/$1.err" </dev/null &
}

find_program
need_go_tool grpcui go install -C tests/grpcui tool
need_playwright
need_chromium

trial="$work/trial"
mkdir "$trial"
start_documented 'useradmin serve --sandbox'
start_documented 'useradmin serve --sandbox --secure identities --listen 127.0.0.1:50052'
useradmin protoset >"$trial/useradmin.protoset"
open_pages

rm -rf target/grpcui
mkdir -p target/grpcui
export CHROMIUM="$chromium" PROFILE="$work/profile" PICTURES=target/grpcui TOKEN_FILE="$trial/identities/token"
node --test --test-reporter=spec tests/grpcui/grpcui.test.js
echo "grpcui: everything as documented, in $SECONDS s; pictures are in target/grpcui/"
