#!/bin/bash
# One round: loads each module, uses what it brings a little, and unloads it.
#
#   round.sh FAILED MODULE…
#
# Appends `MODULE REASON` to FAILED for what did not come or go.
failed=$1
shift

devices() { ls /sys/class/net /sys/block /dev 2> /dev/null; }

# What is there now and was not before: a network device goes up and down, a block device is read, others are opened.
use() {
	local name
	for name in $(comm -13 <(sort <<< "$1") <(devices | sort)); do
		if [[ -e /sys/class/net/$name ]]; then
			timeout 5 ip link set "$name" up
			timeout 5 ip link set "$name" down
		elif [[ -b /dev/$name ]]; then
			timeout 5 dd if="/dev/$name" of=/dev/null bs=4k count=4
		elif [[ -c /dev/$name && $name != *watchdog* ]]; then
			timeout 2 dd if="/dev/$name" of=/dev/null bs=64 count=1 iflag=nonblock
		fi
	done > /dev/null 2>&1
}

# A file system is mounted from an empty file, in vain for most: that is how error paths are used.
mount_it() {
	local type=$1 image=/tmp/crowd-image
	[[ -e $image ]] || truncate -s 4M $image
	if grep -qw "$type" /proc/filesystems; then
		mkdir -p /tmp/crowd-mount
		timeout 10 mount -t "$type" -o loop $image /tmp/crowd-mount && umount /tmp/crowd-mount
		timeout 10 mount -t "$type" none /tmp/crowd-mount && umount /tmp/crowd-mount
	fi > /dev/null 2>&1
}

for module in "$@"; do
	before=$(devices)
	if ! timeout 60 modprobe "$module" 2> /tmp/crowd-said; then
		echo "$module does not load: $(tail -n 1 /tmp/crowd-said)" >> "$failed"
		continue
	fi
	use "$before"
	mount_it "${module%_fs}"
	for parameter in /sys/module/"${module//-/_}"/parameters/*; do
		timeout 2 cat "$parameter" > /dev/null 2>&1
	done
	timeout 60 modprobe -r "$module" 2> /tmp/crowd-said ||
		echo "$module does not unload: $(tail -n 1 /tmp/crowd-said)" >> "$failed"
done
