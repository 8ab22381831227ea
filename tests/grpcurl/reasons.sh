# The tables of docs/debugging.md: a call for each reason that the sandbox can produce, and what grpcurl says when it
# cannot call at all. To be sourced after lib.sh.

reasons() {
    local reason code rpc arguments rows=0 api=useradmin.v1.UserAdmin
    start_server reasons 'useradmin serve --sandbox --listen 127.0.0.1:0'
    while IFS='|' read -r _ reason code rpc arguments _; do
        rows=$((rows + 1))
        bash -c "grpcurl -plaintext $arguments $address $api/${rpc// /}" >"$work/reason" 2>&1 </dev/null \
            && complain "docs/debugging.md: no error: $rpc $arguments"
        has "docs/debugging.md: $rpc $arguments" "$work/reason" \
            "Code: ${code// /}" "\"reason\": \"ERROR_REASON_${reason// /}\""
    done < <(grep -E '^\| `[A-Z_]+` \| [A-Za-z]+ \| `Delete' docs/debugging.md | tr -d '`')
    [ "$rows" -ge 25 ] || complain "docs/debugging.md has only $rows calls in its table"
}

# None is forgotten: it has a call, or stands among those that the sandbox does not produce.
all_reasons() {
    local reason
    for reason in $(sed -nE 's/^  ERROR_REASON_([A-Z_]+) = [1-9].*/\1/p' proto/useradmin/v1/error_reason.proto); do
        grep -q "\`$reason\`" docs/debugging.md || complain "docs/debugging.md does not name $reason"
    done
}

# says TEXT ARGUMENTS...: grpcurl with ARGUMENTS says so, and the document has the same words.
says() {
    local text="$1"
    shift
    grpcurl -connect-timeout 2 "$@" list >"$work/says" 2>&1 && complain "no error with: $*"
    has "grpcurl $*" "$work/says" "$text"
    has "docs/debugging.md" docs/debugging.md "${text/localhost, not elsewhere/..., not ...}"
}

# A server with TLS, one without, and none: the port is the one of a server that has ended.
no_call() {
    local folder="$work/identities" plain tls
    start_server no-call-plain 'useradmin serve --sandbox --listen 127.0.0.1:0'
    plain="$address"
    start_server no-call-tls "useradmin serve --sandbox --secure '$folder' --listen 127.0.0.1:0"
    tls="$address"
    says 'tls: first record does not look like a TLS handshake' "$plain"
    says 'x509: certificate signed by unknown authority' "$tls"
    says 'x509: certificate is valid for localhost, not elsewhere' -cacert "$folder/ca.pem" -authority elsewhere "$tls"
    says 'context deadline exceeded' -plaintext "$tls"
    kill "$!"
    wait "$!" || true
    says 'connection refused' -plaintext "$tls"
}
