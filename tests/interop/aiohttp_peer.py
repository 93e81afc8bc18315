"""The package aiohttp of Python at the other end, as a server or as a client of HTTP and WebSocket:

    aiohttp_peer.py server         prints `listening on ADDRESS:PORT (aiohttp)`; answers as web_client.cpp expects
    aiohttp_peer.py client URL     asks, compares, and says how much came"""

import asyncio
import sys

import aiohttp
from aiohttp import web

LONGEST = 16 << 20
NUMBERS = "".join(f"{number}\n" for number in range(1000))
LARGE = b"x" * 1_000_000


async def hello(request):
    return web.Response(text="hello\n")


async def parts(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(1000):
        await response.write(f"{number}\n".encode())
    return response


async def echo(request):
    response = web.StreamResponse()
    await response.prepare(request)
    async for part in request.content.iter_any():
        await response.write(part)
    return response


async def socket(request):
    response = web.WebSocketResponse(max_msg_size=LONGEST)
    await response.prepare(request)
    async for message in response:
        if message.type == aiohttp.WSMsgType.TEXT:
            await response.send_str(message.data)
        else:
            await response.send_bytes(message.data)
    return response


async def serve():
    application = web.Application(client_max_size=LONGEST)
    application.add_routes([web.get("/", hello), web.get("/parts", parts), web.post("/echo", echo), web.put("/echo", echo),
                            web.get("/socket", socket)])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"listening on 127.0.0.1:{runner.addresses[0][1]} (aiohttp)", flush=True)
    await asyncio.Future()


async def pieces():
    for piece in (b"one, ", b"two, ", LARGE):
        yield piece


async def ask(url):
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        answers = 0
        for method, path, arguments, expected in (
                ("GET", "/", {}, b"hello\n"), ("GET", "/parts", {}, NUMBERS.encode()), ("HEAD", "/", {}, b""),
                ("POST", "/echo", {"data": LARGE}, LARGE), ("POST", "/echo", {"data": LARGE, "expect100": True}, LARGE),
                ("PUT", "/echo", {"data": pieces()}, b"one, two, " + LARGE)):
            async with session.request(method, url + path, **arguments) as response:
                assert response.status == 200 and await response.read() == expected, (method, path, response.status)
                answers += 1
        messages = 0
        async with session.ws_connect(url + "/socket", max_msg_size=LONGEST, compress=15) as connection:
            for size in (0, 1, 125, 126, 65535, 65536, 1_000_000):
                await connection.send_str("ä" * size)
                assert await connection.receive_str() == "ä" * size
                await connection.send_bytes(bytes(size))
                assert await connection.receive_bytes() == bytes(size)
                messages += 2
            await connection.close()
        print(f"{answers} answers, {messages} messages, closed with {connection.close_code}")


asyncio.run(serve() if sys.argv[1] == "server" else ask(sys.argv[2]))
