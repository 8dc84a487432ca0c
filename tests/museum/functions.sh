# What triggers are written with; a trigger is run by: bash -eu functions.sh FILE
#
# MODULES is a directory with the piece's own builds of modules.

# load MODULE [PARAMETER…]: that module, after those it depends on: the piece's own builds, where it has any.
load() {
    local file needed
    is_loaded "$1" && return
    file=$(file_of "$1")
    for needed in $(modinfo -F depends "$file" | tr , ' '); do
        load "$needed"
    done
    insmod "$file" "${@:2}"
}

file_of() {
    local file
    for file in "$MODULES"/*.ko; do
        [[ $(basename "${file//-/_}") == "${1//-/_}.ko" ]] && echo "$file" && return
    done
    modinfo -n "$1"
}

# unload MODULE…: in this order.
unload() {
    rmmod "$@"
}

is_loaded() {
    [[ -d /sys/module/${1//-/_}/holders ]]
}

# await COMMAND…: until it succeeds, ten seconds at most.
await() {
    local _
    for _ in {1..100}; do
        "$@" && return
        sleep 0.1
    done
    echo "in vain: $*" >&2
    return 1
}

# must_fail COMMAND…: for what the leak needs to go wrong.
must_fail() {
    if "$@" 2> /dev/null; then
        echo "succeeded: $*" >&2
        return 1
    fi
}

# shellcheck source=/dev/null
source "$1"
