#!/bin/sh
# shellcheck shell=dash
# What of OpenWrt's /etc/rc.common and /lib/functions/procd.sh the init script uses, and its log. procd is that service that $runs has the
# checksum of, of the file that it runs with, and says what becomes of it: `started`, `kept`, `ended`, `signal …`.

runs=''

start() {
	local opened='' watched=''
	# As there: whatever it returns, the instances that it opened are what is to run.
	start_service || :
	if [ -z "$opened" ]; then
		[ -z "$runs" ] || echo ended
		runs=''
	elif [ "$runs" = "$(cksum <"$watched")" ]; then
		echo kept
	else
		runs=$(cksum <"$watched")
		echo started
	fi
}

reload() {
	if type reload_service >/dev/null; then reload_service || :; else start; fi
}

procd_open_instance() {
	opened=1
}

procd_set_param() {
	[ "$1" != file ] || watched=$2
}

procd_close_instance() {
	:
}

procd_running() {
	[ -n "$runs" ]
}

procd_send_signal() {
	echo "signal $3"
}

logger() {
	shift 4
	echo "log: $*"
}

# There is no user `posthouse` here.
chown() {
	:
}
