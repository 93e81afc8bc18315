"""Servers in Python that are compared (argument: h11, aiohttp), and the one behind the proxies (argument: backend). Each
prints its port, and answers every request with its method and its content."""

import asyncio
import socket
import sys


class Connection(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport


def h11_connection():
    import h11

    class H11(Connection):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.connection = h11.Connection(h11.SERVER)

        def answer(self, status, text):
            fields = [("Content-Length", str(len(text)))]
            for event in (h11.Response(status_code=status, headers=fields), h11.Data(data=text), h11.EndOfMessage()):
                self.transport.write(self.connection.send(event))

        def data_received(self, data):
            self.connection.receive_data(data)
            try:
                self.read_events()
            except h11.RemoteProtocolError as error:
                if self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    self.answer(error.error_status_hint, b"")
                self.transport.close()

        def read_events(self):
            while True:
                event = self.connection.next_event()
                if isinstance(event, h11.Request):
                    self.method, self.content = event.method, b""
                elif isinstance(event, h11.Data):
                    self.content += event.data
                elif isinstance(event, h11.EndOfMessage):
                    self.answer(200, bytes(self.method) + b" " + self.content)
                    if self.connection.our_state is h11.MUST_CLOSE:
                        return self.transport.close()
                    self.connection.start_next_cycle()
                else:
                    return None

    return H11


class Backend(Connection):
    """Reads what a proxy has written, which has one spelling of everything, and closes after each answer."""

    input = b""

    def data_received(self, data):
        self.input += data
        head, found, rest = self.input.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.split(b"\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        if fields.get(b"expect", b"").lower() == b"100-continue" and not rest:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if b"transfer-encoding" in fields:
            content = self.chunks(rest)
        else:
            length = int(fields.get(b"content-length", b"0"))
            content = rest[:length] if len(rest) >= length else None
        if content is not None:
            text = lines[0].split()[0] + b" " + content
            self.transport.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
            self.transport.close()

    def chunks(self, rest):
        content = b""
        while b"\r\n" in rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size.partition(b";")[0], 16)
            if length == 0:
                return content if rest.startswith(b"\r\n") or b"\r\n\r\n" in rest else None
            content, rest = content + rest[:length], rest[length + 2:]
        return None


def aiohttp_factory():
    from aiohttp import web

    async def answer(request):
        return web.Response(text=f"{request.method} {await request.text()}")

    return web.Server(answer)


async def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    factory = {"h11": h11_connection, "aiohttp": aiohttp_factory, "backend": lambda: Backend}[sys.argv[1]]()
    server = await asyncio.get_running_loop().create_server(factory, sock=listener)
    await server.serve_forever()


asyncio.run(main())
