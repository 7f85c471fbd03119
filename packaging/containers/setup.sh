#!/bin/sh
# Prepares the testbed's volumes: keys, the fleet, configurations, certificates, and the contracts on the chain. Then the
# programs only run. Done once: a second run ends at once.
#
# The vendor's volume is where the vendor's program has it, the others are under /testbed, by the names of their services. Each
# is mounted for its program as its state and as /etc/posthouse.
set -eu

root=/testbed
vendor=/var/lib/posthouse-vendor
examples=/usr/share/posthouse/mosquitto
rpc=http://chain:8545
beacon=http://chain:5052
vendor_id=9b2e7a54-6d1f-5c3e-8a90-1f4b7c2d6e01
class_id=41c8d0f2-7e35-5b9a-a6d4-3c0e9f182b76
# Of each site; the first half of them speaks MQTT, the others CoAP.
sensors=10

# Accounts that every development chain funds (the mnemonic `test test … junk`): they own nothing anywhere else.
vendor_account=ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80
distributor_1_account=59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d
distributor_2_account=5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a

# value NAME: of a line `NAME: value`, or of a JSON object with strings, on standard input.
value() {
    sed -n "s/^$1: \(.*\)/\1/p; s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"
}

# secret FILE TEXT
secret() {
    (umask 077 && printf '%s\n' "$2" >"$1")
}

as_vendor() {
    posthouse-vendor --config "$vendor/vendor.toml" "$@"
}

make_vendor() {
    mkdir -p "$vendor/keys"
    secret "$vendor/keys/ethereum.key" "$vendor_account"
    cat >"$vendor/vendor.toml" <<END
state_dir = "$vendor/state"
[product]
vendor_id = "$vendor_id"
class_id = "$class_id"
curve = "p256"
[keys]
ethereum = "$vendor/keys/ethereum.key"
release = "$vendor/keys/release.key"
peer = "$vendor/keys/peer.key"
[chain]
id = 31337
rpc = ["$rpc"]
poll_ms = 200
[dsn]
listen = ["/ip4/0.0.0.0/tcp/4101"]
external = ["/dns4/vendor/tcp/4101"]
fleet = "testbed"
[publish]
share = "0.01 ether"
END
    keys=$(as_vendor keygen)
    address=$(echo "$keys" | value ethereum_address)
    release_key=$(echo "$keys" | value release_key)
    seeder=/dns4/vendor/tcp/4101/p2p/$(echo "$keys" | value peer_id)
    as_vendor deploy --with-deployer --yes
    as_vendor setup
    # Real machine code.
    head -c 262144 /usr/bin/posthouse-vendor >"$vendor/firmware.bin"
}

# light_client FOLDER: what is believed of the chain, a block that is final now.
light_client() {
    cp "$root/chain/network.yaml" "$1/"
    printf 'id = 31337\nnetwork = "/etc/posthouse/network.yaml"\nbeacon = ["%s"]\n%s\nrpc = ["%s"]\npoll_ms = 500\n' "$beacon" "$checkpoint" "$rpc"
}

# make_distributor NUMBER ACCOUNT: leaves its address in `seller`.
make_distributor() {
    folder=$root/distributor-$1 home=/var/lib/posthouse-distributor
    mkdir -p "$folder/keys"
    secret "$folder/keys/ethereum.key" "$2"
    cat >"$folder/distributor.toml" <<END
state_dir = "$home/state"
[keys]
ethereum = "$home/keys/ethereum.key"
peer = "$home/keys/peer.key"
[chain]
$(light_client "$folder")
[dsn]
listen = ["/ip4/0.0.0.0/tcp/4102"]
external = ["/dns4/distributor-$1/tcp/4102"]
bootstrap = ["$seeder"]
fleet = "testbed"
[sale]
window = "20s"
[[vendors]]
address = "$address"
release_key = "$release_key"
products = [{ vendor_id = "$vendor_id", class_id = "$class_id" }]
peers = ["$seeder"]
END
    # The volume is elsewhere here than where the distributor has it.
    keys=$(POSTHOUSE_KEYS__ETHEREUM=$folder/keys/ethereum.key POSTHOUSE_KEYS__PEER=$folder/keys/peer.key \
        POSTHOUSE_CHAIN__NETWORK=$folder/network.yaml posthouse-distributor --config "$folder/distributor.toml" keygen)
    seller=/dns4/distributor-$1/tcp/4102/p2p/$(echo "$keys" | value peer_id)
}

# make_site NUMBER: broker, gateway and sensors, each with what is its own.
make_site() {
    gateway=$root/gateway-$1 broker=$root/broker-$1 certificates=/tmp/site-$1
    sh "$examples/certificates.sh" "$certificates" broker "broker-$1"
    sh "$examples/certificates.sh" "$certificates" client posthouse
    cp "$certificates/ca.crt" "$certificates/broker.crt" "$certificates/broker.key" "$examples/acl" "$broker/"
    cp "$certificates/ca.crt" "$certificates/posthouse.crt" "$certificates/posthouse.key" "$gateway/"
    cat >"$gateway/posthouse.toml" <<END
state_dir = "/var/lib/posthouse/state"
[chain]
$(light_client "$gateway")
[[products]]
vendor = "$address"
vendor_id = "$vendor_id"
class_id = "$class_id"
release_key = "$release_key"
[dsn]
fleet = "testbed"
bootstrap = ["$seeder"]
distributors = ["$seller_1", "$seller_2"]
[sensors]
retry_after_secs = 1
[sensors.mqtt]
host = "broker-$1"
port = 8883
tls_ca = "/etc/posthouse/ca.crt"
tls_cert = "/etc/posthouse/posthouse.crt"
tls_key = "/etc/posthouse/posthouse.key"
authenticated = true
[sensors.coap.dtls]
listen = "0.0.0.0:5684"
keys = "/etc/posthouse/coap-keys"
[status]
listen = "0.0.0.0:8580"
END
    secret "$gateway/coap-keys" "# identity device key"
    number=1
    while [ "$number" -le "$sensors" ]; do
        make_sensor "$1" "$number"
        number=$((number + 1))
    done
}

# make_sensor SITE NUMBER: a key that goes into the fleet, and the way to its gateway.
make_sensor() {
    folder=$root/sensors-$1/$2
    home=/var/lib/posthouse-sensor/$2
    mkdir "$folder"
    made=$(posthouse-sensor-sim keygen --curve p256 --out "$folder/device.key")
    device=$(echo "$made" | value device)
    echo "$made" | value key >>"$vendor/devices.txt"
    cat >"$root/sensors-$1/$2.toml" <<END
key_file = "$home/device.key"
curve = "p256"
release_key = "$release_key"
vendor_id = "$vendor_id"
class_id = "$class_id"
state_dir = "$home/state"
slot_file = "$home/flash"
slot_size = 1048576
wake_ms = $((1000 + 100 * $2))
awake_ms = 500
END
    if [ "$2" -le $((sensors / 2)) ]; then
        sh "$examples/certificates.sh" "/tmp/site-$1" client "$device"
        cp "/tmp/site-$1/ca.crt" "/tmp/site-$1/$device.crt" "/tmp/site-$1/$device.key" "$folder/"
        cat <<END
carrier = "mqtt"
gateway = "broker-$1:8883"
mqtt_tls_ca = "$home/ca.crt"
mqtt_tls_cert = "$home/$device.crt"
mqtt_tls_key = "$home/$device.key"
END
    else
        psk=$(openssl rand -hex 32)
        secret "$folder/psk" "$psk"
        echo "$device $device $psk" >>"$root/gateway-$1/coap-keys"
        cat <<END
carrier = "coap"
gateway = "gateway-$1:5684"
coap_psk_identity = "$device"
coap_psk_key_file = "$home/psk"
END
    fi >>"$root/sensors-$1/$2.toml"
}

if [ -e "$vendor/ready" ]; then
    exit
fi
# Left from a run that failed: begin anew.
rm -rf "${vendor:?}"/* "$root"/distributor-*/* "$root"/gateway-*/* "$root"/broker-*/* "$root"/sensors-*/* /tmp/site-*

# The chain writes this when it answers.
tries=0
until [ -e "$root/chain/network.yaml" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 60 ] || { echo "no chain has come up" >&2; exit 1; }
    sleep 1
done
# A chain that has just begun has nothing final yet.
until checkpoint=$(posthouse chain checkpoint --beacon "$beacon" 2>/tmp/why | grep '^checkpoint'); do
    tries=$((tries + 1))
    [ "$tries" -le 60 ] || { cat /tmp/why >&2; exit 1; }
    sleep 1
done

make_vendor
make_distributor 1 "$distributor_1_account"
seller_1=$seller
make_distributor 2 "$distributor_2_account"
seller_2=$seller
make_site 1
make_site 2
as_vendor enrol "$vendor/devices.txt"
echo "$address" >"$vendor/ready"
