"""A sensor on paho-mqtt and cbor2: says hello, waits for its manifest, and fetches the image that is named there.

    fetch.py PORT TLS DEVICE HELLO SIZE OUT VERSION

TLS is a folder of certificates, HELLO a message in hex, VERSION that of MQTT: 311 or 5.
"""

import sys

import cbor2
import paho.mqtt.client as mqtt

BLOCK, WINDOW = 1024, 64


class Sensor:
    def __init__(self, device, hello, size):
        self.topic = f"ph/1/{device}/"
        self.hello = hello
        self.image = bytearray(size)
        self.u_id = None
        self.next = 0
        self.trouble = None

    def connected(self, client, _userdata, _flags, reason, _properties):
        if reason.is_failure:
            return self.stop(client, f"connection: {reason}")
        client.subscribe([(self.topic + "manifest", 1), (self.topic + "error", 1), (self.topic + "block", 0)])

    def subscribed(self, client, _userdata, _mid, reasons, _properties):
        if any(reason.is_failure for reason in reasons):
            return self.stop(client, f"subscription: {reasons}")
        client.publish(self.topic + "hello", self.hello, qos=1, retain=True)

    def heard(self, client, _userdata, message):
        name = message.topic.removeprefix(self.topic)
        if name == "manifest" and message.payload and self.u_id is None:
            self.u_id = digest(message.payload)
            self.ask(client)
        elif name == "block":
            self.take(client, cbor2.loads(message.payload))
        elif name == "error":
            self.stop(client, cbor2.loads(message.payload))

    def ask(self, client):
        request = {0: self.u_id, 1: self.next, 2: BLOCK, 3: WINDOW}
        client.publish(self.topic + "get", cbor2.dumps(request))

    def take(self, client, block):
        if block[0] != self.u_id or block[1] != self.next:
            return self.stop(client, f"not the block at {self.next}: {block}")
        end = self.next + len(block[2])
        self.image[self.next : end] = block[2]
        self.next = end
        if end >= len(self.image):
            client.disconnect()
        elif end % (BLOCK * WINDOW) == 0:
            self.ask(client)

    def stop(self, client, trouble):
        self.trouble = trouble
        client.disconnect()


def digest(envelope):
    """The image's, from the common sequence of a SUIT manifest."""
    manifest = cbor2.loads(cbor2.loads(envelope).value[3])
    commands = cbor2.loads(cbor2.loads(manifest[3])[4])
    parameters = commands[commands.index(20) + 1]
    return cbor2.loads(parameters[3])[1]


def main(port, tls, device, hello, size, out, version):
    sensor = Sensor(device, bytes.fromhex(hello), int(size))
    protocol = {"311": mqtt.MQTTv311, "5": mqtt.MQTTv5}[version]
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=device, protocol=protocol)
    client.tls_set(f"{tls}/ca.crt", f"{tls}/{device}.crt", f"{tls}/{device}.key")
    client.on_connect, client.on_subscribe, client.on_message = sensor.connected, sensor.subscribed, sensor.heard
    client.connect("127.0.0.1", int(port))
    client.loop_forever(retry_first_connection=False)
    if sensor.trouble:
        sys.exit(str(sensor.trouble))
    with open(out, "wb") as file:
        file.write(sensor.image)


main(*sys.argv[1:])
