# Runs the example calls that `serve --sandbox` prints. Source it after lib.sh.

# The expected result of each line with `grpcurl`, in the order of the guide.
readonly PROMISES=(
    '"outcome": "DELETE_OUTCOME_DELETED"'
    '"outcome": "DELETE_OUTCOME_ALREADY_ABSENT"'
    '"outcome": "DELETE_OUTCOME_VALIDATED"'
    'Code: FailedPrecondition|"reason": "ERROR_REASON_NODE_NOT_READY"|"upstream_code": "NodeBeingRebooted"'
    'Code: Unavailable|"reason": "ERROR_REASON_UPSTREAM_UNAVAILABLE"|"code": "ServerBusy"|"httpStatus": 503'
    '"outcome": "DELETE_OUTCOME_DELETED"|"userName": "alice"'
    '"outcome": "DELETE_OUTCOME_VALIDATED"|"userName": "bob"'
    'Code: FailedPrecondition|"reason": "ERROR_REASON_LAST_LOCAL_ADMINISTRATOR"|"httpStatus": 409|"reason": 321'
)

# yields COMMAND TEXT|TEXT...: the output of COMMAND contains each TEXT.
yields() {
    local texts
    IFS='|' read -ra texts <<<"$2"
    bash -c "$1" >"$work/yielded" 2>&1 </dev/null || true
    has "the guide: $1" "$work/yielded" "${texts[@]}"
}

# guide_lines FILE: each line with `grpcurl` has its expected result.
guide_lines() {
    local line number=0
    while IFS= read -r line; do
        yields "$line" "${PROMISES[$number]:-no promise}"
        number=$((number + 1))
    done < <(sed -n 's/^    \(grpcurl .*\)/\1/p' "$1")
    [ "$number" = "${#PROMISES[@]}" ] || complain "the guide has $number calls, not ${#PROMISES[@]}"
}

# hmc_user FIELD VALUE TEXTS
hmc_user() {
    yields "grpcurl -plaintext -d '{\"$1\":\"$2\"}' $address useradmin.v1.UserAdmin/DeleteHmcUser" "$3"
}

# batch_user POOL NODE USER TEXTS
batch_user() {
    local request
    request=$(printf '{"pool_id":"%s","node_id":"%s","user_name":"%s"}' "$1" "$2" "$3")
    yields "grpcurl -plaintext -d '$request' $address useradmin.v1.UserAdmin/DeleteBatchNodeUser" "$4"
}

# The HMC users and their results, as in `last-admin 409/321`.
guide_hmc_users() {
    local name answer
    while read -r name answer; do
        case "$answer" in
        503) hmc_user user_name "$name" '"upstream_http_status": "503"' ;;
        *) hmc_user user_name "$name" "\"httpStatus\": ${answer%/*}|\"reason\": ${answer#*/}" ;;
        esac
    done < <(grep -oE '[a-z-]+ [0-9]{3}(/[0-9]+)?\b' <(grep -A1 '^  pattern-user' "$1"))
    hmc_user user_id "$(sed -nE 's/.*404\/1 by its ID ([0-9a-f-]+).*/\1/p' "$1")" '"httpStatus": 404|"reason": 1'
    hmc_user user_name svc-useradmin '"reason": "ERROR_REASON_OWN_USER"'
}

# The users that can be deleted: those of a node that no call of the guide names, and of the HMC.
guide_users() {
    local name number=0 deleted='"outcome": "DELETE_OUTCOME_DELETED"'
    while IFS= read -r name; do
        batch_user pool-1 "$(grep -oE 'tvm-[0-9a-z_-]+' "$1")" "$name" "$deleted"
        number=$((number + 1))
    done < <(sed -n 's/.*tvm-[^:]*: users //p' "$1" | awk -F ', ' '{ for (i = 1; i <= NF; i++) print $i }' | tr -d '`')
    [ "$number" = 5 ] || complain "the guide has $number users of a node"
    for name in $(sed -nE 's/^  alice, (.*): can be deleted/\1/p' "$1" | tr -d ','); do
        hmc_user user_name "$name" "$deleted|\"userName\": \"$name\""
    done
}

# The nodes and pools on which deletions fail.
guide_nodes() {
    local suffix
    for suffix in $(tr '\n' ' ' <"$1" | sed -E 's/.*  node(-creating.*): FAILED_PRECONDITION.*/\1/' | tr -d ','); do
        batch_user pool-1 "node$suffix" alice 'Code: FailedPrecondition'
    done
    for suffix in $(sed -nE 's/.*; pools pool(-[a-z, -]+): likewise.*/\1/p' "$1" | tr -d ','); do
        batch_user "pool$suffix" node-idle alice '"reason": "ERROR_REASON_POOL_NOT_READY"'
    done
}

guide() {
    start_server plain 'useradmin serve --sandbox --listen 127.0.0.1:0'
    guide_lines "$work/plain.err"
    guide_users "$work/plain.err"
    guide_nodes "$work/plain.err"
    guide_hmc_users "$work/plain.err"
}

# Calls with a certificate, with the token, and without an identity.
secure_guide() {
    # A path that needs quoting in a shell.
    local folder="$work/with a blank" call='useradmin.v1.UserAdmin/DeleteHmcUser' token
    start_server secure "useradmin serve --sandbox --secure '$folder' --listen 127.0.0.1:0"
    guide_lines "$work/secure.err"
    token=$(sed -nE 's/^ *token: (-H ".*"), which is .*/\1/p' "$work/secure.err")
    call="grpcurl -cacert '$folder/ca.pem' %s -d '{\"user_name\":\"bob\"}' $address $call"
    yields "${call/'%s'/}" 'Code: Unauthenticated|"cause": "nothing_shown"'
    yields "${call/'%s'/"$token"}" '"outcome": "DELETE_OUTCOME_DELETED"'
    grep -q '"caller":"https://issuer.sandbox.example#client"' "$work/secure.err" || complain "another caller"
    grep -q '"caller":"spiffe://sandbox.example/client"' "$work/secure.err" || complain "another caller"
}
