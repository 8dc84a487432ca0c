#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Loads the driver, writes ten notes, and unloads it.
set -e
cd "$(dirname "$0")"

insmod ./notepad.ko
trap 'rmmod notepad' EXIT
for number in 1 2 3 4 5 6 7 8 9 10; do
    printf 'note %s' "$number" > /dev/notepad
done
