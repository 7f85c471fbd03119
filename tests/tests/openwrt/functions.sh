#!/bin/sh
# What of OpenWrt's /lib/functions.sh the init script uses to read its configuration, over one file in UCI's format ($UCI). OpenWrt's own
# asks its program uci, which cannot be installed here.

config_load() {
	section='' number=0 SECTIONS=''
	while read -r line; do
		case $line in '#'* | '') continue ;; esac
		eval "set -- $line"
		case $1 in
		config)
			number=$((number + 1))
			section=${3:-cfg$number}
			SECTIONS="$SECTIONS $section"
			eval "OPTION_${section}_TYPE=\$2"
			;;
		option) eval "OPTION_${section}_$2=\$3" ;;
		list) eval "LIST_${section}_$2=\"\${LIST_${section}_$2-}\$3
\"" ;;
		esac
	done <"$UCI"
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
	values=''
	eval "values=\"\${LIST_${1}_$2-}\""
	printf '%s' "$values" | while read -r value; do "$3" "$value"; done
}

# function type
config_foreach() {
	type=''
	for section in $SECTIONS; do
		config_get type "$section" TYPE
		[ "$type" != "$2" ] || "$1" "$section"
	done
}
