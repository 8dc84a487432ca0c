#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Lets the allocations of a driver fail, one after the other, in the guest; one boot for all.
#
#   inject_scenario.sh OUT INJECT_PATHS.KO
#
# Leaves in OUT, for each STEP: STEP.json, STEP.txt (what was printed), STEP.status.
. tests/guest/warm_kleaktrace.sh
out=$1 ko=$2
# The guest is to outlive what a driver does wrong.
echo 0 > /proc/sys/kernel/panic_on_oops

step() {
	name=$1
	shift
	"$kleaktrace" inject --json "$out/$name.json" "$@" > "$out/$name.txt" 2>&1
	echo $? > "$out/$name.status"
}

"$kleaktrace" doctor --json > "$out/doctor.json"
step walk --log "$out/walk.log" --module inject_paths -- sh -c "insmod $ko && rmmod inject_paths"
step inside --no-kmemleak --in alloc_table -- sh -c "insmod $ko && rmmod inject_paths"
step fails --module inject_paths -- sh -c "exit 3"
step wait --no-kmemleak --in alloc_map --timeout 5 -- sh -c "insmod $ko bad=wait && rmmod inject_paths"
step oops --no-kmemleak --in alloc_map --timeout 5 --resume "$out/walk" -- \
	sh -c "insmod $ko bad=oops && rmmod inject_paths"
