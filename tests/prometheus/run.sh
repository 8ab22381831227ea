#!/usr/bin/env bash
# Tests what operators look at: rules, dashboard and docs/operations.md, with a real Prometheus that reads real servers.
# The server is $USERADMIN, or what cargo has built. Everything is made below target/. What is missing is installed there,
# once: Prometheus (Debian's package, unpacked), grpcurl (by go). Without python3 or one of these it is skipped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
readonly GRPCURL=github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
tools="$root/target/tools"
export PATH="$tools/bin:$tools/prometheus/usr/bin:$PATH"
export PYTHONDONTWRITEBYTECODE=1

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

skip() {
    echo "SKIPPED: metrics, rules and dashboard were not tested: $*" >&2
    exit 0
}

# Unpacked and not installed: an installed one would start a service of its own.
unpack_prometheus() {
    mkdir -p "$tools/prometheus" && cd "$tools/prometheus" || return
    apt-get download prometheus || { [ "$(id -u)" = 0 ] && apt-get update && apt-get download prometheus; } || return
    dpkg -x prometheus_*.deb . && rm prometheus_*.deb
}

find_tools() {
    mkdir -p "$tools"
    command -v python3 >/dev/null || skip "there is no python3"
    if ! prometheus --version >/dev/null 2>&1 || ! promtool --version >/dev/null 2>&1; then
        (unpack_prometheus) >"$tools/prometheus.log" 2>&1 </dev/null || skip "no prometheus; see $tools/prometheus.log"
    fi
    if ! command -v grpcurl >/dev/null; then
        GOBIN="$tools/bin" go install "$GRPCURL" >"$tools/grpcurl.log" 2>&1 </dev/null || skip "neither grpcurl nor go"
    fi
}

check_rules() {
    local log="$tools/promtool.log"
    promtool check config deploy/prometheus/prometheus.example.yml >"$log" 2>&1 || { cat "$log" >&2 && fail "the configuration"; }
    promtool check rules deploy/prometheus/useradmin.rules.yml >"$log" 2>&1 || { cat "$log" >&2 && fail "the rules"; }
    promtool test rules deploy/prometheus/tests/*.test.yml >"$log" 2>&1 || { cat "$log" >&2 && fail "the tests of the rules"; }
}

# Grafana's own types; the first build takes a minute.
check_schema() {
    if ! command -v go >/dev/null; then
        echo "SKIPPED: the dashboard was not read with Grafana's types, there is no go" >&2
        return
    fi
    go -C "$here/schema" build -o "$tools/bin/dashboard-schema" . || fail "building tests/prometheus/schema"
    dashboard-schema deploy/grafana/useradmin.json || fail "the dashboard"
}

server=${USERADMIN:-${CARGO_TARGET_DIR:-target}/debug/useradmin}
[ -x "$server" ] || fail "there is no $server; run \`cargo build\`, or set USERADMIN"
USERADMIN=$(realpath "$server")
export USERADMIN
find_tools
echo "== rules"
check_rules
echo "== documents and dashboard"
python3 "$here/agreement.py"
check_schema
echo "== a Prometheus that reads two servers"
python3 "$here/live.py"
echo "prometheus: passed in $SECONDS s"
