"""The package websockets of Python at the other end, as a server or as a client:

    websockets_peer.py server         prints `listening on ADDRESS:PORT (websockets)`, sends each message back
    websockets_peer.py client URL     sends messages, in fragments too, expects them back, says how many came"""

import asyncio
import sys

import websockets

LONGEST = 16 << 20


async def echo(socket, *_):
    async for message in socket:
        await socket.send(message)


async def serve():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=LONGEST) as server:
        address, port = server.sockets[0].getsockname()
        print(f"listening on {address}:{port} (websockets)", flush=True)
        await asyncio.Future()


async def ask(url):
    count = 0
    async with websockets.connect(url, max_size=LONGEST) as socket:
        for size in (0, 1, 125, 126, 65535, 65536, 1_000_000):
            for message in ("ä" * size, bytes(size)):
                await socket.send(message)
                assert await socket.recv() == message
                count += 1
        await socket.send(part for part in ("one, ", "", "two, ", "three"))
        assert await socket.recv() == "one, two, three"
        await (await socket.ping(b"sign"))
    print(f"{count + 1} messages, closed with {socket.close_code}")


asyncio.run(serve() if sys.argv[1] == "server" else ask(sys.argv[2]))
