#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Sets up this checkout, for tools/quickstart, tools/test, tools/guest and tools/docs:
#
#   tools/setup.sh run    what `kleaktrace` needs to run
#   tools/setup.sh docs   that, and what tools/docs needs to build the manual
#   tools/setup.sh dev    that, and what its tests need
#   tools/setup.sh full   that, and what tests/full needs: Apache Spark and Java, which are large
#
# Distribution packages, then .venv made from the distribution's python3 (bcc lives there) with system site
# packages. Can be repeated: what is there already is left alone.
set -euo pipefail

project=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
kind=${1:-}
python=/usr/bin/python3

say() { printf 'setup: %s\n' "$*" >&2; }

# die WHAT TO-DO
die() {
    say "$1"
    say "to do: $2"
    exit 3
}

case $kind in
run) extra='' serving=(run docs dev full) packages=(kmod python3-bpfcc python3-venv) optional=() ;;
docs) extra='[docs]' serving=(docs dev full) packages=(kmod python3-bpfcc python3-venv) optional=() ;;
dev | full)
    extra='[dev]' serving=(dev full) packages=(gcc kmod libc6-dev make patch python3-bpfcc python3-venv rsync)
    # Not every distribution has them. Without, what they would read is not tested (tests/browser, tests/formats).
    optional=(chromium chromium-driver golang-go)
    if [[ $kind == full ]]; then
        extra='[dev,full]' serving=(full)
        packages+=(default-jre-headless)
    fi
    ;;
*)
    echo "usage: tools/setup.sh run|docs|dev|full" >&2
    exit 2
    ;;
esac

# missing PACKAGE…: those that are not installed
missing() {
    local name
    for name in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$name" 2> /dev/null | grep -qx installed || echo "$name"
    done
}

check_machine() {
    [[ $(uname -s) == Linux ]] || die "this is not Linux" "run it on the Linux machine to be traced"
    [[ $EUID -eq 0 ]] || die "not root: packages cannot be installed, nor the kernel traced" "sudo $0 $kind"
    command -v dpkg-query apt-get > /dev/null ||
        die "this is not Debian or one of its kin: set-up knows apt only" \
            "install python3, its venv and bcc (often python3-bcc), then: python3 -m venv --system-site-packages \
.venv && .venv/bin/pip install -e .$extra"
}

# run_quietly WHAT TO-DO COMMAND…: shows the end of the output only if the command fails
run_quietly() {
    local what=$1 fix=$2 log
    shift 2
    log=$(mktemp)
    if ! "$@" > "$log" 2>&1 < /dev/null; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        die "$what" "$fix"
    fi
    rm -f "$log"
}

readonly apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)

install_packages() {
    local wanted
    mapfile -t wanted < <(missing "${packages[@]}")
    [[ ${#wanted[@]} -gt 0 ]] || return 0
    say "installing ${wanted[*]}"
    local network="check the network, and that /etc/apt/sources.list has Debian's main archive; then run this again"
    run_quietly "the package lists cannot be fetched" "$network" "${apt[@]}" update
    run_quietly "packages cannot be installed: ${wanted[*]}" "$network" \
        "${apt[@]}" install -y --no-install-recommends "${wanted[@]}"
}

# Those that apt knows; without them there is only less to test.
install_optional_packages() {
    local wanted
    mapfile -t wanted < <(for name in $(missing "${optional[@]}"); do
        apt-cache show --quiet=2 "$name" > /dev/null 2>&1 && echo "$name"
    done)
    [[ ${#wanted[@]} -gt 0 ]] || return 0
    say "installing ${wanted[*]}"
    { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${wanted[@]}"; } > /dev/null 2>&1 < /dev/null ||
        say "going on without ${wanted[*]}: they cannot be installed now"
}

check_python() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null ||
        die "$python is older than 3.11 or missing" "use Debian 12 or later"
    "$python" -c 'import bcc' 2> /dev/null ||
        die "$python cannot import bcc, though python3-bpfcc is installed" \
            "apt-get install --reinstall python3-bpfcc"
}

# What the environment was made from. A change of it, or of the kind asked for, means a new installation.
stamp() {
    "$python" -VV
    printf '%s %s\n' "$project" "$1"
    sha256sum < "$project/pyproject.toml"
}

install_project() {
    local venv=$project/.venv done_file
    # docs holds all of run, dev all of docs, and full all of dev.
    for done_file in "${serving[@]/#/$venv/.setup-}"; do
        [[ -x $venv/bin/kleaktrace && -f $done_file && $(< "$done_file") == "$(stamp "${done_file##*-}")" ]] && return 0
    done
    say "installing kleaktrace$extra into $venv (a minute or so)"
    if ! grep -qs '^include-system-site-packages = true' "$venv/pyvenv.cfg" || [[ ! -x $venv/bin/python ]] ||
        ! "$venv/bin/python" -c 'import bcc' 2> /dev/null; then
        run_quietly "$venv cannot be made" "apt-get install python3-venv, and see that the disk has room" \
            "$python" -m venv --clear --system-site-packages "$venv"
    fi
    run_quietly "the Python packages cannot be installed" \
        "check the network and pip's settings (pip config list); then run this again" \
        "$venv/bin/python" -m pip install --disable-pip-version-check --root-user-action=ignore -e "$project$extra"
    stamp "$kind" > "$venv/.setup-$kind"
}

# Only npm has the viewer whose importer tests/formats lets read our files. All else works without it.
fetch_speedscope() {
    local home=$project/.venv/speedscope work
    [[ $kind != run && $kind != docs && ! -d $home ]] || return 0
    if ! command -v npm > /dev/null; then
        say "npm is not installed: tests of --format speedscope will be skipped"
        return 0
    fi
    work=$(mktemp -d -p "$project/.venv")
    if npm pack --silent --pack-destination "$work" speedscope@1.25.0 > /dev/null 2>&1 < /dev/null &&
        tar -xzf "$work"/speedscope-*.tgz -C "$work" --no-same-owner; then
        mv "$work/package" "$home"
    else
        say "speedscope cannot be fetched with npm: tests of --format speedscope will be skipped"
    fi
    rm -rf "$work"
}

check_machine
# One at a time: two callers in one checkout would install over each other.
exec 9< "${BASH_SOURCE[0]}"
flock 9
install_packages
install_optional_packages
check_python
install_project
fetch_speedscope
