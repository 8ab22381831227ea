# Makes the README's calls without reflection, and compares the descriptions of the API. Source it after document.sh.

readonly SANDBOX='useradmin serve --sandbox --listen 127.0.0.1:0'
readonly BY_PROTO='-import-path proto -proto useradmin/v1/user_admin.proto'

# readme_calls NAME FLAGS: makes the README's calls with FLAGS to a new sandbox. The outputs are NAME/NNN.real.
readme_calls() {
    local file
    mkdir -p "$work/$1"
    start_server "$1.sandbox" "$SANDBOX"
    for file in "$readme"/*.command; do
        sed -e "s|^grpcurl |&$2 |" -e "s/127\.0\.0\.1:50051/$address/" "$file" >"$file.real"
        bash "$file.real" >"$work/$1/$(basename "$file" .command).real" 2>&1 </dev/null || true
    done
}

# The types of the details in an output that grpcurl could not decode, or of all details.
untyped() {
    sed -nE 's/.*"@error": "([A-Za-z0-9.]+) is not recognized.*/\1/p' "$1"
}
types() {
    sed -nE 's|.*"@type": "type.googleapis.com/([A-Za-z0-9.]+)".*|\1|p' "$1"
}

# typed_alike NAME: the outputs are the same as with reflection.
typed_alike() {
    local text
    for text in "$readme"/*.text; do
        same "$1: $(cat "${text%.text}.command")" "$text" "$work/$1/$(basename "$text" .text).real"
    done
}

# typed_but NAME PATTERN: grpcurl could decode all details except those whose types match PATTERN. The lines before the
# details, and successes, are the same as with reflection.
typed_but() {
    local text real call
    for text in "$readme"/*.text; do
        real="$work/$1/$(basename "$text" .text).real"
        call="$1: $(cat "${text%.text}.command")"
        same "$call" <(sed '/^  Details:/q' "$text") <(sed '/^  Details:/q' "$real")
        diff -u --label expected --label real <(types "$text" | grep -E "$2") <(untyped "$real") \
            || complain "other details are not typed, $call"
    done
}

readme_without_reflection() {
    readme="$work/readme"
    split README.md "## Call it" "$readme"
    useradmin protoset >"$work/useradmin.protoset"
    readme_calls protoset "-protoset $work/useradmin.protoset"
    typed_alike protoset
    # With -use-reflection, grpcurl takes missing types from the server.
    readme_calls proto-and-reflection "-use-reflection $BY_PROTO"
    typed_alike proto-and-reflection
    # user_admin.proto does not import the types of the details.
    readme_calls proto "$BY_PROTO"
    typed_but proto .
    readme_calls protos "$BY_PROTO -proto useradmin/v1/error_details.proto"
    typed_but protos '^google\.rpc\.'
}

# All sources have the same comments, and all types of details.
descriptions() {
    local symbol name="$work/description"
    start_server described "$SANDBOX"
    for symbol in $(sed -nE 's/^(service|message|enum) ([A-Za-z]+) .*/useradmin.v1.\2/p' proto/useradmin/v1/*.proto); do
        grpcurl -plaintext "$address" describe "$symbol" >"$name.reflection" 2>&1 || complain "no $symbol"
        grpcurl -protoset "$work/useradmin.protoset" describe "$symbol" >"$name.protoset" 2>&1 || complain "no $symbol"
        grpcurl $BY_PROTO -proto useradmin/v1/error_reason.proto -proto useradmin/v1/error_details.proto \
            describe "$symbol" >"$name.proto" 2>&1 || true
        same "reflection describes $symbol otherwise than proto/" "$name.proto" "$name.reflection"
        same "the protoset describes $symbol otherwise than proto/" "$name.proto" "$name.protoset"
        grep -q '^ *// ' "$name.reflection" || complain "reflection shows no comments of $symbol"
    done
    for symbol in ErrorInfo RequestInfo BadRequest PreconditionFailure QuotaFailure ResourceInfo RetryInfo Status; do
        grpcurl -plaintext "$address" describe "google.rpc.$symbol" >"$name.reflection" 2>&1 || complain "no $symbol"
        grpcurl -protoset "$work/useradmin.protoset" describe "google.rpc.$symbol" >"$name.protoset" 2>&1 \
            || complain "no $symbol"
        same "google.rpc.$symbol" "$name.reflection" "$name.protoset"
    done
}

# A server without reflection. Its HMC is never called, because the request has no user.
server_without_reflection() {
    local folder="$work/configured" call=useradmin.v1.UserAdmin/DeleteHmcUser
    mkdir "$folder"
    echo unused >"$folder/hmc.password"
    cat >"$folder/useradmin.toml" <<'END'
[server]
listen = "127.0.0.1:0"
admin_listen = ""
reflection = false

[hmcs.nobody]
url = "http://127.0.0.1:9"
userid = "nobody"
password_file = "hmc.password"

[[callers]]
identity = "anonymous"
allow = [{ rpc = "DeleteHmcUser", targets = ["*"] }]
END
    start_server configured 'useradmin serve --config useradmin.toml' "$folder"
    local text="server does not support the reflection API"
    grpcurl -plaintext "$address" list >"$folder/list" 2>&1 && complain "there is reflection with reflection = false"
    grpcurl -plaintext "$address" "$call" >"$folder/call" 2>&1 && complain "a call without its types"
    has "grpcurl list" "$folder/list" "$text"
    has "a call" "$folder/call" "$text"
    has "docs/debugging.md" docs/debugging.md "$text"
    grpcurl -plaintext -protoset "$work/useradmin.protoset" "$address" "$call" >"$folder/typed" 2>&1 \
        && complain "a call without a user succeeds"
    [ -z "$(untyped "$folder/typed")" ] || complain "not typed: $(untyped "$folder/typed")"
    has "a call with the protoset" "$folder/typed" "Code: InvalidArgument" \
        '"reason": "ERROR_REASON_INVALID_REQUEST"' '"field": "user"'
    grpcurl -plaintext -protoset "$work/useradmin.protoset" "$address" grpc.health.v1.Health/Check \
        >"$folder/health" 2>&1 || true
    has "health with the protoset" "$folder/health" '"status": "SERVING"'
}
