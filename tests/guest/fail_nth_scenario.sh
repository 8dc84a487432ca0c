#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Lets a task's allocations fail by their number, in a guest whose functions nobody may override.
#
#   fail_nth_scenario.sh OUT INJECT_PATHS.KO
#
# Leaves in OUT, for each STEP: STEP.json, STEP.txt (what was printed), STEP.status.
. tests/guest/warm_kleaktrace.sh
out=$1 ko=$2
mount --bind /dev/null /sys/kernel/debug/error_injection/list
"$kleaktrace" doctor --json > "$out/doctor.json"
insmod "$ko" idle=1
# What a shell is made of, in memory. A program's files are closed when it ends, and if 9p has no memory for telling the
# server, it forgets that the server still has them open: from then on other files can't be opened (net/9p/client.c,
# p9_client_clunk).
mkdir /tmp/shell
for file in /bin/sh /lib64/ld-linux-x86-64.so.2 /lib/x86_64-linux-gnu/libc.so.6 /etc/ld.so.cache; do
	file=$(readlink -f $file)
	cp "$file" /tmp/shell
	mount --bind "/tmp/shell/${file##*/}" "$file"
done
"$kleaktrace" inject --json "$out/nth.json" -- sh -c "echo 1 > /sys/module/inject_paths/parameters/again" > "$out/nth.txt" 2>&1
echo $? > "$out/nth.status"
