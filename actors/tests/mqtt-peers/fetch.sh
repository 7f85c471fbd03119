#!/bin/sh
# A sensor made of mosquitto_pub, mosquitto_sub and xxd: says hello, waits for its manifest, and fetches the image that is
# named there. The messages are those of protocol/posthouse.cddl, in hex until they are sent.
#
#   fetch.sh PORT TLS DEVICE HELLO SIZE OUT     TLS is a folder of certificates, HELLO a message in hex
#
# It is two clients under one certificate, so the broker must let each have its own client id.
set -eu

port=$1 tls=$2 device=$3 hello=$4 size=$5 out=$6
block=1024 window=64
topic=ph/1/$device

# An unsigned integer in CBOR (RFC 8949 §3.1).
uint() {
    if [ "$1" -lt 24 ]; then
        printf %02x "$1"
    elif [ "$1" -lt 256 ]; then
        printf 18%02x "$1"
    elif [ "$1" -lt 65536 ]; then
        printf 19%04x "$1"
    else
        printf 1a%08x "$1"
    fi
}

# The head of a byte string, likewise.
bytes() {
    if [ "$1" -lt 24 ]; then
        printf %02x $((64 + $1))
    elif [ "$1" -lt 256 ]; then
        printf 58%02x "$1"
    else
        printf 59%04x "$1"
    fi
}

# become PROGRAM OPTION...: of a subshell, a client of the broker.
become() {
    program=$1
    shift
    exec "$program" -h 127.0.0.1 -p "$port" \
        --cafile "$tls/ca.crt" --cert "$tls/$device.crt" --key "$tls/$device.key" "$@"
}

# say NAME MESSAGE OPTION...
say() {
    name=$1 message=$2
    shift 2
    printf %s "$message" | xxd -r -p | become mosquitto_pub -t "$topic/$name" -s "$@"
}

# The next message: its topic's last level in $heard, its bytes in $message.
hear() {
    read -r heard message <&3 || { echo "nothing more came" >&2; exit 1; }
    heard=${heard##*/}
    [ "$heard" != error ] || { echo "refused: $message" >&2; exit 1; }
}

mkfifo "$out.heard"
become mosquitto_sub -t "$topic/block" -t "$topic/error" -t "$topic/manifest" -q 1 -W 240 -F '%t %x' >"$out.heard" &
listener=$!
trap 'kill $listener 2>/dev/null || true' EXIT
exec 3<"$out.heard"

# The manifest is retained: when it comes, the subscriptions that were asked for with it stand.
say hello "$hello" -q 1 -r
message=
while [ -z "$message" ]; do
    hear
done
u_id=$(printf %s "$message" | xxd -r -p | grep -ao 'image/[0-9a-f]\{64\}')
u_id=${u_id#image/}

offset=0
while [ "$offset" -lt "$size" ]; do
    say get "a4005820${u_id}01$(uint $offset)02$(uint $block)03$(uint $window)"
    end=$((offset + block * window))
    while [ "$offset" -lt "$size" ] && [ "$offset" -lt "$end" ]; do
        hear
        [ "$heard" = block ] || continue
        len=$((size - offset < block ? size - offset : block))
        head=a3005820${u_id}01$(uint $offset)02$(bytes $len)
        case $message in
        "$head"*) printf %s "${message#"$head"}" ;;
        *) echo "not the block at $offset: $message" >&2; exit 1 ;;
        esac
        offset=$((offset + len))
    done
done >"$out.hex"
xxd -r -p "$out.hex" "$out"
