#!/usr/bin/env bash
# Builds the image of the Dockerfile and tests it, without a registry and without a container engine. Creates the base
# images itself: Debian with a C compiler for the build, and the libraries of glibc, without a shell, at run time.
#
# Requires Linux and root (for root file systems and namespaces); buildah, debootstrap, iproute2, util-linux; Rust,
# whose toolchain is mounted into the build; a Debian mirror and crates.io; 5 GB in target/; about 10 minutes, mostly
# for the release build. It is not part of .ci/run.
#
# Not tested, because there is no engine: seccomp, cgroups, and the health check as an engine runs it.
#
#   deploy/container/verify.sh          SUITE=trixie selects another Debian, KEEP=1 keeps image and container
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
suite="${SUITE:-bookworm}"
work="$PWD/target/container"
image=localhost/useradmin:verify
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
pid=""

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

step() {
    echo "== $1"
}

build() {
    buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"
}

stop() {
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
    if [ -z "${KEEP:-}" ]; then
        build rm --all >/dev/null 2>&1 || true
        rm -rf "$work/storage" "$work/run" "$work/trial"
    fi
}

need() {
    [ "$(id -u)" = 0 ] || fail "this needs root"
    local tool
    for tool in buildah debootstrap ip unshare nsenter setpriv rustc cargo; do
        command -v "$tool" >/dev/null || fail "there is no $tool (apt-get install buildah debootstrap iproute2; rustup.rs)"
    done
    toolchain=$(rustc --print sysroot)
    [ -x "$toolchain/bin/cargo" ] || fail "there is no cargo in $toolchain"
}

# Creates an image named $1 from the folder $2, configured with the other arguments.
import() {
    local container name=$1 folder=$2
    shift 2
    container=$(build from scratch)
    build add --quiet "$container" "$folder" / >/dev/null
    [ $# = 0 ] || build config "$@" "$container"
    build commit --quiet --rm "$container" "$name" >/dev/null
}

build_base() {
    if [ ! -e "$work/$suite.done" ]; then
        rm -rf "${work:?}/$suite"
        debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev "$suite" "$work/$suite" >"$work/debootstrap.log" \
            || fail "debootstrap; see $work/debootstrap.log"
        rm -rf "$work/$suite"/var/cache/apt/archives/*.deb "$work/$suite"/var/lib/apt/lists/*
        touch "$work/$suite.done"
    fi
    # The build runs offline: the crates of Cargo.lock are vendored, with their checksums.
    cargo vendor --quiet --locked --versioned-dirs "$work/vendor" >"$work/vendor.toml"
    mkdir -p "$work/cargo"
    printf '%s\n' '[net]' 'offline = true' '[source.crates-io]' 'replace-with = "vendored"' \
        '[source.vendored]' 'directory = "/vendor"' >"$work/cargo/config.toml"
    import localhost/build:verify "$work/$suite" \
        --env PATH=/usr/local/rust/bin:/usr/bin:/bin --env CARGO_HOME=/usr/local/cargo
}

# Creates a base image with only glibc and libgcc, so that everything that needs a shell fails.
runtime_base() {
    rm -rf "$work/runtime"
    mkdir -p "$work/runtime"
    chroot "$work/$suite" sh -c "dpkg -L libc6 libgcc-s1 \
        | grep -E '/(ld-linux[^/]*|lib(c|m|gcc_s|resolv|nss_dns|nss_files)\.so\.[0-9]+)\$' | tar -ch -T - 2>/dev/null" \
        | tar -x -C "$work/runtime"
    import localhost/runtime:verify "$work/runtime"
}

# Builds an image named $1; the other arguments are passed to the build.
build_image() {
    local name=$1
    shift
    nice -n 10 buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs bud \
        --isolation chroot --pull-never --format docker --tag "$name" \
        --volume "$toolchain:/usr/local/rust:ro" --volume "$work/vendor:/vendor:ro" \
        --volume "$work/cargo:/usr/local/cargo" \
        --build-arg BUILD_IMAGE=localhost/build:verify --build-arg RUNTIME_IMAGE=localhost/runtime:verify \
        --build-arg VERSION="$version" --build-arg REVISION="$revision" "$@" . >"$work/build.log" 2>&1 \
        || { tail -n 20 "$work/build.log" >&2; fail "the build; see $work/build.log"; }
}

# Prints metadata of the image, formatted by a Go template.
says() {
    build inspect --type image --format "$1" "$image"
}

expect() {
    local found
    found=$(says "$2")
    [ "$found" = "$3" ] || fail "$1 is '$found', not '$3'"
}

check_metadata() {
    expect "the user" '{{.Docker.Config.User}}' 10001:10001
    expect "the stop signal" '{{.Docker.Config.StopSignal}}' SIGTERM
    # shellcheck disable=SC2016 # Go's variables
    expect "the ports" '{{range $port, $_ := .Docker.Config.ExposedPorts}}{{$port}} {{end}}' '50051/tcp '
    expect "the version" '{{index .Docker.Config.Labels "org.opencontainers.image.version"}}' "$version"
    expect "the revision" '{{index .Docker.Config.Labels "org.opencontainers.image.revision"}}' "$revision"
    expect "the base" '{{index .Docker.Config.Labels "org.opencontainers.image.base.name"}}' localhost/runtime:verify
    readarray -t entrypoint < <(says '{{range .Docker.Config.Entrypoint}}{{println .}}{{end}}' | sed '/^$/d')
    readarray -t command < <(says '{{range .Docker.Config.Cmd}}{{println .}}{{end}}' | sed '/^$/d')
    readarray -t healthcheck < <(says '{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}' | sed '/^$/d')
    [ "${healthcheck[0]}" = CMD ] || fail "the health check needs a shell"
}

check_files() {
    root=$(build mount "$(build from --pull-never "$image")")
    [ -z "$(find "$root" -name sh -o -name bash -o -name busybox)" ] || fail "there is a shell"
    [ -s "$root/etc/ssl/certs/ca-certificates.crt" ] || fail "there are no CA certificates"
    [ "$(stat -c %u:%g "$root/var/lib/useradmin")" = 10001:10001 ] || fail "/var/lib/useradmin has another owner"
    local strange
    strange=$(find "$root" -xdev \( -perm /6000 -o -type f -perm /0022 \))
    [ -z "$strange" ] || fail "files that others can write, or that change the user: $strange"
}

write_config() {
    rm -rf "$work/trial"
    mkdir -p "$work/trial/etc" "$work/trial/state"
    chown 10001:10001 "$work/trial/state"
    echo secret >"$work/trial/etc/password"
    echo c2VjcmV0 >"$work/trial/etc/key"
    # Includes a Batch account, because its client loads the authorities of the system at startup.
    cat >"$work/trial/etc/useradmin.toml" <<'END'
[audit]
file = "/var/lib/useradmin/audit.jsonl"

[batch_accounts.prod]
url = "https://account.region.batch.azure.com"

[batch_accounts.prod.credential]
kind = "shared_key"
account_name = "account"
key_file = "key"

[hmcs.dallas1]
url = "https://hmc.example:6794"
userid = "svc-useradmin"
password_file = "password"
END
}

# Runs a command of the image in the background as an engine does: as the user of the image, without new privileges, in
# a separate network namespace, on a read-only root, with the configuration and a folder for the audit log mounted. Each
# step uses `exec`, so that `pid` is the program.
start() {
    mkdir -p "$root/etc/useradmin"
    : >"$work/trial/stdout"
    # shellcheck disable=SC2016 # for the inner shell
    unshare --mount --net -- bash -euc '
        root=$1 trial=$2
        shift 2
        ip link set lo up
        mount --bind "$root" "$root"
        mount --bind "$trial/etc" "$root/etc/useradmin"
        mount -o remount,bind,ro "$root/etc/useradmin"
        mount --bind "$trial/state" "$root/var/lib/useradmin"
        mount -o remount,bind,ro "$root"
        exec env -i "$(command -v setpriv)" --no-new-privs "$(command -v chroot)" --userspec=10001:10001 --groups= "$root" "$@"
    ' - "$root" "$work/trial" "$@" >"$work/trial/stdout" 2>"$work/trial/stderr" </dev/null &
    pid=$!
}

await_ready() {
    local _
    for _ in $(seq 100); do
        grep -q '^listening on ' "$work/trial/stdout" && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/trial/stderr" >&2
    fail "it did not get ready"
}

# Runs the health check of the image in the namespaces of the running program.
health() {
    nsenter --target "$pid" --mount --net --root --wd --setuid 10001 --setgid 10001 -- "${healthcheck[@]:1}"
}

terminate() {
    local code=0
    kill -TERM "$pid"
    wait "$pid" || code=$?
    pid=""
    [ "$code" = 0 ] || fail "SIGTERM ended it with $code"
}

try_command() {
    start "${entrypoint[@]}" "$@"
    await_ready
    grep -q '^Uid:[[:space:]]10001[[:space:]]10001' "/proc/$pid/status" || fail "it runs as another user"
    grep -q '^CapEff:[[:space:]]0*$' "/proc/$pid/status" || fail "it has capabilities"
    [ "$(cat "/proc/$pid/comm")" = useradmin ] || fail "something else is process $pid"
    health || fail "it is not healthy"
    terminate
}

try_image() {
    write_config
    try_command "${command[@]}"
    [ "$(ls -A "$work/trial/state")" = audit.jsonl ] || fail "it has written: $(ls -A "$work/trial/state")"
    if grep -q -e '"level":"ERROR"' -e '"level":"WARN"' "$work/trial/stderr"; then
        cat "$work/trial/stderr" >&2
        fail "it complains"
    fi
    # The health check must fail if no server listens on its port.
    sed -i '1i [server]\nlisten = "127.0.0.1:50052"\n' "$work/trial/etc/useradmin.toml"
    start "${entrypoint[@]}" "${command[@]}"
    await_ready
    ! health 2>/dev/null || fail "the health check succeeds without a server"
    terminate
    start "${entrypoint[@]}" serve --sandbox
    ! wait "$pid" || fail "it contains the sandbox"
    pid=""
    grep -q "unexpected argument '--sandbox'" "$work/trial/stderr" || fail "serve --sandbox: $(cat "$work/trial/stderr")"
}

try_sandbox() {
    readarray -t command < <(build inspect --type image --format '{{range .Docker.Config.Cmd}}{{println .}}{{end}}' \
        "$image-sandbox" | sed '/^$/d')
    root=$(build mount "$(build from --pull-never "$image-sandbox")")
    try_command "${command[@]}"
}

need
mkdir -p "$work"
trap stop EXIT
step "base images: $suite to build, its glibc to run"
build_base
runtime_base
step "image"
build_image "$image"
step "what it says of itself, and what is in it"
check_metadata
check_files
step "its command, on a read-only root"
try_image
sizes="the program is $(du -k "$root/usr/local/bin/useradmin" | cut -f 1) KiB, the image $(du -sk "$root" | cut -f 1) KiB"
step "image of the sandbox"
build_image "$image-sandbox" --target sandbox
try_sandbox
echo "all checks passed in $SECONDS s; $sizes with a runtime image of $(du -sk "$work/runtime" | cut -f 1) KiB"
