#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What a driver's author would test it with; it writes beside itself.
set -e
insmod ./leaky_driver.ko
for number in 1 2 3; do echo "$number" > /proc/leaky_driver; done
date > last-run
rmmod leaky_driver
