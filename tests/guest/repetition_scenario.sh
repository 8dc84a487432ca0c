#!/bin/sh
# Repeats in the guest what leaks though something points to it, and what only looks so; one boot for all.
#
#   repetition_scenario.sh OUT LAB.KO
#
# Leaves in OUT, for each STEP: STEP.json, STEP.txt (what was printed), STEP.status.
out=$1 lab_ko=$2
export LAB=/sys/kernel/debug/kleaktrace_lab

step() {
	name=$1
	shift
	.venv/bin/kleaktrace run --no-kmemleak --json "$out/$name.json" "$@" > "$out/$name.txt" 2>&1
	echo $? > "$out/$name.status"
}

# Modules come and go: one leaks by core code on its behalf each time, the other does not.
step loads -- sh -c "for i in 1 2 3 4 5 6 7; do
	insmod $lab_ko init_leaks=0; echo unload_kobject > $LAB/do; rmmod kleaktrace_lab; done"
step innocent_loads --repeat 7 -- sh -c "insmod $lab_ko init_leaks=0; echo freed_at_once > $LAB/do; rmmod kleaktrace_lab"
step single_load -- sh -c "insmod $lab_ko init_leaks=0; echo unload_workqueue > $LAB/do; rmmod kleaktrace_lab"

insmod "$lab_ko"
# What is still referenced, and the module still loaded.
step referenced --repeat 12 -- sh -c 'echo referenced > $LAB/do'
step freed --repeat 12 -- sh -c 'echo freed_at_once > $LAB/do'
step marks -- sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11; do
	.venv/bin/kleaktrace mark probe; echo referenced > $LAB/do; done'
# A driver's list of devices grows, slowly and at once; and once it is over, time passes.
step devices -- sh -c 'for i in $(seq 60); do echo device_on_list > $LAB/do; sleep 0.1; done'
step burst -- sh -c 'for i in $(seq 40); do echo device_on_list > $LAB/do; done'
# What warms up, and inodes of sysfs, stop by themselves.
step warm_up -- sh -c 'echo "warm_up 400" > $LAB/do; sleep 12; echo "warm_up 0" > $LAB/do'
step sysfs -- sh -c 'find /sys/devices /sys/module -type f -perm -400 | head -3000 | xargs cat > /dev/null 2>&1; true'
# An end to what would go on.
step timeout --timeout 3 -- sh -c 'sleep 1000 & sleep 1000'
# Those that have ended, and nobody waits for, have no command line any more.
for pid in $(pgrep -x sleep); do
	tr '\0' ' ' < /proc/$pid/cmdline
done | grep 'sleep 1000' > "$out/left_running"
exit 0
