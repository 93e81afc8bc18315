"""Our framings against other people's programs, on the backend that REACTOR_BACKEND names. What a peer said is printed.
A test whose tool is not installed is skipped; `tests/run --all` installs them. ECHO_SERVER and ECHO_CLIENT say where the
programs are, INTEROP_SERVERS in which folder the servers are that live with these tests."""

import asyncio
import calendar
import filecmp
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from processes import PATIENCE, ProcessTest

ECHO_SERVER = os.environ.get("ECHO_SERVER", "build/protocols/echo_server")
ECHO_CLIENT = os.environ.get("ECHO_CLIENT", "build/protocols/echo_client")
SERVERS = os.environ.get("INTEROP_SERVERS", "build/tests")
HERE = os.path.dirname(os.path.abspath(__file__))
MESSAGE = b"This is the message.  It will be repeated."
MEGABYTES = 16


def tool(name):
    # Debian puts rdate where only the administrator's PATH looks.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def needs(name):
    return unittest.skipUnless(tool(name), f"{name} is not installed")


def python_with_twisted():
    """Debian's package belongs to Debian's Python, which need not be the first one."""
    for python in ("/usr/bin/python3", sys.executable):
        if os.path.exists(python) and subprocess.run([python, "-c", "import twisted"], capture_output=True).returncode == 0:
            return python
    return None


class InteropTest(ProcessTest):
    def echo_server(self, framing="none"):
        return self.start_server(ECHO_SERVER, "--host", "127.0.0.1", "--port", "0", "--framing", framing)

    def interop_server(self, name):
        return self.start_server(os.path.join(SERVERS, "interop_" + name))

    def succeed(self, *command, **options):
        """The standard output of a command that must end well, and its standard error behind it."""
        status, output, errors = self.start(*command, **options).end()
        self.assertEqual(status, 0, output + errors)
        return output + errors

    def echo_client(self, port, framing, *arguments):
        return self.succeed(ECHO_CLIENT, "--host", "127.0.0.1", "--port", port, "--framing", framing, *arguments)

    def tell(self, *words):
        print(f"{self.id().split('.')[-1]}:", *words, flush=True)


class Files(InteropTest):
    """Files that go through echo_server and must come back the same."""

    def assert_file_comes_back(self, command):
        with tempfile.TemporaryDirectory() as folder:
            sent, came = os.path.join(folder, "sent"), os.path.join(folder, "came")
            with open(sent, "wb") as file:
                file.write(random.Random(MEGABYTES).randbytes(MEGABYTES << 20))
            before = time.monotonic()
            self.succeed("sh", "-c", f'exec {command} <"$0" >"$1"', sent, came)
            elapsed = time.monotonic() - before
            self.succeed("cmp", sent, came)
            self.assertTrue(filecmp.cmp(sent, came, shallow=False))
            self.tell(f"{os.path.getsize(came)} bytes came back the same in {elapsed:.2f} s")

    @needs("socat")
    def test_socat_gets_back_a_file(self):
        self.assert_file_comes_back(f"socat -t {PATIENCE} - TCP4:127.0.0.1:{self.echo_server().port}")

    @needs("socat")
    def test_socat_gets_back_a_file_that_is_one_message(self):
        server = self.start_server(ECHO_SERVER, "--host", "127.0.0.1", "--port", "0", "--framing", "until-close",
                                   "--max-message", str(MEGABYTES << 20))
        self.assert_file_comes_back(f"socat -t {PATIENCE} - TCP4:127.0.0.1:{server.port}")

    @needs("nc")
    def test_netcat_gets_back_a_file(self):
        self.assert_file_comes_back(f"nc -N 127.0.0.1 {self.echo_server().port}")

    @needs("socat")
    def test_socat_serves_echo_client(self):
        socat = self.start("sh", "-c", "exec socat -d -d TCP4-LISTEN:0,bind=127.0.0.1 PIPE 2>&1")
        line = ""
        while "listening on" not in line:
            line = socat.line()
        port = line.rpartition(":")[2]
        output = self.echo_client(port, "length:4", "--message", "x" * 100000, "--count", "20")
        self.assertEqual(output.count("sending "), 20)
        self.tell("sent back 20 messages of 100000 bytes")

    @needs("nc")
    def test_netcat_receives_what_echo_client_sends_and_can_answer(self):
        netcat = self.start("sh", "-c", "exec nc -l -v -n 127.0.0.1 0 2>&1", standard_input=subprocess.PIPE)
        port = netcat.line().split()[-1]
        if not port.isdigit():
            self.skipTest("this netcat listens in another way; the one that is needed is OpenBSD's")
        client = self.start(ECHO_CLIENT, "--host", "127.0.0.1", "--port", port, "--framing", "lines")
        self.assertIn("received", netcat.line())
        line = netcat.line().encode() + b"\n"
        self.assertEqual(line, MESSAGE + b"\r\n")
        netcat.process.stdin.write(line)
        status, output, errors = client.end()
        self.assertEqual((status, errors), (0, ""), output)
        self.tell(f"it was sent {line!r}")


class Load(InteropTest):
    @needs("redis-benchmark")
    def test_redis_benchmark_gets_a_line_for_each_line(self):
        server = self.interop_server("ping_server")
        for pipeline in (1, 16):
            output = self.succeed("redis-benchmark", "-h", "127.0.0.1", "-p", server.port, "-t", "ping_inline",
                                  "-n", 50000, "-c", 50, "-P", pipeline, "-q")
            told = re.findall(r"PING_INLINE: [\d.]+ requests per second[^\r\n]*", output)
            self.assertEqual(len(told), 1, output)
            self.assertNotRegex(output, "(?i)error")
            self.tell(f"{pipeline} at a time:", told[0])

    @needs("wrk")
    def test_wrk_gets_an_answer_for_each_request(self):
        server = self.interop_server("http_server")
        output = self.succeed("wrk", "-t", 1, "-c", 50, "-d", 1, "--timeout", PATIENCE, f"http://127.0.0.1:{server.port}/")
        self.assertGreater(int(re.search(r"(\d+) requests in", output)[1]), 0, output)
        self.assertNotIn("Socket errors", output)
        self.assertNotIn("Non-2xx", output)
        self.tell(re.search(r"\d+ requests in [^\n]*", output)[0] + ",", re.search(r"Requests/sec: *([\d.]+)", output)[1],
                  "requests per second")

    @needs("dnsperf")
    def test_dnsperf_gets_an_answer_for_each_query(self):
        server = self.interop_server("name_server")
        with tempfile.NamedTemporaryFile("w") as queries:
            queries.writelines(f"name{number}.example A\n" for number in range(10000))
            queries.flush()
            output = self.succeed("dnsperf", "-s", "127.0.0.1", "-p", server.port, "-m", "tcp", "-d", queries.name,
                                  "-n", 1, "-c", 10, "-t", PATIENCE)
        self.assertRegex(output, r"Queries completed: +10000 \(100.00%\)")
        self.assertRegex(output, r"Response codes: +NOERROR 10000 \(100.00%\)")
        self.tell("10000 queries,", re.search(r"Queries per second: +([\d.]+)", output)[1], "a second")


class SocatDatagrams(InteropTest):
    """Datagrams that socat sends and receives, to and from both programs."""

    @needs("socat")
    def test_socat_gets_back_what_it_sends(self):
        server = self.start_server(ECHO_SERVER, "--udp", "--host", "127.0.0.1", "--port", "0")
        socat = self.start("socat", "-b", "65000", "-", f"UDP4:127.0.0.1:{server.port}", standard_input=subprocess.PIPE)
        for number in range(100):
            socat.process.stdin.write(b"datagram %d %s\n" % (number, b"x" * number * 100))
            self.assertEqual(socat.line(), f"datagram {number} " + "x" * number * 100)
        self.tell("100 datagrams came back")

    @needs("socat")
    def test_socat_sends_one_way(self):
        server = self.start_server(ECHO_SERVER, "--udp", "--host", "127.0.0.1", "--port", "0", "--verbose")
        self.succeed("sh", "-c", f"echo one way | socat -u - UDP4:127.0.0.1:{server.port}")
        self.assertRegex(server.line(), r'^received "one way\\x0a" from 127\.0\.0\.1:\d+$')

    @needs("socat")
    def test_socat_serves_echo_client(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free, tempfile.TemporaryDirectory() as folder:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            free.close()
            path = os.path.join(folder, "socket")
            for listen, to in ((f"UDP4-RECVFROM:{port},bind=127.0.0.1", ["--host", "127.0.0.1", "--port", port]),
                               (f"UNIX-RECVFROM:{path}", ["--host", "unix:" + path])):
                self.start("socat", listen + ",fork", "EXEC:cat")
                # It does not say when it listens.
                client = [ECHO_CLIENT, "--udp", *to, "--count", "5"]
                self.until(lambda: self.start(*client).end()[0] == 0, "socat to listen")
                self.assertEqual(self.succeed(*client).count("received "), 5)
        self.tell("sent back 5 datagrams over UDP and a Unix socket")


class Questions(InteropTest):
    @needs("dig")
    def test_dig_resolves_a_name_over_TCP(self):
        server = self.interop_server("name_server")
        question = ["dig", "+tcp", "+tries=1", f"+time={PATIENCE}", "@127.0.0.1", "-p", server.port]
        output = self.succeed(*question, "a.name.of.ours.example", "A")
        self.assertRegex(output, r"(?m)^a\.name\.of\.ours\.example\.\s+60\s+IN\s+A\s+192\.0\.2\.53$")
        self.assertIn("status: NOERROR", output)
        self.assertNotIn("WARNING", output)
        self.assertNotIn("malformed", output)
        names = [f"name{number}.example" for number in range(100)]
        several = self.succeed(*question, "+keepopen", "+short", *names)  # one connection
        self.assertEqual(several, "192.0.2.53\n" * 100)
        self.tell(re.search(r"(?m)^a\.name.*$", output)[0])

    @needs("rdate")
    def test_rdate_prints_the_time(self):
        server = self.interop_server("time_server")
        before = int(time.time())
        output = self.succeed(tool("rdate"), "-4", "-p", "-o", server.port, "127.0.0.1",
                              environment={"LC_ALL": "C", "TZ": "UTC"})
        told = calendar.timegm(time.strptime(output.strip().replace(" UTC", ""), "%a %b %d %H:%M:%S %Y"))
        self.assertTrue(before <= told <= int(time.time()), f"{output!r} between {before} and {int(time.time())}")
        self.tell(output.strip())


class Asyncio(InteropTest):
    MESSAGES = [random.Random(number).randbytes(number * number) for number in range(0, 400, 7)]

    def run_loop(self, coroutine):
        asyncio.run(asyncio.wait_for(coroutine, PATIENCE))

    async def exchange(self, port, encoded, read):
        """Sends all messages and reads them back at the same time."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)

        async def send():
            for message in encoded:
                writer.write(message)
                await writer.drain()
            writer.write_eof()

        sending = asyncio.ensure_future(send())
        came = [await read(reader) for _ in encoded]
        await sending
        self.assertEqual(await reader.read(), b"")
        writer.close()
        await writer.wait_closed()
        return came

    async def read_counted(self, reader):
        return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))

    async def read_netstring(self, reader):
        message = await reader.readexactly(int((await reader.readuntil(b":"))[:-1]))
        self.assertEqual(await reader.readexactly(1), b",")
        return message

    def test_its_streams_read_what_echo_server_sends(self):
        lines = [message.replace(b"\n", b"") + b"\r\n" for message in self.MESSAGES]
        counted = [len(message).to_bytes(4, "big") + message for message in self.MESSAGES]
        netstrings = [b"%d:%s," % (len(message), message) for message in self.MESSAGES]

        async def all_of_them():
            self.assertEqual(await self.exchange(self.echo_server("lines").port, lines, lambda reader: reader.readline()),
                             lines)
            self.assertEqual(await self.exchange(self.echo_server("length:4").port, counted, self.read_counted),
                             self.MESSAGES)
            self.assertEqual(await self.exchange(self.echo_server("netstring").port, netstrings, self.read_netstring),
                             self.MESSAGES)

        self.run_loop(all_of_them())
        self.tell(f"3 framings, {len(self.MESSAGES)} messages of up to {len(self.MESSAGES[-1])} bytes each")

    def test_its_streams_serve_echo_client(self):
        async def serve_line(reader, writer):
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
            writer.close()

        async def serve_counted(reader, writer):
            try:
                while True:
                    message = await self.read_counted(reader)
                    writer.write(len(message).to_bytes(4, "big") + message)
                    await writer.drain()
            except asyncio.IncompleteReadError as error:
                self.assertEqual(error.partial, b"")
            writer.close()

        async def with_server(serve, framing):
            async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20) as server:
                port = server.sockets[0].getsockname()[1]
                output = await asyncio.to_thread(self.echo_client, port, framing, "--message", "x" * 50000, "--count", "20")
                self.assertEqual(output.count("sending "), 20)

        self.run_loop(with_server(serve_line, "lines"))
        self.run_loop(with_server(serve_counted, "length:4"))
        self.tell("sent back 20 messages of 50000 bytes in 2 framings")


class Twisted(InteropTest):
    RECEIVERS = {
        "LineReceiver": ("lines", r"delimited:\r\n"),
        "NetstringReceiver": ("netstring",),
        "Int16StringReceiver": ("length:2",),
        "Int32StringReceiver": ("length:4",),
    }

    @classmethod
    def setUpClass(cls):
        cls.python = python_with_twisted()
        if cls.python is None:
            raise unittest.SkipTest("Twisted is not installed")

    def test_its_receivers_understand_echo_server(self):
        for receiver, framings in self.RECEIVERS.items():
            for framing in framings:
                with self.subTest(receiver=receiver, framing=framing):
                    output = self.succeed(self.python, os.path.join(HERE, "twisted_peer.py"), "client", receiver,
                                          self.echo_server(framing).port)
                    self.assertIn("1000 messages", output)
                    self.tell(receiver, framing, output.strip())

    def test_its_receivers_serve_echo_client(self):
        for receiver, framings in self.RECEIVERS.items():
            server = self.start_server(self.python, os.path.join(HERE, "twisted_peer.py"), "server", receiver)
            for framing in framings:
                with self.subTest(receiver=receiver, framing=framing):
                    output = self.echo_client(server.port, framing, "--message", "x" * 10000, "--count", "100")
                    self.assertEqual(output.count("sending "), 100)
                    self.assertIn("closing socket\n", output)
                    self.tell(receiver, framing, "sent back 100 messages of 10000 bytes")


if __name__ == "__main__":
    unittest.main(verbosity=2)
