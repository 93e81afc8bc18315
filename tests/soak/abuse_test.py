"""Abuse of the programs: storms of resets, peers that read nothing, targets and name servers that are silent, and a crowd
of subscribers. Memory, descriptors and threads stay bounded, and an honest client is answered throughout."""

import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

from processes import ProcessTest, raise_descriptor_limit
from programs_test import reset

ECHO_SERVER, FORWARDER, BROKER = (os.environ.get(name, "") for name in ("ECHO_SERVER", "FORWARDER", "BROKER"))
SANITIZED = os.environ.get("SANITIZED", "none") != "none"
MEGABYTE = 1 << 20


class Abuse(ProcessTest):
    def setUp(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if not raise_descriptor_limit(2500):
            self.skipTest(f"a process may have no more than {hard} descriptors here")
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    def echo_server(self, *arguments, **options):
        return self.start_server(ECHO_SERVER, "--host", "127.0.0.1", "--port", "0", *arguments, **options)

    def forwarder(self, to):
        """One whose warnings go to a full disk."""
        full = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(os.close, full)
        return self.start_server(FORWARDER, "--listen", "127.0.0.1:0", "--to", to, standard_error=full)

    def assert_grew_little(self, program, before, allowed):
        if not SANITIZED:  # which keep memory back on purpose
            self.assertLess(program.resident() - before, allowed)

    def assert_descriptors_return_to(self, program, before):
        self.until(lambda: program.descriptors() <= before, f"{before} descriptors; there are {program.descriptors()}")

    def storm(self, server, count, then=lambda: None):
        """Clients that connect, send or not, and reset."""
        for number in range(count):
            client = self.connect(server)
            if number % 3 != 0:
                with contextlib.suppress(ConnectionError):
                    client.sendall(b"x" * (number % 3 * 1000))
            reset(client)
            if number % 50 == 0:
                then()

    def test_a_storm_of_resets(self):
        """A storm of resets costs server and forwarder nothing that stays."""
        server = self.echo_server()
        forwarder = self.forwarder(f"127.0.0.1:{server.port}")
        for program in (server, forwarder):
            honest = self.connect(program)
            self.assert_echoes(honest)
            before, memory = program.descriptors(), program.resident()
            self.storm(program, 600, lambda: self.assert_echoes(honest))
            self.assert_echoes(honest)
            self.assert_descriptors_return_to(program, before)
            self.assert_grew_little(program, memory, 4 * MEGABYTE)
            honest.close()

    def test_peers_that_read_nothing(self):
        """S40: 40 peers that send and read nothing take bounded memory of server and forwarder."""
        server = self.echo_server()
        forwarder = self.forwarder(f"127.0.0.1:{server.port}")
        honest = self.connect(forwarder)
        self.assert_echoes(honest, b"x" * 100_000)
        memory = {program: program.resident() for program in (server, forwarder)}
        clients = [self.connect(program, receive_buffer=4096) for program in (server, forwarder) for _ in range(20)]
        block = bytes(1 << 16)
        for client in clients:
            client.setblocking(False)
        for _ in range(100):
            for client in select.select([], clients, [], 0)[1]:
                with contextlib.suppress(BlockingIOError):
                    client.send(block)
            self.assert_echoes(honest)
        for program, before in memory.items():
            self.assert_grew_little(program, before, 16 * MEGABYTE)
        for client in clients:
            reset(client)
        self.assert_echoes(honest)

    def test_a_silent_target(self):
        """S109: a forwarder keeps no client that has reset while its target is silent."""
        server = self.echo_server()
        forwarder = self.forwarder(f"127.0.0.1:{server.port}")
        before = forwarder.descriptors()
        server.signal(signal.SIGSTOP)  # from now on the kernel takes connections and bytes, and nothing answers
        self.addCleanup(server.signal, signal.SIGCONT)
        clients = []
        for number in range(300):
            client = self.connect(forwarder)
            clients.append(client)
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):  # some until nothing more fits anywhere
                for _ in range(400 if number < 5 else 1):
                    client.send(bytes(1 << 16))
        self.until(lambda: forwarder.descriptors() >= before + 600, "two descriptors for each client")
        for client in clients:
            reset(client)
        self.assert_descriptors_return_to(forwarder, before + 32)  # a loop keeps 16 pipes for splice(2)
        server.signal(signal.SIGCONT)
        self.assert_echoes(self.connect(forwarder))

    @unittest.skipUnless(sys.platform == "linux" and os.geteuid() == 0, "only root may replace a process's resolv.conf")
    def test_a_silent_name_server(self):
        """S99: a forwarder whose name server is silent has few threads, forgets clients that leave, and serves an honest one
        when the name server answers."""
        server = self.echo_server()
        speaks = self.play_name_server()
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("nameserver 127.53.53.53\noptions timeout:2 attempts:5\n")  # asks again every 2 s
            file.flush()
            script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", script, file.name]
            if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode != 0:
                self.skipTest("a mount namespace cannot be made here")
            forwarder = self.start_server(*command, FORWARDER, "--listen", "127.0.0.1:0", "--to",
                                          f"silent.example:{server.port}", "--connect-timeout", "60")
        before, memory = forwarder.descriptors(), forwarder.resident()
        clients = [self.connect(forwarder) for _ in range(300)]
        self.until(lambda: forwarder.descriptors() >= before + 300, "the forwarder to accept all of them")
        self.assertLessEqual(forwarder.status("Threads"), 20)
        self.assert_grew_little(forwarder, memory, 16 * MEGABYTE)
        for client in clients:
            reset(client)
        self.storm(forwarder, 100)
        # Of the look-ups that are under way each thread may keep a descriptor: its socket.
        self.assert_descriptors_return_to(forwarder, before + 20)
        self.assertLessEqual(forwarder.status("Threads"), 20)
        honest = self.connect(forwarder)
        speaks.set()
        self.assert_echoes(honest)

    def play_name_server(self):
        """One at 127.53.53.53 that is silent until the event is set. It then says that every name is 127.0.0.1."""
        name_server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(name_server.close)
        try:
            name_server.bind(("127.53.53.53", 53))
        except OSError as error:
            self.skipTest(f"a name server cannot be played here: {error}")
        speaks, ends = threading.Event(), threading.Event()

        def play():
            while not ends.is_set():
                if not select.select([name_server], [], [], 0.1)[0]:
                    continue
                query, client = name_server.recvfrom(512)
                if not speaks.is_set():
                    continue
                end = query.index(b"\0", 12) + 5  # of the question: a name, its type and its class (RFC 1035, 4.1)
                has_answer = query[end - 4:end - 2] == b"\0\1"  # an IPv4 address is asked for
                answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if has_answer else b""
                counts = b"\0\1" + bytes([0, has_answer]) + bytes(4)
                name_server.sendto(query[:2] + b"\x84\0" + counts + query[12:end] + answer, client)

        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(ends.set)
        return speaks

    def test_1000_subscribers(self):
        """S110: while one client publishes thousands of lines to 1000 subscribers, another one is answered again and again."""
        broker = self.start_server(BROKER)
        subscribers = [self.connect(broker) for _ in range(1000)]
        for subscriber in subscribers:
            subscriber.sendall(b"SUBSCRIBE t\r\n")
        for subscriber in subscribers:
            self.assertEqual(self.receive(subscriber, 4), b"OK\r\n")
        memory = broker.resident()
        publisher, honest = self.connect(broker), self.connect(broker)
        line = b"PUBLISH t x\r\n"
        lines = (1 << 16) // len(line)
        answers = []

        def publish():
            publisher.sendall(line * lines)
            received = b""
            while received.count(b"\n") < lines:
                piece = publisher.recv(1 << 16)
                if not piece:
                    return
                received += piece
            answers.append(received)

        thread = threading.Thread(target=publish, daemon=True)
        thread.start()
        answered = 0
        while thread.is_alive():
            honest.sendall(b"PING\r\n")
            self.assertEqual(self.receive(honest, 6), b"PONG\r\n")
            answered += 1
        self.assertEqual(len(answers), 1)
        self.assertEqual(answers[0].count(b"\n"), lines)
        self.assertGreater(answered, 10)
        self.assert_grew_little(broker, memory, 128 * MEGABYTE)  # 64 KiB may wait for each
        # The last subscriber has, or gets, all of it, or is told how much it missed.
        missed = count = 0
        received = b""
        honest.sendall(b"PUBLISH t end\r\n")
        self.receive(honest, len(b"OK 1000\r\n"))
        while b"MESSAGE t end" not in received:
            received += subscribers[-1].recv(1 << 16)
        for word in received.split(b"\r\n"):
            count += word == b"MESSAGE t x"
            if word.startswith(b"DROPPED "):
                missed += int(word.split()[1])
        self.assertEqual(count + missed, lines)


if __name__ == "__main__":
    unittest.main(verbosity=2)
