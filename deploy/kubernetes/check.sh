#!/usr/bin/env bash
# Renders base, overlays and components, and checks them without a cluster: strictly against the schemas of Kubernetes,
# against additional rules, and the configuration with the program itself. Then tests that each check detects its
# faults.
#
# Requires go, python3 with venv, openssl, and the program: $USERADMIN, or target/debug/useradmin. Installs tools once,
# in target/tools. Changes no file of the repository.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
readonly KUSTOMIZE_VERSION=v5.7.1
readonly VALIDATE_VERSION=1.37.0
tools="$PWD/target/tools"
kustomize="$tools/bin/kustomize"
venv="$tools/kubernetes-$VALIDATE_VERSION"
work="$PWD/target/kubernetes"
useradmin="${USERADMIN:-target/debug/useradmin}"

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

need() {
    local tool
    for tool in go python3 openssl; do
        if ! command -v "$tool" >/dev/null; then
            echo "SKIPPED: deploy/kubernetes was not checked, there is no $tool" >&2
            exit 0
        fi
    done
    if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
        echo "SKIPPED: deploy/kubernetes was not checked, there is no venv of python3 (python3-venv)" >&2
        exit 0
    fi
    "$useradmin" --version >/dev/null 2>&1 || fail "there is no $useradmin: cargo build, or set USERADMIN"
}

install_tools() {
    mkdir -p "$tools"
    if [ "$("$kustomize" version 2>/dev/null)" != "$KUSTOMIZE_VERSION" ]; then
        GOBIN="$tools/bin" go install "sigs.k8s.io/kustomize/kustomize/${KUSTOMIZE_VERSION%%.*}@$KUSTOMIZE_VERSION" \
            >"$tools/kustomize.log" 2>&1 || fail "kustomize; see $tools/kustomize.log"
    fi
    if [ ! -e "$venv/done" ]; then
        python3 -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet "kubernetes-validate==$VALIDATE_VERSION" 'tomli; python_version < "3.11"' \
            >"$tools/kubernetes-validate.log" 2>&1 || fail "kubernetes-validate; see $tools/kubernetes-validate.log"
        touch "$venv/done"
    fi
}

# Renders folder $2 of deploy/kubernetes under the name $1, with the components in the other arguments.
render() {
    local name=$1 folder=$2 component
    shift 2
    mkdir -p "$work/$name"
    {
        printf '%s\n' 'apiVersion: kustomize.config.k8s.io/v1beta1' 'kind: Kustomization' 'resources:' \
            "  - ../../../deploy/kubernetes/$folder" 'components:'
        for component in "$@"; do
            echo "  - ../../../deploy/kubernetes/components/$component"
        done
        [ $# != 0 ] || echo '  []'
        # As in an overlay with components.
        [ $# = 0 ] || echo 'namespace: useradmin'
    } >"$work/$name/kustomization.yaml"
    "$kustomize" build "$work/$name" >"$work/rendered/$name.yaml"
}

# Checks that the configurations of the examples differ only in the place of the audit log.
compare_examples() {
    local difference
    difference=$(diff "$here/overlays/example/useradmin.toml" "$here/overlays/audit-volume/useradmin.toml" \
        | grep '^[<>]' | sed 's/file = .*/file/' | tr '\n' ' ' || true)
    [ "$difference" = '< file > file ' ] || fail "the useradmin.toml of the overlays differ in more than [audit] file"
    # Without comments, and without the tables [audit] and [store].
    cmp -s <(without_store "$here/overlays/example") <(without_store "$here/overlays/store") \
        || fail "the useradmin.toml of overlays/store differs in more than [store]"
}

without_store() {
    sed -e '/^#/d' -e '/^\[audit\]$/,/^$/d' -e '/^\[store\]$/,/^$/d' "$1/useradmin.toml"
}

need
install_tools
rm -rf "$work"
mkdir -p "$work/rendered" "$work/tls"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=useradmin \
    -keyout "$work/tls/tls.key" -out "$work/tls/tls.crt" 2>"$work/openssl.log" || fail "openssl; see $work/openssl.log"
render base base
render example overlays/example
render audit-volume overlays/audit-volume
render store overlays/store
render example-with-all overlays/example certificate pod-monitor tracing
render audit-volume-with-all overlays/audit-volume certificate pod-monitor tracing
render store-with-all overlays/store certificate pod-monitor tracing
compare_examples
check=("$venv/bin/python" "$here/check/main.py" --useradmin "$useradmin" --tls "$work/tls")
export PYTHONDONTWRITEBYTECODE=1
"${check[@]}" "$work"/rendered/*.yaml
"${check[@]}" --mutants "$work"/rendered/{example,store}-with-all.yaml
echo "deploy/kubernetes: all checks passed in $SECONDS s"
