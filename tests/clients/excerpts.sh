#!/usr/bin/env bash
# Fails if an excerpt in docs/clients.md, that is, a fenced block after `<!-- from FILE -->`, is not contained in FILE.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
document=docs/clients.md
excerpts=0 stale=0

check() {
    excerpts=$((excerpts + 1))
    if [ ! -f "$1" ] || [ -z "$2" ] || [[ $'\n'"$(cat "$1")"$'\n' != *$'\n'"$2"* ]]; then
        echo "$document:$3: this is not in $1" >&2
        stale=1
    fi
}

number=0 file="" block="" inside=""
while IFS= read -r line; do
    number=$((number + 1))
    if [ -n "$inside" ] && [[ $line == '```'* ]]; then
        check "$file" "$block" "$begin"
        file="" block="" inside=""
    elif [ -n "$inside" ]; then
        block+=$line$'\n'
    elif [[ $line =~ ^'<!-- from '(.*)' -->'$ ]]; then
        file=${BASH_REMATCH[1]}
    elif [ -n "$file" ] && [[ $line == '```'* ]]; then
        inside=1 begin=$number
    fi
done <"$document"

[ "$excerpts" -gt 0 ] || { echo "$document has no excerpts" >&2 && exit 1; }
[ -z "$inside$file" ] || { echo "$document: an excerpt of $file does not end" >&2 && exit 1; }
exit "$stale"
