#!/bin/sh
# Certificates for a site's broker: an authority of its own, and what it signs. P-256, ten years.
#
#   certificates.sh FOLDER broker NAME...   the authority, where there is none yet, and the broker's certificate,
#                                           for the host names and IP addresses under which it is reached
#   certificates.sh FOLDER client NAME...   one for each user: "posthouse" for the gateway, a device id for a sensor
#
# FOLDER then holds ca.crt, and NAME.crt with NAME.key for each. Keep ca.key off the broker: whoever has it is everybody.
set -eu

days=3650

usage() {
    sed -n '3,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

key() {
    (umask 077 && openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1")
}

authority() {
    [ -e ca.key ] && return
    key ca.key
    openssl req -x509 -new -sha256 -key ca.key -days "$days" -subj "/CN=Posthouse site" -out ca.crt \
        -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign
}

# sign FILE COMMON-NAME EXTENSIONS
sign() {
    key "$1.key"
    printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n%s\n' "$3" >"$1.ext"
    openssl req -new -sha256 -key "$1.key" -subj "/CN=$2" -out "$1.csr"
    openssl x509 -req -sha256 -in "$1.csr" -CA ca.crt -CAkey ca.key -days "$days" -extfile "$1.ext" \
        -set_serial "0x$(openssl rand -hex 16)" -out "$1.crt" 2>/dev/null
    rm "$1.ext" "$1.csr"
}

[ $# -ge 3 ] || usage
folder=$1 kind=$2
shift 2
mkdir -p "$folder"
cd "$folder"
case $kind in
broker)
    authority
    names=
    for name; do
        case $name in
        *:*) names=$names,IP:$name ;;
        *[!0-9.]*) names=$names,DNS:$name ;;
        *) names=$names,IP:$name ;;
        esac
    done
    sign broker "$1" "extendedKeyUsage=serverAuth
subjectAltName=${names#,}"
    ;;
client)
    [ -e ca.key ] || { echo "no ca.key in $folder: make the broker's first" >&2; exit 1; }
    for name; do
        case $name in
        '' | *[!0-9a-z_-]*) echo "not a name in lower case: $name" >&2; exit 1 ;;
        esac
        [ ! -e "$name.crt" ] || { echo "$name has a certificate already" >&2; exit 1; }
        sign "$name" "$name" extendedKeyUsage=clientAuth
    done
    ;;
*) usage ;;
esac
