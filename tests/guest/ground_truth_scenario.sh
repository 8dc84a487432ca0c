#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Runs kleaktrace in the guest on drivers whose truth is known; one boot for all, since each start is slow there.
#
#   ground_truth_scenario.sh OUT KMEMLEAK_TEST.KO LAB.KO
#
# Leaves in OUT, for each STEP: STEP.json, STEP.txt (what was printed), STEP.status, and the lab's own account.
. tests/guest/warm_kleaktrace.sh
out=$1 sample=$2 lab_ko=$3
lab=/sys/kernel/debug/kleaktrace_lab

step() {
	name=$1
	shift
	"$kleaktrace" "$@" > "$out/$name.txt" 2>&1
	echo $? > "$out/$name.status"
}

cat > /tmp/leak.sh <<'X'
lab=/sys/kernel/debug/kleaktrace_lab
for case in leak_kzalloc_1520 leak_vmalloc_5k leak_caller_forgets_8 leak_hardirq_129 freed_at_once reuse referenced \
	unload_forgets; do
	echo $case > $lab/do || exit 9
done
X

# The kernel's own sample: loads, leaks and goes; its stacks must still be named.
step sample run --json "$out/sample.json" -- sh -c "insmod $sample; sleep 1; rmmod kmemleak-test"
grep -c '^unreferenced' /sys/kernel/debug/kmemleak > "$out/sample.listed"
grep -c 'kmemleak_test' /sys/kernel/debug/kmemleak > "$out/sample.kernel_names"

# The lab stays loaded: what it keeps on a list is no leak, what it frees late is none either.
step lab run --json "$out/lab.json" -- sh -c "insmod $lab_ko late_ms=3000 && sh /tmp/leak.sh && echo freed_late > $lab/do"
cat $lab/objects > "$out/lab.objects"
cat $lab/cases > "$out/lab.cases"

# It goes with objects alive; nothing that leaked before this run may count as this run's.
step unload run --json "$out/unload.json" -- sh -c "rmmod kleaktrace_lab; insmod $lab_ko && sh /tmp/leak.sh; \
	cat $lab/objects > $out/unload.objects; sleep 1; rmmod kleaktrace_lab"

# Nothing of its own: clean, though kmemleak lists plenty from before.
step clean run --json "$out/clean.json" -- true

# Without kmemleak, unloading alone tells.
step alone run --no-kmemleak --json "$out/alone.json" -- sh -c "insmod $lab_ko && sh /tmp/leak.sh; rmmod kleaktrace_lab"

# Objects listed now, some of which are freed while we watch, and others never.
insmod "$lab_ko"
for late in 25 30 35 40 45 50 55 60 65 70 75 80; do
	echo ${late}000 > /sys/module/kleaktrace_lab/parameters/late_ms
	echo freed_late > $lab/do
done
echo scan > /sys/kernel/debug/kmemleak
sleep 6
echo scan > /sys/kernel/debug/kmemleak
step confirm confirm --json "$out/confirm.json"
cat $lab/objects > "$out/confirm.objects"

# Only what passes through the module.
(while sleep 4; do echo leak_kzalloc_1520 > $lab/do; echo leak_hardirq_129 > $lab/do; done) &
step module trace --module kleaktrace_lab --duration 15 --json "$out/module.json"
kill $!

step doctor doctor --json

# kmemleak goes off in the middle: what was not scanned is not clean.
step off run --json "$out/off.json" -- sh -c 'echo off > /sys/kernel/debug/kmemleak'
