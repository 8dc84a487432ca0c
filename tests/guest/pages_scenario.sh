#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# pages_scenario.sh KLEAKTRACE LAB.KO PAGES.KO OUT: what --pages finds of the lab's pages, and of a module that only leaks
# them; the lab's books beside it.
set -e
kleaktrace=$1 lab_module=$2 pages_module=$3 out=$4
lab=/sys/kernel/debug/kleaktrace_lab
python3 -c 'import mmap; print(mmap.PAGESIZE)' > "$out/page_size"

# Runs all cases, and keeps the books; $1: where.
cases="insmod $lab_module init_leaks=0
for name in \$(cut -f1 $lab/page_cases); do echo \$name > $lab/do; done
cp $lab/objects $out/\$0.objects; cp $lab/page_cases $out/page_cases"

# Leaks are what they should be with these statuses, too: the test looks at the documents.
run() { "$kleaktrace" run --pages --no-kmemleak "$@" || echo "status $?"; }

run --json "$out/loaded.json" -- sh -c "$cases" loaded
rmmod kleaktrace_lab
run --json "$out/unloaded.json" --capture "$out/unloaded" -- sh -c "$cases; rmmod kleaktrace_lab" unloaded
"$kleaktrace" report --json "$out/again.json" "$out/unloaded" > "$out/again.txt" || echo "status $?"
run --json "$out/still_loaded.json" -- insmod "$pages_module" count=5000 > "$out/still_loaded.txt"
rmmod pages

insmod "$lab_module" init_leaks=0
run --json "$out/repeated.json" --repeat 8 -- sh -c \
    "for name in leak_pages leak_bulk_pages freed_split_pages freed_dma_buffer; do echo \$name > $lab/do; done"
