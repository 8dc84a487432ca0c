#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Repeats in the guest what leaks though something points to it, and what only looks so; one boot for all.
#
#   repetition_scenario.sh OUT LAB.KO
#
# Leaves in OUT, for each STEP: STEP.json, STEP.txt (what was printed), STEP.status.
. tests/guest/warm_kleaktrace.sh
out=$1 lab_ko=$2
export LAB=/sys/kernel/debug/kleaktrace_lab

step() {
	name=$1
	shift
	"$kleaktrace" run --no-kmemleak --json "$out/$name.json" "$@" > "$out/$name.txt" 2>&1
	echo $? > "$out/$name.status"
}

# Modules come and go: one leaks by core code on its behalf each time, the other does not.
step loads -- sh -c "for i in 1 2 3 4 5 6 7; do
	insmod $lab_ko init_leaks=0; echo unload_kobject > $LAB/do; rmmod kleaktrace_lab; done"
step innocent_loads --repeat 7 -- sh -c "insmod $lab_ko init_leaks=0; echo freed_at_once > $LAB/do; rmmod kleaktrace_lab"
step single_load -- sh -c "insmod $lab_ko init_leaks=0; echo unload_workqueue > $LAB/do; rmmod kleaktrace_lab"

insmod "$lab_ko"
# What is still referenced, and the module still loaded; beside what is freed each time.
step referenced --repeat 12 -- sh -c 'echo freed_at_once > $LAB/do; echo referenced > $LAB/do'
step marks -- sh -c 'for i in 1 2 3 4 5 6 7 8; do
	$kleaktrace mark probe; echo referenced > $LAB/do; done'
# A driver's list of devices grows, slowly and at once; what warms up, and inodes of sysfs, stop by themselves.
step growth -- sh -c '$kleaktrace mark slowly
	for i in $(seq 60); do echo device_on_list > $LAB/do; sleep 0.1; done
	$kleaktrace mark between; sleep 1
	$kleaktrace mark at-once
	for i in $(seq 40); do echo list_grows > $LAB/do; done
	$kleaktrace mark warm-up
	echo "churn 100" > $LAB/do; echo "warm_up 400" > $LAB/do; sleep 16
	echo "warm_up 0" > $LAB/do; echo "churn 0" > $LAB/do
	$kleaktrace mark sysfs
	find /sys/devices /sys/module -type f -perm -400 | head -3000 | xargs cat > /dev/null 2>&1; true'
# All at once, and then nothing more is done: nobody can say that it has levelled off.
step burst -- sh -c 'for i in $(seq 40); do echo device_on_list > $LAB/do; done; sleep 8'
