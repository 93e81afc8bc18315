"""The programs as their users meet them: real processes, real sockets, real signals, on the backend that REACTOR_BACKEND
names. ECHO_SERVER and ECHO_CLIENT say where the programs are, SANITIZED whether a sanitizer is built into them."""

import contextlib
import errno
import fcntl
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

from processes import BACKEND, PATIENCE, ProcessTest, raise_descriptor_limit
from tutorial.fixed_length_socket import FixedLengthSocket

ECHO_SERVER = os.environ.get("ECHO_SERVER", "build/protocols/echo_server")
ECHO_CLIENT = os.environ.get("ECHO_CLIENT", "build/protocols/echo_client")
SANITIZED = os.environ.get("SANITIZED", "none") != "none"
FORWARDER = os.environ.get("FORWARDER", "build/protocols/forwarder")
FILE_SERVER = os.environ.get("FILE_SERVER", "build/protocols/file_server")
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
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
        # What is on its way still arrives after the server has come to rest, a timer of TCP later, and a process that
        # waits by select runs, inside the kernel, for every segment: it always waits for urgent data as well.
        test.until(lambda: segments_in_flight(client) == 0, "all that left the client to be acknowledged")
        test.until_it_rests(server)
        blocked = not writable.poll(0)
    client.settimeout(PATIENCE)
    return client, sent, block


def segments_in_flight(client):
    """How many have left and are not acknowledged: tcpi_unacked (linux/tcp.h)."""
    return struct.unpack_from("I", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]


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

    def assert_client_succeeds(self, server, *arguments, **options):
        status, output, errors = self.client(server, *arguments, **options)
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
        self.assert_served(server)
        if addresses == 2:
            self.assert_served(server, socket.AF_INET6)
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


class Surroundings(ProgramTest):
    """What a parent leaves behind: standard descriptors, blocked and ignored signals."""

    def broken_logs(self):
        """Ways to break a descriptor, by name: what to start with, what to do in the child, what to do afterwards."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        full = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(os.close, full)
        return {"a full disk": (full, None, None),
                "a pipe without a reader": (writing, None, lambda: os.close(reading)),
                "closed": (None, os.close, None)}

    def refused_port(self):
        """A port of the loopback that refuses connections for as long as the test runs."""
        bound = socket.socket()
        self.addCleanup(bound.close)
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]

    def test_forwarder_without_a_place_for_its_warnings(self):
        """S94: a warning that cannot be written is lost, and the forwarder goes on."""
        for name, (standard_error, close, then) in self.broken_logs().items():
            with self.subTest(standard_error=name):
                forwarder = self.start_server(
                    FORWARDER, "--listen", "127.0.0.1:0", "--to", f"127.0.0.1:{self.refused_port()}",
                    standard_error=standard_error, before=None if close is None else lambda: close(2))
                if then is not None:
                    then()
                for _ in range(3):
                    with contextlib.suppress(ConnectionError):
                        self.assert_ended(self.connect(forwarder))
                forwarder.signal(signal.SIGTERM)
                self.assertEqual(forwarder.end(), (0, "", ""))

    def test_servers_without_a_place_for_their_story(self):
        """S94: lines that cannot be written are lost, and clients are answered."""
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            port = reserved.getsockname()[1]
        with tempfile.NamedTemporaryFile() as file:
            file.write(MESSAGE.encode())
            file.flush()
            commands = ([ECHO_SERVER, "--stats", "0.001", "--verbose"], [ECHO_SERVER, "--threads", "2", "--stats", "0.001"],
                        [FILE_SERVER, file.name, "--verbose"])
            for name, (output, close, then) in self.broken_logs().items():
                for command in commands:
                    with self.subTest(program=os.path.basename(command[0]), standard_output=name):
                        # Its port cannot be read, so it is given one, and it serves when it can be connected to.
                        server = self.start(*command, "--host", "127.0.0.1", "--port", port, before=lambda: (
                            os.close(1) if output is None else os.dup2(output, 1)))
                        if then is not None:
                            then()
                            then = None
                        for _ in range(5):
                            client = self.connect_once_it_listens(server, port)
                            client.sendall(MESSAGE.encode())
                            self.assertEqual(self.receive(client, len(MESSAGE)), MESSAGE.encode())
                            client.shutdown(socket.SHUT_WR)
                            self.assertEqual(self.receive_all(client), b"")
                            client.close()
                        server.signal(signal.SIGTERM)
                        self.assertEqual(server.end(), (0, "", ""))

    def connect_once_it_listens(self, program, port):
        connected = []

        def listens():
            self.assertIsNone(program.process.poll(), "it has ended")
            with contextlib.suppress(ConnectionRefusedError):
                connected.append(self.connect(port))
            return connected

        self.until(listens, "the program to listen")
        return connected[0]

    def test_echo_client_without_a_place_for_its_story(self):
        """S94: echo_client does its work without its lines."""
        server = self.server()
        for name, (output, close, then) in self.broken_logs().items():
            with self.subTest(standard_output=name):
                client = self.start(ECHO_CLIENT, "--host", "127.0.0.1", "--port", server.port, before=lambda: (
                    os.close(1) if output is None else os.dup2(output, 1)))
                if then is not None:
                    then()
                self.assertEqual(client.end(), (0, "", ""))

    @needs_proc
    def test_closed_standard_descriptors_are_taken_by_nothing_else(self):
        """S94, S104: closed standard descriptors are /dev/null, so that no line is sent over a socket."""
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            port = reserved.getsockname()[1]
        server = self.start(ECHO_SERVER, "--host", "127.0.0.1", "--port", port, "--verbose",
                            before=lambda: os.closerange(0, 3))
        self.assert_echoes(self.connect_once_it_listens(server, port))
        self.assertEqual([os.readlink(f"/proc/{server.pid}/fd/{number}") for number in range(3)], ["/dev/null"] * 3)

    def servers(self):
        return ([ECHO_SERVER, "--host", "127.0.0.1", "--port", "0"], [ECHO_SERVER, "--udp", "--host", "127.0.0.1", "--port", "0"],
                [ECHO_SERVER, "--host", "127.0.0.1", "--port", "0", "--threads", "2"],
                [FILE_SERVER, __file__, "--host", "127.0.0.1", "--port", "0"],
                [FORWARDER, "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"])

    def test_blocked_signals_end_the_servers_all_the_same(self):
        """S97: the servers end on SIGTERM and SIGINT although their parent blocked every signal."""
        block = lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        for command in self.servers():
            for number in (signal.SIGTERM, signal.SIGINT):
                with self.subTest(command=command, signal=number):
                    self.assert_ends_well(self.start_server(*command, before=block), number)

    def test_blocked_signals_end_echo_client_all_the_same(self):
        """S97: echo_client ends on SIGTERM although its parent blocked every signal."""
        port = self.play_server(self.receive_all)
        client = self.start(ECHO_CLIENT, "--host", "127.0.0.1", "--port", port,
                            before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()))
        self.assertEqual(client.line(), f"connecting to 127.0.0.1 port {port}")
        self.assertEqual(client.line(), f'sending "{MESSAGE}"')
        client.signal(signal.SIGTERM)
        self.assertEqual(client.end()[0], -signal.SIGTERM)

    def test_nohup_protects_from_a_hang_up(self):
        """S97: a SIGHUP that is ignored from the start, by nohup, restarts nothing, and SIGTERM still ends the server."""
        server = self.server(before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        client = self.connect(server)
        server.signal(signal.SIGHUP)
        self.assert_echoes(client)
        client.close()
        server.signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(PATIENCE), 0)
        self.assert_refused_from_now_on(server.port)  # a successor would still accept


class Datagrams(ProgramTest):
    def udp(self, server, family=socket.AF_INET):
        """A UDP socket that is connected to a server."""
        client = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.settimeout(PATIENCE)
        client.connect(("::1" if family == socket.AF_INET6 else "127.0.0.1", server.port))
        return client

    def play_udp_server(self, answer):
        """Answers one datagram in a thread. Returns the port."""
        played = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(played.close)
        played.bind(("127.0.0.1", 0))
        played.settimeout(PATIENCE)

        def play():
            message, peer = played.recvfrom(70000)
            if answer is not None:
                played.sendto(answer(message), peer)

        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        self.addCleanup(thread.join, PATIENCE)
        return played.getsockname()[1]

    def test_each_comes_back_whole_from_both_addresses_of_localhost(self):
        families = [socket.AF_INET, socket.AF_INET6] if ipv6_loopback() else [socket.AF_INET]
        server = self.start_server(ECHO_SERVER, "--udp", "--port", "0", addresses=len(families))
        for family in families:
            client = self.udp(server, family)
            for size in (1, 0, 1472, 65000, 65507, 3):
                message = os.urandom(size)
                client.send(message)
                self.assertEqual(client.recv(70000), message)
        self.assert_ends_well(server)

    def test_echo_client_checks_each_that_it_sends(self):
        server = self.server("--udp")
        output = self.assert_client_succeeds(server, "--udp", "--count", "100")
        self.assertEqual(output.count(f'received "{MESSAGE}"\n'), 100)
        self.assertTrue(output.endswith("closing socket\n"))
        self.assert_client_succeeds(server, "--udp", "--message", "")
        self.assert_client_succeeds(server, "--udp", "--message", "x" * 65507)
        self.assert_client_fails(server, "--udp", "--message", "x" * 65508, naming="Message too l")  # musl: "large"

    def test_echo_client_says_what_broke(self):
        def fails(answer, naming, *arguments):
            self.assert_client_fails(self.play_udp_server(answer), "--udp", *arguments, naming=naming)

        fails(lambda message: message[:-1] + b"!", 'different bytes: byte 41 of message 1 came back as "!" and was "."')
        fails(lambda message: message[:10], "different bytes: message 1 came back with 10 of 42 bytes")
        fails(lambda message: message + b"x", "different bytes: more came back than the 42 of message 1")
        fails(None, "timed out: 127.0.0.1 was silent for 0.2 seconds", "--timeout", "0.2")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reserved:
            reserved.bind(("127.0.0.1", 0))
            dead = reserved.getsockname()[1]
        self.assert_client_fails(dead, "--udp", naming=f"cannot reach 127.0.0.1 port {dead}: Connection refused")

    def test_a_server_on_all_addresses_answers_from_the_one_that_was_asked(self):
        server = self.start_server(ECHO_SERVER, "--udp", "--host", "0.0.0.0", "--port", "0")
        for address in ("127.0.0.1", "127.0.0.2"):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.addCleanup(client.close)
            client.settimeout(PATIENCE)
            client.connect((address, server.port))  # from now on it hears of nobody else
            client.send(b"who are you?")
            self.assertEqual(client.recv(100), b"who are you?")

    def test_a_flood_costs_neither_memory_nor_the_next_client(self):
        server = self.server("--udp", "--stats", "3600")
        flood = self.udp(server)
        flood.setblocking(False)
        block = os.urandom(1000)
        for _ in range(50000):
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                flood.send(block)
        client = self.udp(server)
        client.settimeout(1)
        came = None
        for _ in range(PATIENCE):  # what comes while its buffer is full the kernel drops
            client.send(b"is anybody there?")
            with contextlib.suppress(TimeoutError, socket.timeout):
                came = client.recv(100)
                break
        self.assertEqual(came, b"is anybody there?")
        server.signal(signal.SIGTERM)
        status, output, errors = server.end()
        self.assertEqual((status, errors), (0, ""))
        counted = dict(word.split("=") for word in output.split()[1:])
        self.assertGreater(int(counted["received"]), 100)
        self.assertEqual(int(counted["sent"]) + int(counted["dropped"]), int(counted["received"]))

    def test_verbose_tells_what_comes_and_what_does_not_arrive(self):
        server = self.server("--udp", "--verbose")
        client = self.udp(server)
        name = "127.0.0.1:%d" % client.getsockname()[1]
        client.send(b'a "datagram"')
        self.assertEqual(server.line(), f'received "a \\"datagram\\"" from {name}')
        self.assertEqual(client.recv(100), b'a "datagram"')
        client.send(b"and gone")
        client.close()
        self.assertEqual(server.line(), f'received "and gone" from {name}')


class UnixSockets(ProgramTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "socket")
        self.name = f"@echo-{os.getpid()}-{random.randrange(1 << 62)}"

    def start_on(self, where, *arguments):
        server = self.start_server(ECHO_SERVER, "--host", "unix:" + where, *arguments)
        self.assertEqual(server.address, "unix:" + where)
        return server

    def ask(self, where, *arguments):
        status, output, errors = self.start(ECHO_CLIENT, "--host", "unix:" + where, *arguments).end()
        self.assertEqual((status, errors), (0, ""), output)
        self.assertIn("closing socket\n", output)
        self.assertIn(f"unix:{where}\n", output.splitlines(True)[0])

    def kinds(self):
        if sys.platform != "linux":  # without abstract names, which the client of datagrams needs too
            return [(self.path, [])]
        return [(where, kind) for where in (self.path, self.name) for kind in ([], ["--udp"])]

    def test_a_path_and_a_name_are_served_and_leave_nothing_behind(self):
        for where, kind in self.kinds():
            server = self.start_on(where, *kind)
            self.ask(where, *kind, "--count", "10")
            self.ask(where, *kind, "--message", "x" * 100000)
            self.assert_ends_well(server)
            self.assertFalse(os.path.exists(self.path))

    def test_what_a_killed_server_leaves_behind_does_not_keep_the_next_from_starting(self):
        for where, kind in self.kinds():
            server = self.start_on(where, *kind)
            server.kill()
            self.assertEqual(os.path.exists(self.path), where == self.path)
            server = self.start_on(where, *kind)
            self.ask(where, *kind)
            self.assert_ends_well(server)

    def test_a_server_that_lives_is_neither_replaced_nor_disturbed(self):
        for where, kind in self.kinds():
            server = self.start_on(where, "--verbose", *kind)
            for other in ([], ["--udp"]):
                if where == self.path or kind == other:  # names of the two kinds are apart
                    status, output, errors = self.start(ECHO_SERVER, "--host", "unix:" + where, *other).end()
                    self.assertEqual((status, output), (1, ""))
                    self.assert_one_line(errors, "echo_server: ", f"bind(unix:{where})")
            self.ask(where, *kind)
            server.signal(signal.SIGTERM)
            status, output, _ = server.end()
            self.assertEqual(status, 0)
            self.assertEqual(output.count("connection from"), 0 if kind else 1)

    def test_where_nobody_listens_the_client_says_so(self):
        for where, kind in self.kinds():
            status, _, errors = self.start(ECHO_CLIENT, "--host", "unix:" + where, *kind).end()
            self.assertEqual(status, 1)
            self.assert_one_line(errors, "echo_client: cannot ", "unix:" + where)


class Restarting(ProgramTest):
    def test_ten_times_under_load_it_loses_no_connection(self):
        server = self.server()

        def converse():
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
                for piece in (b"a word", b"and another"):
                    client.sendall(piece)
                    self.assertEqual(self.receive(client, len(piece)), piece)

        self.restart_under_load(server, 4, 10, converse)

    def test_a_connection_goes_on_with_the_process_that_accepted_it(self):
        server = self.server()
        client = self.connect(server)
        self.assert_echoes(client)
        self.restart(server, server.pid)
        self.assert_echoes(client, b"still there?")
        self.assertIsNone(server.process.poll())
        client.close()
        self.assertEqual(server.process.wait(PATIENCE), 0)
        self.assert_echoes(self.connect(server))

    def test_what_is_left_at_the_deadline_is_cut_and_said(self):
        server = self.server("--drain", "0.2")
        client = self.connect(server)
        self.assert_echoes(client)
        self.restart(server, server.pid)
        self.assert_ended(client)
        self.assertEqual(server.line(), "cut 1 connection(s), with 0 bytes unsent")

    def install(self, script=None):
        """Where a server's file is: a copy of echo_server, or a shell script instead."""
        if script is not None:
            with open(self.path + ".new", "w", encoding="utf-8") as file:
                file.write("#!/bin/sh\n" + script + "\n")
            os.chmod(self.path + ".new", 0o755)
            os.rename(self.path + ".new", self.path)  # the file that runs cannot be written to
            return self.path
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "echo_server")
        shutil.copy(ECHO_SERVER, self.path)
        return self.path

    def installed_server(self, *arguments, **options):
        return self.start_server(self.install(), "--host", "127.0.0.1", "--port", "0", *arguments, **options)

    def lines_until_restarted(self, server):
        """What it, and what comes after it, prints until a restart has succeeded; successors end with the test."""
        lines = []
        while True:
            lines.append(server.line())
            if told := re.fullmatch(r"process (\d+) goes on", lines[-1]):
                self.addCleanup(self.end_process, int(told[1]))
                return lines

    def test_successors_that_do_not_come_to_accept(self):
        """S98: a server goes on if its successor cannot be executed, or dies before it accepts."""
        server = self.installed_server()
        client = self.connect(server)

        def fails(reason):
            server.signal(signal.SIGHUP)
            self.assertEqual(server.line(), f"cannot restart: {self.path}: {reason}")
            self.assert_echoes(client)
            self.assert_served(server)

        for script in ("exit 127", "exit 0", "kill -KILL $$"):  # 127 is what the loader returns
            self.install(script)
            fails("the successor ended before it accepted")
        os.chmod(self.path, 0o644)
        fails("Permission denied")
        os.unlink(self.path)
        fails("No such file or directory")
        self.install(f'exec "{os.path.abspath(ECHO_SERVER)}" --host 127.0.0.1 --port 0 --threads 2')
        server.signal(signal.SIGHUP)
        self.assertEqual(server.line(), f"cannot restart: {self.path}: the successor ended before it accepted")
        self.assert_echoes(client)
        client.close()
        server.signal(signal.SIGTERM)
        status, output, errors = server.end()
        self.assertEqual((status, output), (0, ""))
        self.assert_one_line(errors, "echo_server: ", "--threads on inherited sockets")  # the last successor's

    def test_a_file_that_was_replaced_is_the_one_that_is_started(self):
        """S98: a restart starts the file that is installed by then, and the server accepts until that one does."""
        server = self.installed_server()
        client = self.connect(server)
        gate = os.path.join(os.path.dirname(self.path), "gate")
        os.mkfifo(gate)
        self.install(f'echo upgraded; read line <"{gate}"; exec "{os.path.abspath(ECHO_SERVER)}" "$@"')
        server.signal(signal.SIGHUP)
        self.assertEqual(server.line(), "upgraded")
        for _ in range(3):
            self.assert_served(server)
        server.signal(signal.SIGHUP)
        self.assertEqual(server.line(), "cannot restart: a restart is under way")
        with open(gate, "w", encoding="ascii") as file:
            file.write("go\n")
        self.lines_until_restarted(server)
        client.close()
        self.assertEqual(server.process.wait(PATIENCE), 0)
        self.assert_echoes(self.connect(server))

    def test_a_server_that_ends_takes_a_successor_along_that_does_not_accept_yet(self):
        """S98: SIGTERM while a successor starts ends both."""
        server = self.installed_server()
        self.install("echo $$; exec sleep 1000")
        server.signal(signal.SIGHUP)
        successor = int(server.line())
        self.addCleanup(self.end_process, successor)
        server.signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(PATIENCE), 0)
        self.assertFalse(os.path.exists(f"/proc/{successor}"))
        self.assert_refused_from_now_on(server.port)

    @needs_proc
    def test_signals_in_a_successor(self):
        """S97, S98: a second SIGHUP does not end a successor that has no handler yet, and it has no signal blocked then."""
        server = self.installed_server()
        self.install(f'kill -HUP $$; exec "{os.path.abspath(ECHO_SERVER)}" "$@"')
        server.signal(signal.SIGHUP)
        # The successor handles that SIGHUP when it can, restarts in its turn, and ends.
        successors = [int(self.lines_until_restarted(server)[-1].split()[1]) for _ in range(2)]
        self.assertEqual(server.process.wait(PATIENCE), 0)

        def living():
            result = []
            for process in successors:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    with open(f"/proc/{process}/stat", encoding="ascii") as stat:
                        if stat.read().rpartition(")")[2].split()[0] not in "ZX":
                            result.append(process)
            return result

        self.until(lambda: len(living()) < 2, "the first successor to end")
        last, = living()
        self.assert_echoes(self.connect(server))
        with open(f"/proc/{last}/status", encoding="ascii") as status:
            self.assertEqual(re.findall(r"SigBlk:\t(\w+)", status.read()), ["0" * 16])
        os.kill(last, signal.SIGTERM)
        self.assert_refused_from_now_on(server.port)

    @unittest.skipUnless(sys.platform == "linux" and os.geteuid() == 0, "only root may make a PID namespace")
    def test_process_1_of_a_container_does_not_restart(self):
        """S98: process 1 refuses to restart, because all others end with it."""
        command = ["unshare", "--pid", "--fork", "--kill-child", ECHO_SERVER]
        if subprocess.run([*command[:4], "true"], stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("a PID namespace cannot be made here")
        server = self.start_server(*command, "--host", "127.0.0.1", "--port", "0")
        with open(f"/proc/{server.pid}/task/{server.pid}/children", encoding="ascii") as children:
            process = int(children.read().split()[0])
        os.kill(process, signal.SIGHUP)
        self.assertEqual(server.line(), "cannot restart: the end of process 1 would end its successor, too")
        self.assert_served(server)
        os.kill(process, signal.SIGTERM)
        self.assertEqual(server.process.wait(PATIENCE), 0)

    def test_it_listens_on_the_sockets_that_it_is_started_with(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            waiting = self.connect(listener.getsockname()[1])  # accepted by nobody yet
            keep = fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD, 10)
            self.addCleanup(os.close, keep)
            os.set_inheritable(keep, True)
            become = ("import os, sys; os.dup2(int(sys.argv[1]), 3); "
                      "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); os.execv(sys.argv[2], sys.argv[2:])")
            server = self.start_server(sys.executable, "-c", become, keep, ECHO_SERVER, pass_descriptors=(keep,))
            self.assertEqual(server.port, listener.getsockname()[1])
            self.assert_echoes(waiting)


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
        self.assert_served(server)
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

    def test_what_a_client_sends_beyond_the_rate_comes_back_all_the_same(self):
        client = self.connect(self.server("--rate", "100000"))
        self.assert_echoes(client, random.Random(8).randbytes(110_000))

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
                         [f"connection from {peer}", f"connection from {peer} ended: silent for too long"])
        self.assert_echoes(self.connect(server))


class ManyThreads(ProgramTest):
    SHARINGS = ("reuse-port", "round-robin", "least-connections")

    def loops(self, server, count):
        """Ends the server and returns what its loops counted last, by their numbers."""
        server.signal(signal.SIGTERM)
        status, output, errors = server.end()
        self.assertEqual((status, errors), (0, ""))
        lines = re.findall(r"^stats: loop=(\d+) (.*)$", output, re.MULTILINE)
        loops = {int(loop): dict((key, int(value)) for key, value in re.findall(r"(\w+)=(\d+)", rest))
                 for loop, rest in lines}
        self.assertEqual(sorted(loops), list(range(count)), output)
        return loops

    def test_every_way_to_share_serves_everybody_and_ends_well(self):
        for sharing in self.SHARINGS:
            with self.subTest(sharing=sharing):
                server = self.server("--threads", 3, "--sharing", sharing, "--stats", 1000)
                clients = [self.connect(server) for _ in range(30)]
                for client in clients:
                    self.assert_echoes(client)
                for client in clients:
                    client.close()
                loops = self.loops(server, 3)
                accepted = [loop["accepted"] for loop in loops.values()]
                self.assertEqual(sum(accepted), 30)
                if sharing != "reuse-port":
                    self.assertEqual(accepted, [30, 0, 0])  # one listens,
                    self.assertGreater(min(loop["events"] for loop in loops.values()), 10)  # and all serve

    @needs_proc
    def test_each_thread_has_a_name_and_hears_no_signals(self):
        server = self.server("--threads", 2)
        terminate = 1 << (signal.SIGTERM - 1)
        blocked = {}

        def named():
            blocked.clear()
            for thread in os.listdir(f"/proc/{server.pid}/task"):
                with open(f"/proc/{server.pid}/task/{thread}/status", encoding="ascii") as file:
                    fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
                blocked[fields["Name"]] = int(fields["SigBlk"], 16) & terminate
            # The main thread hears none either while it starts the others, which then have what it had.
            return {"echo-0", "echo-1"} <= blocked.keys() and blocked.get("echo_server") == 0

        self.until(named, "two threads to have their names, and the main thread to hear signals")
        self.assertEqual([blocked[name] for name in ("echo-0", "echo-1")], [terminate, terminate])
        self.assert_ends_well(server)

    def test_max_connections_holds_for_all_loops_together(self):
        for sharing in self.SHARINGS[1:]:
            with self.subTest(sharing=sharing):
                server = self.server("--threads", 2, "--sharing", sharing, "--max-connections", 2)
                first, second = self.connect(server), self.connect(server)
                self.assert_echoes(first)
                self.assert_echoes(second)
                third = self.connect(server)
                third.sendall(MESSAGE.encode())
                third.settimeout(0.05)
                self.assertRaises(TimeoutError, third.recv, 1)
                third.settimeout(PATIENCE)
                first.close()
                self.assertEqual(third.recv(len(MESSAGE), socket.MSG_WAITALL), MESSAGE.encode())
                second.close()
                third.close()
                self.assert_ends_well(server)

    def test_a_Unix_socket_is_handed_over_and_not_shared_by_the_kernel(self):
        path = f"unix:/tmp/echo-{os.getpid()}-{BACKEND}"
        status, output, errors = self.start(ECHO_SERVER, "--host", path, "--threads", 2).end()
        self.assertNotEqual(status, 0)
        self.assert_one_line(errors, "echo_server: ", "round-robin")
        server = self.start(ECHO_SERVER, "--host", path, "--threads", 2, "--sharing", "round-robin")
        server.line()
        for _ in range(4):
            self.assertIn("closing socket\n", self.assert_client_succeeds(0, host=path))
        self.assert_ends_well(server)


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

    def test_coroutines_answer_each_as_protocols_do(self):
        for framing, wire in self.WIRE.items():
            with self.subTest(framing=framing):
                server = self.server("--coroutines", "--framing", framing)
                client = self.connect(server)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for byte in wire:
                    client.sendall(bytes([byte]))
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(self.receive_all(client), wire)
                self.assert_echoes(self.connect(server), wire)
        client = self.connect(self.server("--coroutines"))
        data = random.Random(7).randbytes(1 << 20)
        sender = threading.Thread(target=client.sendall, args=(data,), daemon=True)
        sender.start()
        self.assertEqual(self.receive(client, len(data)), data)
        sender.join(PATIENCE)

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


class FileServer(ProgramTest):
    def serve(self, content, *options, **more):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = os.path.join(folder.name, "file")
        self.write(content)
        return self.start_server(FILE_SERVER, self.file, "--host", "127.0.0.1", "--port", "0", *options, **more)

    def write(self, content):
        with open(self.file, "wb") as file:
            file.write(content)

    def test_whoever_connects_gets_all_of_it_and_then_the_end(self):
        content = random.Random(8).randbytes(5_000_000)
        server = self.serve(content)
        clients = [self.connect(server) for _ in range(20)]
        for number, client in enumerate(clients):
            if number % 2 == 0:
                client.shutdown(socket.SHUT_WR)
            self.assertEqual(self.receive_all(client), content)
        self.write(b"")
        self.assertEqual(self.receive_all(self.connect(server)), b"")
        self.write(b"anew")
        self.assertEqual(self.receive_all(self.connect(server)), b"anew")

    @needs_proc
    def test_peers_that_read_nothing_cost_bounded_memory_and_no_CPU_and_leave_no_descriptor_behind(self):
        server = self.serve(random.Random(9).randbytes(30_000_000))
        before, open_before = server.resident(), server.descriptors()
        clients = [self.connect(server, receive_buffer=32768) for _ in range(50)]
        for client in clients:
            client.recv(1)
        self.assert_rests(server)
        if not SANITIZED:
            self.assertLess(server.resident() - before, 4 << 20)
        self.assertEqual(server.descriptors(), open_before + 100)
        for client in clients:
            client.close()
        self.until(lambda: server.descriptors() == open_before, "its descriptors to be closed")

    def test_a_file_that_becomes_shorter_or_goes_costs_its_connection_a_reset(self):
        server = self.serve(random.Random(10).randbytes(30_000_000), "--verbose")
        client = self.connect(server, receive_buffer=32768)
        client.recv(1)
        os.truncate(self.file, 10)
        with self.assertRaises(ConnectionResetError):
            while client.recv(1 << 20):
                pass
        self.assertRegex(server.line(), r"^127\.0\.0\.1:\d+: a file became shorter while it was being sent$")
        client = self.connect(server)
        self.assertEqual(len(self.receive_all(client)), 10)
        client.close()
        self.assertRegex(server.line(), r": sent$")
        os.unlink(self.file)
        with self.assertRaises(ConnectionResetError):
            self.connect(server).recv(1)
        self.assertRegex(server.line(), r": No such file or directory$")
        os.mkfifo(self.file)
        with self.assertRaises(ConnectionResetError):
            self.connect(server).recv(1)

    def test_who_does_not_close_when_all_has_come_is_let_go_of(self):
        server = self.serve(b"short", "--timeout", "0.2", "--verbose")
        client = self.connect(server)
        self.assertEqual(self.receive_all(client), b"short")
        self.assertRegex(server.line(), r": the connection was not closed in time$")

    def test_after_a_signal_transfers_come_to_their_end_and_nothing_more_is_accepted(self):
        content = random.Random(11).randbytes(5_000_000)
        server = self.serve(content)
        client = self.connect(server, receive_buffer=32768)
        beginning = client.recv(1)
        server.signal(signal.SIGTERM)
        self.assert_refused_from_now_on(server.port)
        self.assertEqual(beginning + self.receive_all(client), content)
        client.close()
        status, _, errors = server.end()
        self.assertEqual((status, errors), (0, ""))

    def test_a_second_signal_resets_the_transfers_that_are_left(self):
        server = self.serve(random.Random(12).randbytes(30_000_000))
        client = self.connect(server, receive_buffer=32768)
        client.recv(1)
        server.signal(signal.SIGTERM)
        self.assert_refused_from_now_on(server.port)
        server.signal(signal.SIGINT)
        status, output, errors = server.end()
        self.assertEqual((status, errors), (0, ""))
        self.assertRegex(output, r"^cut [1-9]\d* connection\(s\), with [1-9]\d* bytes unsent\n$")
        with self.assertRaises(ConnectionResetError):
            self.receive_all(client)

    def test_a_file_that_is_not_there_gets_one_line(self):
        status, output, errors = self.start(FILE_SERVER, "/does/not/exist", "--port", "0").end()
        self.assertEqual((status, output, errors), (1, "", "file_server: /does/not/exist: No such file or directory\n"))

    def test_what_cannot_be_served_gets_one_line(self):
        refused = (
            (["/"], 1, "/: not a regular file"),
            (["/dev/null"], 1, "/dev/null: not a regular file"),
            ([__file__, "--rate", "-1"], 2, "--rate: -1 is not a whole number from 0 to 1099511627776"),
        )
        for arguments, status, words in refused:
            with self.subTest(arguments=arguments):
                ended, output, errors = self.start(FILE_SERVER, *arguments, "--port", "0").end()
                self.assertEqual((ended, output), (status, ""))
                self.assertEqual(errors.split("; ")[0].rstrip("\n"), "file_server: " + words)

    @needs_proc
    def test_a_file_that_says_it_is_empty_and_is_not_gets_one_line_and_is_not_sent_as_nothing(self):
        name = "/proc/self/status"
        status, output, errors = self.start(FILE_SERVER, name, "--port", "0").end()
        expected = f"file_server: {name}: the file has content, and a size of 0\n"
        self.assertEqual((status, output, errors), (1, "", expected))


class Forwarder(ProgramTest):
    def forward(self, port, *options):
        return self.start_server(FORWARDER, "--listen", "127.0.0.1:0", "--to", f"127.0.0.1:{port}", *options)

    def test_8_MB_come_back_exactly_and_then_the_end(self):
        client = self.connect(self.forward(self.server().port))
        message = random.Random(7).randbytes(8_000_000)
        sender = threading.Thread(target=lambda: (client.sendall(message), client.shutdown(socket.SHUT_WR)))
        sender.start()
        back = self.receive_all(client)
        sender.join(PATIENCE)
        self.assertEqual(back, message)

    def test_200_clients_at_once_leave_no_descriptor_behind(self):
        forwarder = self.forward(self.server().port)
        before = forwarder.descriptors()
        clients = [self.connect(forwarder) for _ in range(200)]
        for client in clients:
            self.assert_echoes(client)
        for client in clients:
            client.close()
        self.until(lambda: forwarder.descriptors() == before, "its descriptors to be closed")
        self.assert_rests(forwarder)

    def test_after_a_signal_conversations_go_on_to_their_end_and_nothing_more_is_accepted(self):
        forwarder = self.forward(self.server().port)
        clients = [self.connect(forwarder) for _ in range(3)]
        for client in clients:
            self.assert_echoes(client)
        forwarder.signal(signal.SIGTERM)
        self.assert_refused_from_now_on(forwarder.port)
        for client in clients:
            self.assert_echoes(client)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(self.receive_all(client), b"")
        self.assertEqual(forwarder.end(), (0, "", ""))

    def test_a_second_signal_or_the_end_of_the_drain_resets_both_ends_of_the_conversations_that_are_left(self):
        for signals, options in (((signal.SIGTERM, signal.SIGINT), ()), ((signal.SIGTERM,), ("--drain", "0.2"))):
            with socket.create_server(("127.0.0.1", 0)) as target:
                forwarder = self.forward(target.getsockname()[1], *options)
                client = self.connect(forwarder)
                far, _ = target.accept()
                client.sendall(b"x")
                self.assertEqual(far.recv(1), b"x")
                for number in signals:
                    forwarder.signal(number)
                    self.assert_refused_from_now_on(forwarder.port)
                status, output, errors = forwarder.end()
                self.assertEqual((status, errors), (0, ""))
                # Two for each client; one that came just before the end may be among them.
                self.assertRegex(output, r"^cut \d+ connection\(s\), with 0 bytes unsent\n$")
                for end in (client, far):
                    with self.assertRaises(ConnectionResetError):
                        end.recv(1)
                far.close()

    def test_an_address_that_is_none_gets_one_line(self):
        for listen, to in (("127.0.0.1", "localhost:1"), ("localhost:0", "::1:80"), ("localhost:0", "localhost:http")):
            status, output, errors = self.start(FORWARDER, "--listen", listen, "--to", to).end()
            self.assertEqual((status, output), (1, ""))
            self.assertRegex(errors, r"^forwarder: [^\n]*\n$")

    @staticmethod
    def is_refused(port):
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED

    def test_a_target_that_fails_gets_a_line_when_it_begins_to_and_one_when_it_works_again(self):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
        forwarder = self.forward(port)

        def turned_away():
            with contextlib.suppress(ConnectionError), self.connect(forwarder) as client:  # it may come while still connecting
                self.assert_ended(client)

        for _ in range(3):
            turned_away()
        server = self.start_server(ECHO_SERVER, "--host", "127.0.0.1", "--port", str(port))
        for _ in range(2):
            self.assert_served(forwarder)
        server.kill()
        # The ring of a process that was killed is freed later by the kernel, and with it the listening socket.
        self.until(lambda: self.is_refused(port), "the port to be free")
        turned_away()
        forwarder.signal(signal.SIGTERM)
        status, _, errors = forwarder.end()
        refused = f"forwarder: cannot connect to 127.0.0.1:{port}: Connection refused\n"
        self.assertEqual((status, errors), (0, f"{refused}forwarder: 127.0.0.1:{port} answers again\n{refused}"))

    def test_it_does_not_take_itself_as_its_target(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with tempfile.TemporaryDirectory() as folder:
            for listen, to in ((f"127.0.0.1:{port}", f"127.0.0.1:{port}"), (f":{port}", f"localhost:{port}"),
                               (f"localhost:{port}", f":{port}"), (f"unix:{folder}/s", f"unix:{folder}/s")):
                status, output, errors = self.start(FORWARDER, "--listen", listen, "--to", to).end()
                self.assertEqual((status, output), (1, ""))
                self.assertRegex(errors, r"^forwarder: --to: [^\n]* is where it listens itself\n$")


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
        (["--udp", "--framing", "lines"], "--udp"),
        (["--host", "unix:"], "unix:"),
        (["--host", "unix:/" + "x" * 108], "name too long"),  # musl: "Filename"
        (["--port", "70000"], "--port: 70000 is not a whole number from 0 to 65535"),
        (["--port", "-1"], "--port: -1 is not a whole number from 0 to 65535"),
        (["--port", "http"], "--port: http is not a whole number from 0 to 65535"),
        (["--port"], "--port needs a value: UINT 0 to 65535"),
        (["--port", "1", "--port", "2"], "--port is given more than once"),
        (["--backend", "kqueue"], "kqueue"),
        (["--backend", ""], "''"),
        (["--framing", "fixed"], "'fixed'"),
        (["--framing", "fixed:0"], "--framing: 'fixed:0' is no framing: N is a whole number from 1 to 1048576"),
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
        (["--threads", "-1"], "--threads"),
        (["--threads", "2000"], "--threads"),
        (["--sharing", "fairly"], "fairly"),
        (["--drain"], "--drain needs a value: FLOAT 0 to 1000000000"),
        (["--stats", "nan"], "--stats"),
        (["--busy-wait", "1.5"], "--busy-wait: 1.5 is not a whole number from 0 to 1000000"),
        (["--idle-timeout", "-1"], "--idle-timeout"),
        (["--idle-timeout", "soon"], "soon"),
        (["--idle-timeout", "nan"], "--idle-timeout"),
        (["--idle-timeout", "inf"], "--idle-timeout"),
        (["--idle-timeout", "1e300"], "--idle-timeout: 1e300 is not a number from 0 to 1000000000"),
        (["--stats", "1e300"], "--stats"),
        (["--drain", "-1"], "--drain"),
        (["--max-connections", "-1"], "--max-connections"),
        (["--max-connections", "few"], "few"),
        (["--host", "192.0.2.1"], "192.0.2.1"),  # nobody's address (RFC 5737)
        (["--udp", "--host", "192.0.2.1"], "192.0.2.1"),
        (["--udp", "--chunk", "1"], "--udp"),
        (["--udp", "--drain", "1"], "--udp"),
    )
    CLIENTS = (
        (["--count", "0"], "--count"),
        (["--count", "-1"], "--count"),
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "nan"], "--timeout"),
        (["--timeout", "1e300"], "--timeout"),
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

    def test_inherited_sockets_that_are_no_number_are_an_error(self):
        self.assert_wrong(ECHO_SERVER, ["--port", "0"], "LISTEN_FDS='abc'", environment={"LISTEN_FDS": "abc"})
        self.assert_wrong(ECHO_SERVER, ["--port", "0"], "LISTEN_PID='-1'", environment={"LISTEN_PID": "-1", "LISTEN_FDS": "1"})

    def test_each_says_its_version(self):
        for program in (ECHO_SERVER, ECHO_CLIENT, FILE_SERVER, FORWARDER):
            status, output, errors = self.start(program, "--version").end()
            self.assertEqual((status, errors), (0, ""))
            self.assertRegex(output, rf"^{os.path.basename(program)} \d+\.\d+\.\d+\n$")

    def test_a_port_in_use_is_named(self):
        server = self.server()
        self.assert_wrong(ECHO_SERVER, ["--host", "127.0.0.1", "--port", server.port], f"127.0.0.1:{server.port}")
        self.assert_echoes(self.connect(server))

    def test_the_man_pages_tell_of_every_option_that_help_lists_and_of_no_other(self):
        for program in (ECHO_SERVER, ECHO_CLIENT, FILE_SERVER, FORWARDER):
            name = os.path.basename(program)
            with self.subTest(program=name):
                listed = re.findall(r"(?m)^  (?:-h,)?(--[a-z-]+)", self.start(program, "--help").end()[1])
                with open(os.path.join(TOP, "protocols", "programs", name + ".1"), encoding="utf-8") as page:
                    text = page.read().replace("\\-", "-")
                described = re.findall(r"(?m)^\.TP\n\.BI? (--[a-z-]+)", text)
                if not any("tls" in option for option in listed):  # a build without libreactor-tls
                    described = [option for option in described if "tls" not in option]
                self.assertEqual(sorted(described), sorted(listed))
                if "--udp" in listed:
                    excluded = re.search(r"--udp Excludes: (.*)", self.start(program, "--help").end()[1])[1].split()
                    told = re.search(r"(?s)\.TP\n\.B --udp\n(.*?)\.TP", text)[1]
                    self.assertEqual([option for option in excluded if option not in told], [])

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
                value = re.escape(default)  # CLI11 shows it behind "=", from 2.4 on in brackets
                self.assertRegex(output, rf"(?m)^  {option} .*(={value}|\[{value}\])(\s|$)")
            for word in ["--help", *BACKENDS, "until-close"]:
                self.assertIn(word, output)
        self.assertIn("--verbose", self.start(ECHO_SERVER, "--help").end()[1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
