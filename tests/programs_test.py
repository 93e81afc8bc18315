"""The programs as their users meet them: real processes, real sockets, real signals, on the backend that REACTOR_BACKEND
names. ECHO_SERVER and ECHO_CLIENT say where the programs are, SANITIZED whether a sanitizer is built into them."""

import contextlib
import fcntl
import os
import random
import re
import resource
import select
import signal
import socket
import struct
import sys
import termios
import threading
import time
import unittest

from processes import BACKEND, PATIENCE, ProcessTest, raise_descriptor_limit
from tutorial.fixed_length_socket import FixedLengthSocket

ECHO_SERVER = os.environ.get("ECHO_SERVER", "build/protocols/echo_server")
ECHO_CLIENT = os.environ.get("ECHO_CLIENT", "build/protocols/echo_client")
SANITIZED = os.environ.get("SANITIZED", "none") != "none"
TUTORIAL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tutorial")
MESSAGE = "This is the message.  It will be repeated."
BACKENDS = ["epoll", "poll", "select"] if sys.platform == "linux" else ["poll", "select"]

# A label of a name has at most 63 bytes (RFC 1035 2.3.4): the resolver gives up before it asks anybody.
UNRESOLVABLE = "x" * 64

needs_proc = unittest.skipUnless(os.path.exists("/proc/self/status"), "there is no /proc that says what a process does")


def ipv6_loopback():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


def reset(client):
    """Closes with a reset instead of an end of stream."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def send_until_blocked(test, server):
    """Connects and sends, and reads nothing, until nothing more fits anywhere and the server rests. The connection, how
    many bytes it was, and the block of which they are repetitions."""
    # A receive buffer of a given size does not grow, and so fills once and not again and again.
    client = test.connect(server, receive_buffer=32768)
    block = bytes(random.Random(40).choices(b"abcdefghijklmnopqrstuvwxyz", k=1 << 16))
    client.setblocking(False)
    writable = select.poll()
    writable.register(client, select.POLLOUT)
    sent = 0
    blocked = False
    deadline = time.monotonic() + PATIENCE
    while not blocked:
        with contextlib.suppress(BlockingIOError):
            while time.monotonic() < deadline:
                at = sent % len(block)
                sent += client.send(block[at:])
        test.assertLess(time.monotonic(), deadline, f"after {sent} bytes the server still reads")
        test.until_it_rests(server)
        blocked = not writable.poll(0)
    client.settimeout(PATIENCE)
    return client, sent, block


def bytes_not_yet_read(client):
    """Bytes that the client sent and the program behind the connection has not read: those that have not left, and
    those that wait in the other socket."""
    waiting = struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))[0]
    mine, theirs = client.getsockname()[1], client.getpeername()[1]
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table.readlines()[1:]:
            words = line.split()
            if int(words[1].split(":")[1], 16) == theirs and int(words[2].split(":")[1], 16) == mine:
                return waiting + int(words[4].split(":")[1], 16)
    raise AssertionError("the kernel does not list the connection")


class ProgramTest(ProcessTest):
    def server(self, *arguments, **options):
        return self.start_server(ECHO_SERVER, "--host", "127.0.0.1", "--port", "0", *arguments, **options)

    def client(self, server, *arguments, host="127.0.0.1"):
        """echo_client's exit status, standard output and standard error, once it has ended."""
        return self.start(ECHO_CLIENT, "--host", host, "--port", getattr(server, "port", server), *arguments).end()

    def assert_client_succeeds(self, server, *arguments):
        status, output, errors = self.client(server, *arguments)
        self.assertEqual((status, errors), (0, ""), f"{arguments}: {output}")
        return output

    def assert_client_fails(self, server, *arguments, naming):
        """It ends with one line on standard error, which names what broke. Returns its standard output."""
        status, output, errors = self.client(server, *arguments)
        self.assertNotEqual(status, 0, output)
        self.assert_one_line(errors, "echo_client: ", naming)
        return output

    def assert_one_line(self, text, beginning, naming):
        self.assertEqual(text.count("\n"), 1, text)
        self.assertTrue(text.startswith(beginning) and text.endswith("\n"), text)
        self.assertIn(naming, text)

    def assert_refused_from_now_on(self, port):
        """The server has stopped listening, or does so soon."""
        def refused():
            try:
                with socket.create_connection(("127.0.0.1", port), PATIENCE):
                    return False
            except ConnectionRefusedError:
                return True
            except ConnectionError:
                return False  # it came just before the end

        self.until(refused, "the server to stop accepting")

    def assert_ends_well(self, server, number=signal.SIGTERM):
        server.signal(number)
        status, _, errors = server.end()
        self.assertEqual((status, errors), (0, ""))


class Listening(ProgramTest):
    def test_prints_a_line_for_each_address_of_localhost_with_IPv4_first(self):
        addresses = 2 if ipv6_loopback() else 1
        server = self.start_server(ECHO_SERVER, "--port", "0", addresses=addresses)
        backend = BACKENDS[0] if BACKEND == "auto" else BACKEND
        expected = [f"listening on 127.0.0.1:{server.port} ({backend})", f"listening on [::1]:{server.port} ({backend})"]
        self.assertEqual(server.listening, expected[:addresses])
        self.assertNotEqual(server.port, 0)
        self.assert_echoes(self.connect(server))
        if addresses == 2:
            self.assert_echoes(self.connect(server, socket.AF_INET6))
        server.signal(signal.SIGTERM)
        self.assertEqual(server.end(), (0, "", ""))

    def test_an_argument_chooses_the_backend_whatever_the_environment_says(self):
        for backend in BACKENDS:
            server = self.server("--backend", backend)
            self.assertEqual(server.listening, [f"listening on 127.0.0.1:{server.port} ({backend})"])
            self.assert_echoes(self.connect(server))
            self.assertIn("closing socket\n", self.assert_client_succeeds(server, "--backend", backend))

    def test_takes_the_port_that_it_is_told(self):
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            port = reserved.getsockname()[1]
        server = self.start_server(ECHO_SERVER, "--host", "127.0.0.1", "--port", port)
        self.assertEqual(server.port, port)

    def test_starts_again_on_its_port_while_connections_of_its_last_run_linger(self):
        server = self.server()
        client = self.connect(server)
        self.assert_echoes(client)
        server.signal(signal.SIGTERM)
        self.assertEqual(self.receive_all(client), b"")
        client.close()
        self.assertEqual(server.end()[0], 0)
        again = self.start_server(ECHO_SERVER, "--host", "127.0.0.1", "--port", server.port)
        self.assert_echoes(self.connect(again))


class Ending(ProgramTest):
    def test_either_signal_ends_an_idle_server_at_once(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self.assert_ends_well(self.server(), number)

    def test_connections_that_owe_nothing_see_the_end_of_the_stream(self):
        server = self.server()
        clients = [self.connect(server) for _ in range(10)]
        for client in clients:
            self.assert_echoes(client)
        server.signal(signal.SIGINT)
        for client in clients:
            self.assertEqual(self.receive_all(client), b"")
            client.close()
        self.assertEqual(server.end(), (0, "", ""))

    @needs_proc
    def test_accepts_nothing_more_and_sends_every_byte_that_it_owes(self):
        server = self.server("--verbose")  # its story says how many bytes it has read, and so how many it owes
        told = []
        listener = threading.Thread(target=lambda: told.append(server.process.stdout.read()), daemon=True)
        listener.start()
        client, sent, block = send_until_blocked(self, server)
        server.signal(signal.SIGTERM)
        self.assert_refused_from_now_on(server.port)
        came = self.receive_all(client)
        client.close()
        listener.join(PATIENCE)
        self.assertEqual(server.process.wait(PATIENCE), 0)
        owed = sum(len(line) - len(b'received ""\n') for line in told[0].splitlines(True)
                   if line.startswith(b"received "))
        self.assertEqual(len(came), owed)
        self.assertTrue((block * (sent // len(block) + 1)).startswith(came), "other bytes came than were sent")

    def test_a_client_that_never_reads_cannot_keep_it_from_ending(self):
        server = self.server()
        send_until_blocked(self, server)
        before = time.monotonic()
        self.assert_ends_well(server)
        self.assertLess(time.monotonic() - before, 30)

    def test_a_second_signal_ends_it_at_once(self):
        server = self.server()
        send_until_blocked(self, server)
        server.signal(signal.SIGTERM)
        self.assert_refused_from_now_on(server.port)
        self.assert_ends_well(server, signal.SIGINT)


class Story(ProgramTest):
    def test_in_chunks_of_16_it_is_the_one_that_the_tutorial_prints(self):
        server = self.server("--verbose", "--chunk", "16")
        client = self.connect(server)
        client.sendall(MESSAGE.encode())
        self.assertEqual(self.receive(client, len(MESSAGE)), MESSAGE.encode())
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(self.receive_all(client), b"")
        peer = f"127.0.0.1:{client.getsockname()[1]}"
        self.assertEqual([server.line() for _ in range(8)],
                         [f"connection from {peer}",
                          'received "This is the mess"', "sending data back to the client",
                          'received "age.  It will be"', "sending data back to the client",
                          'received " repeated."', "sending data back to the client",
                          f"no more data from {peer}"])

    def test_a_connection_that_breaks_is_told_with_its_reason(self):
        server = self.server("--verbose")
        client = self.connect(server)
        self.assert_echoes(client, b'a "quoted" \\ and \x00\xff')
        peer = f"127.0.0.1:{client.getsockname()[1]}"
        reset(client)
        self.assertEqual([server.line() for _ in range(4)],
                         [f"connection from {peer}", 'received "a \\"quoted\\" \\\\ and \\x00\\xff"',
                          "sending data back to the client", f"connection from {peer} ended: Connection reset by peer"])

    def test_without_verbose_it_tells_nothing(self):
        server = self.server()
        self.assert_echoes(self.connect(server))
        reset(self.connect(server))
        server.signal(signal.SIGTERM)
        self.assertEqual(server.end(), (0, "", ""))

    def test_echo_client_tells_what_it_sends_and_receives(self):
        server = self.server()
        lines = self.assert_client_succeeds(server).splitlines()
        self.assertEqual(lines[0], f"connecting to 127.0.0.1 port {server.port}")
        self.assertEqual(lines[1], f'sending "{MESSAGE}"')
        self.assertEqual("".join(re.fullmatch('received "(.*)"', line)[1] for line in lines[2:-1]), MESSAGE)
        self.assertEqual(lines[-1], "closing socket")

    def test_echo_client_repeats_its_message_as_often_as_it_is_told(self):
        lines = self.assert_client_succeeds(self.server(), "--message", "ping", "--count", "100").splitlines()
        self.assertEqual(lines[1:-1], ['sending "ping"', 'received "ping"'] * 100)


class Tutorial(ProgramTest):
    def test_its_client_is_served(self):
        server = self.server("--verbose", "--chunk", "16")
        status, output, errors = self.start(sys.executable, os.path.join(TUTORIAL, "client.py"), server.port).end()
        self.assertEqual((status, errors), (0, ""))
        lines = output.splitlines()
        self.assertEqual(lines[:2], [f"connecting to localhost port {server.port}", f"sending \"b'{MESSAGE}'\""])
        self.assertEqual("".join(re.fullmatch("received \"b'(.*)'\"", line)[1] for line in lines[2:-1]), MESSAGE)
        self.assertIn("closing socket", lines[-1])
        self.assertTrue(server.line().startswith("connection from 127.0.0.1:"))

    def test_its_server_serves_echo_client_again_and_again(self):
        tutorial = self.start(sys.executable, "-u", os.path.join(TUTORIAL, "server.py"), 0)
        port = int(re.fullmatch(r"starting up on localhost port (\d+)", tutorial.line())[1])
        for _ in range(3):
            self.assertEqual(tutorial.line(), "waiting for a connection")
            self.assertIn("closing socket\n", self.assert_client_succeeds(port))
            self.assertTrue(tutorial.line().startswith("connection from ('127.0.0.1', "))
            told = []
            while not (told and told[-1].startswith("no more data from")):
                told.append(tutorial.line())
            self.assertEqual(told[-2], "received \"b''\"")
            self.assertEqual("".join(re.fullmatch("received \"b'(.*)'\"", line)[1] for line in told[:-2:2]), MESSAGE)

    def test_its_FixedLengthSocket_is_served(self):
        server = self.server("--framing", "fixed:1000")
        with contextlib.closing(socket.socket()) as plain:
            plain.settimeout(PATIENCE)
            client = FixedLengthSocket(1000, plain)
            client.connect("127.0.0.1", server.port)
            for number in range(50):
                message = random.Random(number).randbytes(1000)
                client.send(message)
                self.assertEqual(client.receive(), message)

    def test_its_FixedLengthSocket_serves_echo_client(self):
        def serve(connection):
            fixed = FixedLengthSocket(42, connection)
            for _ in range(50):
                fixed.send(fixed.receive())

        port = self.play_server(serve)
        self.assert_client_succeeds(port, "--framing", "fixed:42", "--count", "50")


class Bytes(ProgramTest):
    def test_8_MB_of_random_bytes_come_back_exactly_to_a_client_that_reads_odd_pieces(self):
        server = self.server()
        client = self.connect(server)
        data = random.Random(8).randbytes(8 << 20)
        sender = threading.Thread(target=client.sendall, args=(data,), daemon=True)
        sender.start()
        came = bytearray()
        sizes = random.Random(9)
        while len(came) < len(data):
            piece = client.recv(sizes.choice([1, 3, 7, 509, 4093, 65521, 250007]))
            self.assertNotEqual(piece, b"", f"the stream ended after {len(came)} bytes")
            came += piece
        sender.join(PATIENCE)
        self.assertEqual(bytes(came), data)

    def test_a_client_that_has_shut_its_side_gets_everything_and_then_the_end(self):
        server = self.server()
        for size in (0, 1, 100, 256 * 1024):
            client = self.connect(server)
            data = random.Random(size).randbytes(size)
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(self.receive_all(client), data)

    def test_a_byte_at_a_time_is_enough(self):
        client = self.connect(self.server("--chunk", "1"))
        data = bytes(range(256)) * 4
        client.sendall(data)
        self.assertEqual(self.receive(client, len(data)), data)


class ManyClients(ProgramTest):
    def test_3000_connections_are_served_at_once(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if not raise_descriptor_limit(3100):
            self.skipTest(f"a process may have no more than {hard} descriptors here")
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        server = self.server()
        clients = [self.connect(server) for _ in range(3000)]
        for number, client in enumerate(clients):
            client.sendall(b"%04d" % number)
        for number, client in enumerate(clients):
            self.assertEqual(self.receive(client, 4), b"%04d" % number)
        for client in reversed(clients):
            self.assert_echoes(client)

    @needs_proc
    def test_200_idle_connections_cost_no_CPU(self):
        server = self.server()
        clients = [self.connect(server) for _ in range(200)]
        for client in clients:
            self.assert_echoes(client)
        self.assert_rests(server)

    @needs_proc
    def test_500_resets_leave_no_descriptor_behind(self):
        server = self.server()
        witness = self.connect(server)
        self.assert_echoes(witness)
        before = server.descriptors()
        for number in range(500):
            client = self.connect(server)
            if number % 3 != 0:
                client.sendall(b"x" * number)
            if number % 3 == 2:
                self.receive(client, number // 2)
            reset(client)
        self.until(lambda: server.descriptors() == before, f"{before} descriptors, as before")
        self.assert_echoes(witness)
        self.assert_rests(server)

    @needs_proc
    def test_a_peer_that_sends_for_ever_and_never_reads_costs_bounded_memory_and_no_CPU(self):
        server = self.server()
        witness = self.connect(server)
        self.assert_echoes(witness, b"x" * 100000)  # so that the loop's own buffers are counted before
        before = server.resident()
        client = send_until_blocked(self, server)[0]
        grown = server.resident() - before
        if not SANITIZED:  # which keep memory back on purpose
            self.assertLess(grown, 1 << 20)
        self.assert_rests(server)
        self.assert_echoes(witness)
        reset(client)
        self.assert_echoes(self.connect(server))

    @needs_proc
    @unittest.skipIf(SANITIZED, "without a descriptor to be had UBSan's check of types takes good ones for bad")
    def test_out_of_descriptors_it_serves_those_it_has_and_idles_and_recovers_when_clients_leave(self):
        server = self.server(descriptors=48)
        served, refused = [], 0
        for number, client in enumerate([self.connect(server) for _ in range(100)]):
            try:
                client.sendall(b"%03d" % number)
                if client.recv(3, socket.MSG_WAITALL) == b"%03d" % number:
                    served.append(client)
                    continue
            except ConnectionError:
                pass
            refused += 1
            client.close()
        self.assertGreaterEqual(len(served), 30)
        self.assertEqual(len(served) + refused, 100)
        for client in served:
            self.assert_echoes(client)
        self.assert_rests(server)
        for client in served:
            self.assert_echoes(client)
        for client in served:
            client.close()

        def serves_again():
            try:
                with contextlib.closing(self.connect(server)) as newcomer:
                    newcomer.sendall(b"x")
                    return newcomer.recv(1) == b"x"
            except ConnectionError:
                return False

        self.until(serves_again, "the server to take clients again")
        self.assertEqual(len([self.assert_echoes(self.connect(server)) for _ in range(30)]), 30)

    def test_max_connections_lets_the_others_wait_until_one_leaves(self):
        server = self.server("--max-connections", "2")
        first, second, third = [self.connect(server) for _ in range(3)]
        third.sendall(b"my turn?")
        for _ in range(100):
            self.assert_echoes(first)
            self.assert_echoes(second)
        self.assertEqual(select.select([third], [], [], 0)[0], [])
        first.close()
        self.assertEqual(self.receive(third, 8), b"my turn?")
        self.assert_echoes(second)

    def test_idle_timeout_ends_those_who_are_silent(self):
        server = self.server("--verbose", "--idle-timeout", "0.2")
        before = time.monotonic()
        client = self.connect(server)
        self.assert_ended(client)
        self.assertGreaterEqual(time.monotonic() - before, 0.2)
        peer = f"127.0.0.1:{client.getsockname()[1]}"
        self.assertEqual([server.line(), server.line()],
                         [f"connection from {peer}", f"connection from {peer} ended: Connection timed out"])
        self.assert_echoes(self.connect(server))


class Framings(ProgramTest):
    # How each framing puts "one", nothing, and "seventeen letters" on the wire.
    WIRE = {
        "lines": b"one\r\n\r\nseventeen letters\r\n",
        r"delimited:\n": b"one\n\nseventeen letters\n",
        r"delimited:\r\n": b"one\r\n\r\nseventeen letters\r\n",
        r"delimited:\0": b"one\0\0seventeen letters\0",
        r"delimited:\xff\xFE": b"one\xff\xfe\xff\xfeseventeen letters\xff\xfe",
        r"delimited:\t\\": b"one\t\\\t\\seventeen letters\t\\",
        "delimited:END": b"oneENDENDseventeen lettersEND",
        "delimited:::": b"one::::seventeen letters::",
        "length:1": b"\3one\0\x11seventeen letters",
        "length:2": b"\0\3one\0\0\0\x11seventeen letters",
        "length:2le": b"\3\0one\0\0\x11\0seventeen letters",
        "length:4": b"\0\0\0\3one\0\0\0\0\0\0\0\x11seventeen letters",
        "length:4le": b"\3\0\0\0one\0\0\0\0\x11\0\0\0seventeen letters",
        "length:8": b"\0\0\0\0\0\0\0\3one\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x11seventeen letters",
        "length:8le": b"\3\0\0\0\0\0\0\0one\0\0\0\0\0\0\0\0\x11\0\0\0\0\0\0\0seventeen letters",
        "varint": b"\3one\0\x11seventeen letters",
        "netstring": b"3:one,0:,17:seventeen letters,",
        "fixed:4": b"one,two,four",
        "none": b"one seventeen letters",
    }

    def test_each_comes_back_as_it_was_sent_whole_and_byte_by_byte(self):
        for framing, wire in self.WIRE.items():
            with self.subTest(framing=framing):
                server = self.server("--framing", framing)
                self.assert_echoes(self.connect(server), wire)
                client = self.connect(server)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for byte in wire:
                    client.sendall(bytes([byte]))
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(self.receive_all(client), wire)

    def test_each_is_understood_by_echo_client_and_echo_server_alike(self):
        for framing in [*self.WIRE, "fixed:42", "length:1le"]:
            if framing == "fixed:4":
                continue
            with self.subTest(framing=framing):
                output = self.assert_client_succeeds(self.server("--framing", framing), "--framing", framing, "--count", "3")
                self.assertEqual(output.count(f'sending "{MESSAGE}"\n'), 3)

    def test_a_message_ends_with_the_stream_if_nothing_else_ends_it(self):
        server = self.server("--framing", "until-close")
        output = self.assert_client_succeeds(server, "--framing", "until-close")
        self.assertIn(f'received "{MESSAGE}"\n', output)
        client = self.connect(server)
        data = random.Random(1).randbytes(500000)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(self.receive_all(client), data)

    def test_a_large_message_comes_back_whole(self):
        # An argument has at most 128 KB on Linux.
        message = "large " * 20000
        for framing in ("lines", "length:4", "netstring", "varint", "until-close"):
            with self.subTest(framing=framing):
                self.assert_client_succeeds(self.server("--framing", framing), "--framing", framing, "--message", message)

    def test_what_is_malformed_costs_its_own_connection_only(self):
        malformed = {
            "length:1": b"\x05four",
            "length:4": b"\xff\xff\xff\xff" + b"x" * 100,
            "length:8": b"\xff" * 8 + b"x" * 100,
            "varint": b"\xff" * 11,
            "netstring": b"five:hello,",
            "fixed:4": b"six...",
            "lines": b"x" * 101,
            r"delimited:\0": b"x" * 102,
            "until-close": b"x" * 101,
        }
        valid = {"fixed:4": b"good", "until-close": b"good"}
        for framing, garbage in malformed.items():
            with self.subTest(framing=framing):
                server = self.server("--verbose", "--framing", framing, "--max-message", "100")
                witness = self.connect(server)
                good = valid.get(framing, self.WIRE.get(framing))
                if framing != "until-close":
                    self.assert_echoes(witness, good)
                client = self.connect(server)
                peer = f"127.0.0.1:{client.getsockname()[1]}"
                client.sendall(garbage)
                with contextlib.suppress(OSError):  # it may have ended it already
                    client.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    self.assertIn(client.recv(1024), (b"", garbage[:4]))
                told = server.line()
                while not told.startswith("not a message from"):
                    told = server.line()
                name = "delimited" if framing.startswith("delimited") else framing
                self.assertIn(f"{peer}: {name.split(':')[0]}", told)
                witness.sendall(good)
                witness.shutdown(socket.SHUT_WR)
                self.assertEqual(self.receive_all(witness), good)

    @needs_proc
    def test_a_length_of_4_GB_takes_no_memory(self):
        server = self.server("--framing", "length:4", "--max-message", str(1 << 32))
        client = self.connect(server)
        self.assert_echoes(client, b"\0\0\0\3one")
        before = server.resident()
        client.sendall(b"\xff\xff\xff\xff" + b"x" * 1000)
        self.until(lambda: bytes_not_yet_read(client) == 0, "the server to read")
        self.until_it_rests(server)
        if not SANITIZED:
            self.assertLess(server.resident() - before, 1 << 20)
        self.assert_echoes(self.connect(server), b"\0\0\0\3two")


class EchoClient(ProgramTest):
    def test_says_that_it_was_refused(self):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # bound and not listening: the port is nobody else's
            port = nobody.getsockname()[1]
            self.assert_client_fails(port, naming=f"port {port}: Connection refused")

    def test_says_that_nothing_came_for_too_long(self):
        port = self.play_server(self.receive_all)
        self.assert_client_fails(port, "--timeout", "0.2", naming="timed out: 127.0.0.1 was silent for 0.2 seconds")

    def test_says_that_the_server_ended_early(self):
        def end_early(connection):
            self.receive(connection, len(MESSAGE))
            connection.sendall(MESSAGE[:10].encode())

        port = self.play_server(end_early)
        output = self.assert_client_fails(port, naming="ended early: 10 of 42 bytes of message 1 came back")
        self.assertIn(f'received "{MESSAGE[:10]}"\n', output)

    def test_says_that_the_server_reset_the_connection(self):
        def break_off(connection):
            self.receive(connection, len(MESSAGE))
            connection.sendall(MESSAGE.encode())
            self.receive(connection, len(MESSAGE))
            reset(connection)

        port = self.play_server(break_off)
        self.assert_client_fails(port, "--count", "2",
                                 naming="ended early: 0 of 42 bytes of message 2 came back: Connection reset by peer")

    def test_says_which_byte_is_another(self):
        def alter(connection):
            connection.sendall(self.receive(connection, len(MESSAGE)).replace(b".", b"!", 1))

        port = self.play_server(alter)
        self.assert_client_fails(port, naming='different bytes: byte 19 of message 1 came back as "!" and was "."')

    def test_says_that_more_came_back_than_it_sent(self):
        def exaggerate(connection):
            connection.sendall(self.receive(connection, len(MESSAGE)) + b"!")
            self.receive_all(connection)

        port = self.play_server(exaggerate)
        self.assert_client_fails(port, naming="different bytes: more came back than the 42 of message 1")

    def test_says_that_less_came_back_than_it_sent(self):
        def shorten(connection):
            connection.recv(100)
            connection.sendall(f"10:{MESSAGE[:10]},".encode())
            self.receive_all(connection)

        port = self.play_server(shorten)
        self.assert_client_fails(port, "--framing", "netstring",
                                 naming="different bytes: message 1 came back with 10 of 42 bytes")

    def test_says_that_what_came_back_is_no_message(self):
        def answer_garbage(connection):
            connection.recv(100)
            connection.sendall(b"garbage")
            self.receive_all(connection)

        port = self.play_server(answer_garbage)
        self.assert_client_fails(port, "--framing", "netstring", naming="what came back is no message: netstring")

    def test_says_that_its_message_does_not_fit_the_framing(self):
        server = self.server()
        for framing, message, naming in (("fixed:5", "four", "fixed"), (r"delimited:\n", "two\nlines", "delimited"),
                                         ("length:1", "x" * 256, "256")):
            with self.subTest(framing=framing):
                self.assert_client_fails(server, "--framing", framing, "--message", message, naming=naming)


class Arguments(ProgramTest):
    BOTH = (
        (["--port", "70000"], "70000"),
        (["--port", "-1"], "-1"),
        (["--port", "http"], "http"),
        (["--port"], "--port"),
        (["--port", "1", "--port", "2"], "--port"),
        (["--backend", "kqueue"], "kqueue"),
        (["--backend", ""], "''"),
        (["--framing", "fixed"], "'fixed'"),
        (["--framing", "fixed:0"], "'fixed:0'"),
        (["--framing", "fixed:-1"], "'fixed:-1'"),
        (["--framing", "length:3"], "'length:3'"),
        (["--framing", "delimited:"], "'delimited:'"),
        (["--framing", r"delimited:\q"], r"delimited:\q"),
        (["--framing", r"delimited:\x1"], r"delimited:\x1"),
        (["--framing", "semaphore"], "'semaphore'"),
        (["--max-message", "0"], "--max-message"),
        (["--max-message", "many"], "many"),
        (["--host", UNRESOLVABLE], UNRESOLVABLE),
        (["--unheard-of"], "--unheard-of"),
        (["stray"], "stray"),
    )
    SERVERS = (
        (["--chunk", "0"], "--chunk"),
        (["--chunk", "-1"], "--chunk"),
        (["--idle-timeout", "-1"], "--idle-timeout"),
        (["--idle-timeout", "soon"], "soon"),
        (["--idle-timeout", "nan"], "--idle-timeout"),
        (["--idle-timeout", "inf"], "--idle-timeout"),
        (["--max-connections", "-1"], "--max-connections"),
        (["--max-connections", "few"], "few"),
        (["--host", "192.0.2.1"], "192.0.2.1"),  # nobody's address (RFC 5737)
    )
    CLIENTS = (
        (["--count", "0"], "--count"),
        (["--count", "-1"], "--count"),
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "nan"], "--timeout"),
        (["--framing", "until-close", "--count", "2"], "--count"),
    )

    def assert_wrong(self, program, arguments, naming, **options):
        with self.subTest(program=os.path.basename(program), arguments=arguments):
            process = self.start(program, *arguments, **options)
            status, output, errors = process.end()
            self.assertGreater(status, 0)
            self.assertNotIn("listening", output)
            self.assert_one_line(errors, os.path.basename(program) + ": ", naming)

    def test_wrong_ones_get_one_line_that_names_them_and_an_exit_status_that_is_not_0(self):
        for arguments, naming in self.BOTH + self.SERVERS:
            self.assert_wrong(ECHO_SERVER, arguments, naming)
        for arguments, naming in self.BOTH + self.CLIENTS:
            self.assert_wrong(ECHO_CLIENT, arguments, naming)

    def test_an_unknown_backend_is_answered_with_those_that_there_are(self):
        for arguments, environment in ((["--backend", "kqueue"], {}), ([], {"REACTOR_BACKEND": "kqueue"})):
            status, _, errors = self.start(ECHO_SERVER, "--port", "0", *arguments, environment=environment).end()
            self.assertNotEqual(status, 0)
            self.assert_one_line(errors, "echo_server: ", "kqueue")
            for backend in BACKENDS:
                self.assertIn(backend, errors)

    def test_a_port_in_use_is_named(self):
        server = self.server()
        self.assert_wrong(ECHO_SERVER, ["--host", "127.0.0.1", "--port", server.port], f"127.0.0.1:{server.port}")
        self.assert_echoes(self.connect(server))

    def test_help_lists_every_option_with_its_default(self):
        common = {"--host": "localhost", "--port": "10000", "--backend": "auto", "--framing": "none",
                  "--max-message": "1048576"}
        both = {
            ECHO_SERVER: common | {"--idle-timeout": "0", "--max-connections": "0", "--chunk": "65536"},
            ECHO_CLIENT: common | {"--message": MESSAGE, "--count": "1", "--timeout": "10"},
        }
        for program, defaults in both.items():
            status, output, errors = self.start(program, "--help").end()
            self.assertEqual((status, errors), (0, ""))
            for option, default in defaults.items():
                self.assertRegex(output, rf"(?m)^  {option} .*={re.escape(default)}(\s|$)")
            for word in ["--help", *BACKENDS, "until-close"]:
                self.assertIn(word, output)
        self.assertIn("--verbose", self.start(ECHO_SERVER, "--help").end()[1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
