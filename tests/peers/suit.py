"""SUIT envelopes by other people's code: cbor2 for the structure, pycose for the signature.

    suit.py read  ENVELOPE KEY                              verifies, and prints the fields as JSON
    suit.py write SCALAR SEQUENCE VENDOR CLASS DIGEST SIZE  prints an envelope

Bytes are hex; KEY is an uncompressed P-256 point without its first byte, SCALAR a private key. The numbers are those of
draft-ietf-suit-manifest-34.
"""

import hashlib
import json
import sys

import cbor2
from pycose.algorithms import Es256
from pycose.headers import Algorithm
from pycose.keys import EC2Key
from pycose.keys.curves import P256
from pycose.messages import Sign1Message

SHA_256 = -16


def wrapped(value):
    return cbor2.dumps(value)


def digest_of(manifest):
    """Over the manifest with the head of its byte string."""
    return [SHA_256, hashlib.sha256(cbor2.dumps(manifest)).digest()]


def commands(sequence):
    """[command, argument, ...] as pairs."""
    items = cbor2.loads(sequence)
    return list(zip(items[::2], items[1::2]))


def read(envelope, key):
    tag = cbor2.loads(envelope)
    assert tag.tag == 107, tag
    authentication, manifest = cbor2.loads(tag.value[2]), tag.value[3]
    payload, block = authentication
    assert cbor2.loads(payload) == digest_of(manifest), "another manifest's digest"
    message = Sign1Message.decode(block)
    assert message.phdr == {Algorithm: Es256}, message.phdr
    message.key = EC2Key(crv=P256, x=key[:32], y=key[32:])
    assert message.verify_signature(detached_payload=payload), "signature"

    body = cbor2.loads(manifest)
    assert body[1] == 1
    common = cbor2.loads(body[3])
    shared = commands(common[4])
    parameters = next(argument for command, argument in shared if command == 20)
    assert [command for command, _ in shared] == [20, 1, 2], "vendor and class are checked"
    install = commands(body[20])
    assert [command for command, _ in install] == [20, 21, 3], "fetched, then checked"
    assert [command for command, _ in commands(body[7])] == [3]
    assert [command for command, _ in commands(body[9])] == [23]
    algorithm, image = cbor2.loads(parameters[3])
    assert algorithm == SHA_256
    return {
        "sequence": body[2],
        "vendor": parameters[1].hex(),
        "class": parameters[2].hex(),
        "digest": image.hex(),
        "size": parameters[14],
        "uri": install[0][1][21],
        "components": [[part.hex() for part in component] for component in common[2]],
    }


def write(scalar, sequence, vendor, class_id, digest, size):
    shared = [
        20, {1: vendor, 2: class_id, 3: wrapped([SHA_256, digest]), 14: size},
        1, 15,
        2, 15,
    ]
    install = [20, {21: "image/" + digest.hex()}, 21, 2, 3, 15]
    manifest = wrapped({
        1: 1,
        2: sequence,
        3: wrapped({2: [[b"\0"]], 4: wrapped(shared)}),
        7: wrapped([3, 15]),
        9: wrapped([23, 2]),
        20: wrapped(install),
    })
    payload = wrapped(digest_of(manifest))
    message = Sign1Message(phdr={Algorithm: Es256}, payload=None)
    message.key = EC2Key(crv=P256, d=scalar)
    block = message.encode(detached_payload=payload)
    return wrapped(cbor2.CBORTag(107, {2: wrapped([payload, block]), 3: manifest}))


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "read":
        print(json.dumps(read(*map(bytes.fromhex, rest))))
    elif what == "write":
        scalar, sequence, vendor, class_id, digest, size = rest
        fields = map(bytes.fromhex, (vendor, class_id, digest))
        print(write(bytes.fromhex(scalar), int(sequence), *fields, int(size)).hex())
    else:
        sys.exit(__doc__)
