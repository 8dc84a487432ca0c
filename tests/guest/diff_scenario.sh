#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Captures in the guest, to be compared: a driver comes, does the same innocent things each time, and goes; with and
# without a leak. One boot for all.
#
#   diff_scenario.sh OUT LAB.KO LEAK...
#
# Leaves in OUT: the captures before and again, without a leak, and for each LEAK one of that name; of each of them
# NAME.txt and NAME.status.
. tests/guest/warm_kleaktrace.sh
out=$1
export LAB_KO=$2 LAB=/sys/kernel/debug/kleaktrace_lab
shift 2

step() {
	name=$1
	export LEAK=$2
	# That the module has gone convicts; kmemleak would take half a minute each time.
	"$kleaktrace" run --no-kmemleak --capture "$out/$name" -- sh -c '
		insmod $LAB_KO init_leaks=0
		for case in freed_at_once referenced reuse freed_vmalloc freed_percpu $LEAK; do
			echo $case > $LAB/do || exit 9
		done
		rmmod kleaktrace_lab' > "$out/$name.txt" 2>&1
	echo $? > "$out/$name.status"
}

step before
step again
for leak in "$@"; do
	step "$leak" "$leak"
done
