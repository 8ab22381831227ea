# Functions of tests/grpcurl/run.sh and tests/grpcui/run.sh for the program, tools, servers, and a temporary folder.
# Source it in the folder of the repository.

readonly GRPCURL=github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
tools="$PWD/target/tools"
work=$(mktemp -d)
failed=0
trap cleanup EXIT

cleanup() {
    # Ends only processes that this shell has started.
    kill $(jobs -p) 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}

step() {
    echo "-- $1"
}

skip() {
    echo "SKIPPED: ${0%/run.sh}: $*"
    exit 0
}

die() {
    echo "FAILED: $*" >&2
    exit 1
}

# Reports a failure and continues, so that one run shows all failures.
complain() {
    echo "FAILED: $*" >&2
    failed=1
}

# Adds the program, under its own name, and the tools to the path.
find_program() {
    local program="${USERADMIN:-${CARGO_TARGET_DIR:-target}/debug/useradmin}"
    [ -x "$program" ] || die "there is no $program: run 'cargo build', or name the program in USERADMIN"
    mkdir -p "$work/bin" "$tools/bin"
    ln -s "$(realpath "$program")" "$work/bin/useradmin"
    PATH="$work/bin:$tools/bin:$PATH"
}

# need_go_tool NAME COMMAND...: skips the test if NAME is missing and COMMAND cannot install it.
need_go_tool() {
    local name="$1"
    shift
    command -v "$name" >/dev/null && return
    command -v go >/dev/null || skip "there is no $name, and no go to install it"
    echo "   installing $name"
    GOBIN="$tools/bin" "$@" >"$tools/$name.log" 2>&1 </dev/null && command -v "$name" >/dev/null && return
    tail -n 3 "$tools/$name.log" >&2
    skip "go could not install $name"
}

# Adds grpcurl to the path, in the version that README.md installs: messages differ between versions.
need_grpcurl() {
    local version="${GRPCURL##*@}"
    grep -qF "go install $GRPCURL" README.md || complain "README.md does not install $GRPCURL"
    PATH="$tools/grpcurl-$version:$PATH"
    [ -x "$tools/grpcurl-$version/grpcurl" ] && return
    grpcurl --version 2>&1 | grep -qF "$version" && return
    command -v go >/dev/null || skip "there is no grpcurl $version, and no go to install it"
    echo "   installing grpcurl $version"
    GOBIN="$tools/grpcurl-$version" go install "$GRPCURL" >"$tools/grpcurl.log" 2>&1 </dev/null && return
    tail -n 3 "$tools/grpcurl.log" >&2
    skip "go could not install grpcurl $version"
}

# wait_for FILE PATTERN: waits until FILE has a line with PATTERN, for 20 seconds at most.
wait_for() {
    local _
    for _ in $(seq 400); do
        grep -q "$2" "$1" 2>/dev/null && return
        sleep 0.05
    done
    cat "$1" "${1%.out}.err" >&2 || true
    die "no line with '$2' in ${1##*/}"
}

# start_server NAME COMMAND [FOLDER]: runs COMMAND, a text, in the background and sets `address`. The outputs are
# $work/NAME.out and, unless COMMAND redirects it, $work/NAME.err.
start_server() {
    (cd "${3:-.}" && eval "exec $2") >"$work/$1.out" 2>"$work/$1.err" </dev/null &
    wait_for "$work/$1.out" '^listening on '
    address=$(sed -n 's/^listening on //p' "$work/$1.out")
}

# Masks values that differ from run to run. UUIDs of version 4 are numbered, so that equal ones must remain equal.
mask() {
    awk 'BEGIN {
            h = "[0-9a-f]"; h3 = h h h; h4 = h3 h
            id = h4 h4 "-" h4 "-4" h3 "-[89ab]" h3 "-" h4 h4 h4
        }
        {
            out = ""
            while (match($0, id)) {
                text = substr($0, RSTART, RLENGTH)
                if (!(text in number)) number[text] = ++count
                out = out substr($0, 1, RSTART - 1) "ID" number[text]
                $0 = substr($0, RSTART + RLENGTH)
            }
            print out $0
        }' "$1" | sed -E -e 's/20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z/TIME/g' -e 's/("elapsed_ms":)[0-9]+/\1N/' \
        -e 's/("peer":"127\.0\.0\.1:)[0-9]+/\1PORT/'
}

# same WHAT EXPECTED REAL: compares two files, except for values that differ from run to run.
same() {
    diff -u --label expected --label real <(mask "$2") <(mask "$3") || complain "$1"
}

# has WHAT FILE TEXT...: the file contains each TEXT.
has() {
    local what="$1" file="$2" text
    shift 2
    for text in "$@"; do
        grep -qF -e "$text" "$file" || { cat "$file" >&2; complain "'$text' is missing: $what"; }
    done
}
