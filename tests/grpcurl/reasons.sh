# Checks the tables of docs/debugging.md: a call for each reason that the sandbox can cause, and the messages of grpcurl
# if it cannot make a call. Source it after lib.sh.

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

# The document names every reason, with a call or in the list of those that the sandbox does not cause.
all_reasons() {
    local reason
    for reason in $(sed -nE 's/^  ERROR_REASON_([A-Z_]+) = [1-9].*/\1/p' proto/useradmin/v1/error_reason.proto); do
        grep -q "\`$reason\`" docs/debugging.md || complain "docs/debugging.md does not name $reason"
    done
}

# reports TEXT ARGUMENTS...: grpcurl with ARGUMENTS reports TEXT, and the document contains it.
reports() {
    local text="$1"
    shift
    grpcurl -connect-timeout 2 "$@" >"$work/message" 2>&1 && complain "no error with: $*"
    has "grpcurl $*" "$work/message" "$text"
    has "docs/debugging.md" docs/debugging.md "${text/localhost, not elsewhere/..., not ...}"
}

# The server closes the connection. Depending on the timing, grpcurl reports one of two messages.
plaintext_to_tls() {
    grpcurl -plaintext "$1" list >"$work/message" 2>&1 && complain "plaintext to a server with TLS succeeds"
    grep -qE 'EOF|connection reset by peer' "$work/message" || has "grpcurl -plaintext" "$work/message" EOF
    has "docs/debugging.md" docs/debugging.md '| `EOF` or `connection reset by peer` |'
}

# Every row of "When nothing works", except those that other blocks of the document show. Two servers have TLS, one has
# not; port 1 has no server.
no_call() {
    local folder="$work/identities" call=useradmin.v1.UserAdmin/DeleteHmcUser plain tls
    start_server no-call-plain 'useradmin serve --sandbox --listen 127.0.0.1:0'
    plain="$address"
    start_server no-call-other "useradmin serve --sandbox --secure '$folder/other' --listen 127.0.0.1:0"
    start_server no-call-tls "useradmin serve --sandbox --secure '$folder' --listen 127.0.0.1:0"
    tls="$address"
    reports 'context deadline exceeded' -plaintext 127.0.0.1:1 list
    reports 'context deadline exceeded' -plaintext nowhere.invalid:50051 list
    reports 'context deadline exceeded' -plaintext 127.0.0.1 list
    plaintext_to_tls "$tls"
    reports 'tls: first record does not look like a TLS handshake' "$plain" list
    reports 'x509: certificate signed by unknown authority' "$tls" list
    reports 'x509: certificate is valid for localhost, not elsewhere' -cacert "$folder/ca.pem" -authority elsewhere \
        "$tls" list
    reports 'remote error: tls:' -cacert "$folder/ca.pem" -cert "$folder/other/client.pem" \
        -key "$folder/other/client.key" "$tls" list
    reports 'stream terminated by RST_STREAM with error code: PROTOCOL_ERROR' -plaintext -authority a/b "$plain" list
    if command -v openssl >/dev/null; then
        openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=other -keyout "$folder/self.key" -out "$folder/self.pem" \
            2>/dev/null
        reports '"cause": "nothing_shown"' -cacert "$folder/ca.pem" -cert "$folder/self.pem" -key "$folder/self.key" \
            -d '{"user_name":"A.B"}' "$tls" "$call"
    else
        echo "   SKIPPED: nothing_shown: there is no openssl"
    fi
}
