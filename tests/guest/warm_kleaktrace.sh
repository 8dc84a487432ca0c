# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
# Read by scenarios that run kleaktrace more than once: $kleaktrace ARG… does what .venv/bin/kleaktrace ARG… does, but
# in a process that has imported it already. That takes ten seconds of an emulated processor each time.
warm=/tmp/warm
mkdir $warm
mkfifo $warm/requests
# If it ends, whoever asks is told, and does not wait for ever. Its output would keep the guest waiting.
{
	.venv/bin/python tests/guest/warm_kleaktrace.py $warm
	echo "warm_kleaktrace.py has ended with $?"
	while read -r client < $warm/requests; do echo 97 > "$warm/$client"; done
} > $warm/log 2>&1 &
cat > $warm/kleaktrace <<'X'
#!/bin/sh
mkfifo /tmp/warm/$$
printf '%s\0' "$@" > /tmp/warm/$$.arguments
echo $$ > /tmp/warm/requests
read -r status < /tmp/warm/$$
[ "$status" != 97 ] || cat /tmp/warm/log >&2
exit "$status"
X
chmod +x $warm/kleaktrace
export kleaktrace=$warm/kleaktrace
