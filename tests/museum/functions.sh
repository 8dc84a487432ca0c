# What triggers are written with; a trigger is run by: bash -eu functions.sh FILE
#
# MODULES is a directory with the piece's own builds of modules.

# load MODULE [PARAMETER…]: that module, after those it depends on: the piece's own builds of them, where it has any.
load() {
    local name=$1 word path file
    shift
    while read -r word path _; do
        [[ $word == insmod ]] || continue
        file=$(basename "$path" .ko)
        [[ -e $MODULES/$file.ko ]] && path=$MODULES/$file.ko
        if [[ ${file//-/_} == "${name//-/_}" ]]; then
            is_loaded "$file" || insmod "$path" "$@"
        else
            is_loaded "$file" || insmod "$path"
        fi
    done < <(modprobe --show-depends "$name" 2> /dev/null || echo "insmod $MODULES/$name.ko")
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
