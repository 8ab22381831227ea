# Runs the commands in the `console` blocks of a document and compares the outputs. Source it after lib.sh.
#
# A line `$ COMMAND` is run unchanged, in an empty folder that contains `proto`. A backslash at the end of a line
# continues the command. Only addresses are replaced: `useradmin serve` is started in the background on a free port.
# Commands with `grpcui` are tested by tests/grpcui.

# split DOCUMENT HEADING FOLDER: writes NNN.command and NNN.text (the output) for each command below HEADING, or in the
# whole document if HEADING is empty.
split() {
    mkdir -p "$3"
    awk -v heading="$2" -v folder="$3/" '
        BEGIN { active = heading == "" }
        heading != "" && /^## / { active = $0 == heading }
        active && /^```console$/ { inside = 1; next }
        /^```$/ { inside = 0; next }
        !inside { next }
        /^\$ / {
            close(command); close(text)
            name = folder sprintf("%03d", ++count)
            command = name ".command"; text = name ".text"
            printf "" >text
            $0 = substr($0, 3); more = 1
        }
        more { print >command; more = /\\$/; next }
        { print >text }' "$1"
    [ -e "$3/001.command" ] || die "$1 has no command below '$2'"
}

# join DOCUMENT HEADING FOLDER: replaces the outputs in DOCUMENT for which NNN.new exists.
join() {
    awk -v heading="$2" -v folder="$3/" '
        function output(line) { while ((getline line <new) > 0) print line; close(new); new = "" }
        BEGIN { active = heading == "" }
        heading != "" && /^## / { active = $0 == heading }
        active && /^```console$/ { inside = 1 }
        /^```/ { has = 0 }
        /^```$/ { inside = 0 }
        inside && /^\$ / {
            new = folder sprintf("%03d", ++count) ".new"
            has = (getline line <new) >= 0; close(new); more = 1
        }
        inside && more { print; more = /\\$/; if (!more && has) output(); next }
        has { next }
        { print }' "$1" >"$3/joined"
    cp "$3/joined" "$1"
}

servers=0 documented_to_name="" name_to_real="" real_to_name="" name_to_documented=""

# start_documented COMMAND: starts a server of a document in $trial, and maps the documented address to the real one.
start_documented() {
    local command="$1" documented=127.0.0.1:50051
    case "$command" in
    *--listen*) documented=$(sed -E 's/.*--listen ([^ ]+).*/\1/' <<<"$command") ;;
    *) command="$command --listen $documented" ;;
    esac
    servers=$((servers + 1))
    start_server "server-$servers" "${command/$documented/127.0.0.1:0}" "$trial"
    know_address "$documented" "$address"
}

# know_address DOCUMENTED REAL: maps the addresses by a name, because a real address can equal another documented one.
know_address() {
    local name="@server-$servers@"
    documented_to_name+="s/$1/$name/g;"
    name_to_real+="s/$name/$2/g;"
    real_to_name+="s/$2/$name/g;"
    name_to_documented+="s/$name/$1/g;"
}

# run_document DOCUMENT HEADING [SERVER]: starts SERVER, if given, then runs the commands. If `update` is set, writes
# outputs that differ into the document.
run_document() {
    local folder="$work/${1//\//-}" file text
    trial="$folder/trial" documented_to_name="" name_to_real="" real_to_name="" name_to_documented=""
    mkdir -p "$trial"
    ln -s "$PWD/proto" "$trial/proto"
    split "$1" "$2" "$folder"
    [ -z "${3:-}" ] || start_documented "$3"
    for file in "$folder"/*.command; do
        text="${file%.command}.text"
        case "$(cat "$file")" in
        "grpcui "*) ;;
        "useradmin serve "*) start_documented "$(cat "$file")" ;;
        *)
            sed "$documented_to_name$name_to_real" "$file" >"$file.real"
            (cd "$trial" && bash "$file.real") >"$text.raw" 2>&1 </dev/null || true
            sed "$real_to_name$name_to_documented" "$text.raw" >"$text.real"
            cmp -s <(mask "$text") <(mask "$text.real") && continue
            [ -z "$update" ] || { cp "$text.real" "${file%.command}.new"; continue; }
            same "$1 shows another output of: $(cat "$file")" "$text" "$text.real"
            ;;
        esac
    done
    [ -z "$update" ] || join "$1" "$2" "$folder"
}
