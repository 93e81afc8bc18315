"""Abuse of a server of HTTP and WebSocket: clients that send a byte now and then, that read nothing, that ask without end and send
without end, and a crowd that stays. Memory stays bounded, and an honest client is answered throughout. WEB says where the server
is, WEB_CONNECTIONS how many connections stay (1000)."""

import base64
import contextlib
import os
import resource
import select
import socket
import unittest

from processes import ProcessTest, raise_descriptor_limit

WEB = os.environ.get("WEB", "build/tests/soak/web")
SANITIZED = os.environ.get("SANITIZED", "none") != "none"
CONNECTIONS = int(os.environ.get("WEB_CONNECTIONS", "1000"))
KILOBYTE, MEGABYTE = 1 << 10, 1 << 20
HEAD = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
OUTPUT = 2 * 128 * KILOBYTE  # Limits::high_mark, and the room that a buffer of that size may have left


class WebAbuse(ProcessTest):
    def setUp(self):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        if not raise_descriptor_limit(CONNECTIONS + 500):
            self.skipTest(f"a process may have no more than {limits[1]} descriptors here")
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        self.server = self.start_server(WEB)
        self.honest = self.connect(self.server)
        self.assert_answered()
        self.memory = self.server.resident()

    def read_answer(self, client):
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.receive(client, 1)
        return answer + self.receive(client, int(answer.lower().partition(b"content-length: ")[2].split()[0]))

    def assert_answered(self):
        self.honest.sendall(HEAD % b"/")
        answer = self.read_answer(self.honest)
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\nhello\n"), answer)

    def assert_each_took_at_most(self, bytes_each, count):
        """Of the server's memory, with the honest client still answered."""
        self.assert_answered()
        taken = (self.server.resident() - self.memory) // count
        print(f"{self.id().split('.')[-1]}: {taken} bytes each", flush=True)
        if not SANITIZED:  # which keep memory back on purpose
            self.assertLessEqual(taken, bytes_each)

    def crowd(self, count, request=b"", receive_buffer=None):
        clients = []
        for _ in range(count):
            clients.append(self.connect(self.server, receive_buffer=receive_buffer))
            clients[-1].sendall(request)
        return clients

    def push(self, clients, data):
        """Sends without end until the server takes no more from any of them, and does nothing."""
        for client in clients:
            client.setblocking(False)
        while True:
            self.until_it_rests(self.server)
            ready = select.select([], clients, [], 0)[1]
            if not ready:
                return
            for client in ready:
                with contextlib.suppress(BlockingIOError):
                    client.send(data)

    def member(self, **options):
        client = self.connect(self.server, **options)
        key = base64.b64encode(bytes(16))
        client.sendall(b"GET /room HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                       b"Sec-WebSocket-Key: " + key + b"\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self.receive(client, 1)
        self.assertTrue(answer.startswith(b"HTTP/1.1 101 "), answer)
        return client

    def test_heads_that_come_a_byte_at_a_time_end_with_408(self):
        clients = self.crowd(300, b"GET / HTTP/1.1\r\nHost: a\r\nA: ")
        waiting, most = set(clients), 0
        while waiting:
            for client in list(waiting):
                with contextlib.suppress(ConnectionError):
                    client.sendall(b"x")
            self.assert_answered()
            most = max(most, self.server.resident())
            for client in select.select(list(waiting), [], [], 0)[0]:
                waiting.remove(client)
                self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 408 "))
                client.close()
        self.assert_each_took_at_most(4 * KILOBYTE, len(clients))
        if not SANITIZED:
            self.assertLess(most - self.memory, 8 * KILOBYTE * len(clients))

    def test_clients_that_read_nothing_cost_what_waits_for_them(self):
        clients = self.crowd(200, HEAD % b"/endless", receive_buffer=4096)
        self.until_it_rests(self.server)
        self.assert_each_took_at_most(OUTPUT + 32 * KILOBYTE, len(clients))

    def test_requests_without_end_are_not_read_while_their_answers_are_not(self):
        clients = self.crowd(20, receive_buffer=4096)
        self.push(clients, HEAD % b"/" * 2000)
        self.assert_each_took_at_most(OUTPUT + 64 * KILOBYTE, len(clients))

    def test_content_and_heads_without_end_are_refused(self):
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        for begin, more, status in (
                (b"POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", chunk, b"413"),
                (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", chunk, b"405"),
                (b"GET / HTTP/1.1\r\nHost: a\r\n", b"A: b\r\n" * 1000, b"431"),
                (b"GET /" + b"a" * 100, b"a" * 1000, b"414")):
            with self.subTest(status):
                client = self.connect(self.server)
                client.sendall(begin)
                answer = b""
                with contextlib.suppress(ConnectionError):
                    while True:
                        client.sendall(more)
                        self.assert_answered()
                        if select.select([client], [], [], 0)[0]:
                            piece = client.recv(65536)
                            answer += piece
                            if not piece:
                                break
                self.assertEqual(answer.split()[1], status, answer)
        self.assert_each_took_at_most(MEGABYTE, 4)

    def test_a_room_with_members_that_read_nothing_serves_the_one_that_does(self):
        for _ in range(100):
            self.member(receive_buffer=4096)
        speaker = self.member()
        message = b"x" * 8192
        frame = b"\x81\xfe" + len(message).to_bytes(2, "big") + bytes(4) + message  # masked with zeros
        for _ in range(500):
            speaker.sendall(frame)
            self.assertEqual(self.receive(speaker, 4 + len(message))[4:], message)
        # A message above the mark, twice, and the holes in the heap where the buffers were before they grew.
        self.assert_each_took_at_most(OUTPUT + 64 * KILOBYTE, 100)

    def test_connections_that_stay(self):
        clients = self.crowd(CONNECTIONS, HEAD % b"/")
        for client in clients:
            self.read_answer(client)
        self.assert_each_took_at_most(2 * KILOBYTE, len(clients))


if __name__ == "__main__":
    unittest.main(verbosity=2)
