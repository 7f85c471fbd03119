#!/bin/sh
# shellcheck shell=dash
# What of OpenWrt's /lib/functions.sh the init script uses to read its configuration. As there, a file is a script of calls to `config`,
# `option` and `list`, in the shell that the init script is in; here it is $UCI itself, where OpenWrt asks its program uci, which
# cannot be installed here.

config() {
	NUMBER=$((NUMBER + 1))
	SECTION=${2:-cfg$NUMBER}
	SECTIONS="$SECTIONS $SECTION"
	eval "OPTION_${SECTION}_TYPE=\$1"
}

option() {
	eval "OPTION_${SECTION}_$1=\$2"
}

list() {
	eval "LIST_${SECTION}_$1=\"\${LIST_${SECTION}_$1-}\$2
\""
}

config_load() {
	local name
	for name in $(set | sed -n 's/^\(\(OPTION\|LIST\)_[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$name"; done
	NUMBER=0 SECTIONS=''
	sh -n "$UCI" 2>/dev/null || return 1
	eval "$(cat "$UCI")"
}

# variable section option [default]
config_get() {
	eval "$1=\"\${OPTION_${2}_$3:-\${4-}}\""
}

config_get_bool() {
	config_get "$1" "$2" "$3" "${4-}"
	eval "case \$$1 in 1 | on | true | yes | enabled) $1=1 ;; 0 | off | false | no | disabled) $1=0 ;; *) $1=${4-} ;; esac"
}

# section option function
config_list_foreach() {
	local values value
	eval "values=\"\${LIST_${1}_$2-}\""
	printf '%s' "$values" | while read -r value; do "$3" "$value"; done
}

# function type
config_foreach() {
	local section kind
	for section in $SECTIONS; do
		config_get kind "$section" TYPE
		[ "$kind" != "$2" ] || "$1" "$section"
	done
}
