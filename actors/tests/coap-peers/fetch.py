"""Fetches `coap://host:port/path` with blocks of the given size into a file: python fetch.py URL SIZE FILE

With a fourth argument it observes instead, and prints each representation on a line of its own, in hex.
"""

import asyncio
import sys

from aiocoap import GET, Context, Message
from aiocoap.optiontypes import BlockOption


async def main(url, size, file, count=None):
    context = await Context.create_client_context()
    try:
        if count is None:
            request = Message(code=GET, uri=url)
            exponent = int(size).bit_length() - 5
            request.opt.block2 = BlockOption.BlockwiseTuple(0, False, exponent)
            response = await context.request(request).response_raising
            with open(file, "wb") as out:
                out.write(response.payload)
            return
        observed = context.request(Message(code=GET, uri=url, observe=0))
        print((await observed.response_raising).payload.hex(), flush=True)
        left = int(count) - 1
        if left:
            async for response in observed.observation:
                print(response.payload.hex(), flush=True)
                left -= 1
                if not left:
                    break
        observed.observation.cancel()
    finally:
        await context.shutdown()


asyncio.run(main(*sys.argv[1:]))
