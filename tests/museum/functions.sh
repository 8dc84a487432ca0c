# SPDX-License-Identifier: GPL-2.0-or-later
# What triggers are written with; a trigger is run by: bash -eu functions.sh FILE
#
# MODULES is a directory that has for each module NAME that FILE loads a file NAME.load, which says what to insert, in order.

# load MODULE [PARAMETER…]: that module, after those it depends on: the piece's own builds, where it has any.
load() {
    local name file
    while read -r name file; do
        [[ -d /sys/module/$name/holders ]] && continue
        if [[ $name == "${1//-/_}" ]]; then
            insmod "$file" "${@:2}"
        else
            insmod "$file"
        fi
    done < "$MODULES/$1.load"
}

# unload MODULE…: in this order; not if KEEP_LOADED is set, for who has to read their names.
unload() {
    [[ -n ${KEEP_LOADED:-} ]] || rmmod "$@"
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
