#!/usr/bin/env bash
# Makes what a release consists of, in target/release-VERSION: docs/releasing.md tells what that is. Builds twice, in two
# places, and fails unless both programs are the same. Needs git and Rust; installs cargo-cyclonedx where it is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly CYCLONEDX=0.5.9

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

[ -z "$(git status --porcelain)" ] || fail "there are changes that are not committed"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
[ -n "$(git tag --points-at HEAD "v$version")" ] || echo "note: this commit has no tag v$version yet" >&2
target=$(rustc -vV | sed -n 's/^host: //p')
# The same for everybody who builds this commit.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
out="$PWD/target/release-$version"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$out"
mkdir -p "$out"

# A program from a copy of what is committed, in a place of its own.
build() {
    local place="$work/$1" cargo_home="${CARGO_HOME:-$HOME/.cargo}"
    mkdir -p "$place"
    git archive HEAD | tar -x -C "$place"
    (cd "$place" && RUSTFLAGS="--remap-path-prefix=$place=/useradmin --remap-path-prefix=$cargo_home=/cargo" \
        cargo build --quiet --release --locked --bin useradmin --target-dir "$place/target")
    cp "$place/target/release/useradmin" "$work/useradmin-$1"
    rm -rf "$place/target"
}

# Files of one folder, as an archive that is the same for everybody.
archive() {
    tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=ustar \
        -C "$work/$1" -cf - . | gzip -n -9 >"$out/$2"
}

echo "== two builds of $version for $target"
build first
build a-second-place
cmp "$work/useradmin-first" "$work/useradmin-a-second-place" || fail "the two builds differ"

echo "== archives"
mkdir -p "$work/program" "$work/api"
install -m 755 "$work/useradmin-first" "$work/program/useradmin"
cp -r README.md CHANGELOG.md docs "$work/program/"
archive program "useradmin-$version-$target.tar.gz"
cp -r proto/useradmin "$work/api/"
"$work/program/useradmin" protoset >"$work/api/useradmin.protoset"
archive api "useradmin-$version-proto.tar.gz"

echo "== crate"
(cd "$work/first" && cargo package --quiet --locked --package useradmin-client --target-dir "$work/first/target")
cp "$work/first/target/package/useradmin-client-$version.crate" "$out/"
rm -rf "$work/first/target"

echo "== bill of materials"
cargo cyclonedx --version >/dev/null 2>&1 || cargo install --quiet --locked --debug "cargo-cyclonedx@$CYCLONEDX"
# It writes next to the manifest, and names the place where that is.
(cd "$work/first" && cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$target" --describe binaries \
    --no-build-deps)
sed "s|file://$work/first|file:///useradmin|g" "$work/first/useradmin_bin.cdx.json" >"$out/useradmin-$version.cdx.json"

(cd "$out" && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)
