#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Captures in the guest, to be compared: the same innocent load each time, with and without leaks; one boot for all.
#
#   diff_scenario.sh OUT LAB.KO LEAK...
#
# Leaves in OUT: before and again, with no leak, and for each LEAK a capture of that name; of each NAME NAME.txt and
# NAME.status.
out=$1 lab_ko=$2
shift 2
export LAB=/sys/kernel/debug/kleaktrace_lab

step() {
	name=$1 LEAK=$2
	export LEAK
	.venv/bin/kleaktrace run --capture "$out/$name" -- sh -c '
		for case in freed_at_once referenced reuse freed_vmalloc $LEAK; do
			echo $case > $LAB/do || exit 9
		done' > "$out/$name.txt" 2>&1
	echo $? > "$out/$name.status"
}

insmod "$lab_ko" init_leaks=0
step before
step again
for leak in "$@"; do
	step "$leak" "$leak"
done
