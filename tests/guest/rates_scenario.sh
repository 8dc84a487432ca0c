#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Leaks at set rates from four contexts at once, over work that only looks like growth, and looks at it in three ways.
#
#   rates_scenario.sh OUT LAB.KO
#
# Leaves in OUT: context.json, comm.json, trace.json, what was printed, the lab's account before and after, and slabinfo.
out=$1 lab_ko=$2 seconds=60
lab=/sys/kernel/debug/kleaktrace_lab

insmod "$lab_ko" sawtooth_top=300 || exit 9
for rate in "rate_task 50" "rate_kworker 30" "rate_timer 20" "rate_hardirq 40" "churn 500" "sawtooth 100"; do
	echo "$rate" > $lab/do || exit 9
done
cp $lab/rates "$out/before"

pids=
look() {
	name=$1
	shift
	.venv/bin/kleaktrace "$@" --duration $seconds --json "$out/$name.json" > "$out/$name.txt" 2>&1 &
	pids+=" $!"
}
tracing() {
	for pid in $pids; do
		until grep -qs link_type /proc/$pid/fdinfo/*; do
			kill -0 $pid || exit 8
			sleep 0.5
		done
	done
}
look comm rates --by comm
look trace trace
tracing
# Its first ten seconds are what this is about.
echo "warm_up 400" > $lab/do
# It looks at the machine's own counters, too, which the start of another one changes.
look context rates --by context
status=0
for pid in $pids; do
	wait $pid || status=7
done
cp $lab/rates "$out/after"
# How many bytes an object takes, in the kernel's own words: KASAN has it take more. SLUB_DEBUG brings it.
cp /proc/slabinfo "$out/slabinfo"
exit $status
