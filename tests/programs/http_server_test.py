"""http_server as a process: real clients, real signals, on the backend that REACTOR_BACKEND names. HTTP_SERVER says where
the program is."""

import base64
import contextlib
import hashlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from processes import BACKEND, PATIENCE, ProcessTest, Program

HTTP_SERVER = os.environ.get("HTTP_SERVER", "build/protocols/http_server")


class HttpServer(ProcessTest):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.write("index.html", b"<!doctype html><p>hello")
        self.large = bytes(range(256)) * 8192  # 2 MiB
        self.write("large.bin", self.large)

    def write(self, name, content):
        with open(os.path.join(self.folder.name, name), "wb") as file:
            file.write(content)

    def serve(self, *options, host="127.0.0.1"):
        server = Program(HTTP_SERVER, self.folder.name, "--host", host, "--port", "0", "--backend", BACKEND, *options)
        self.addCleanup(server.let_go)
        line = server.line()
        self.assertTrue(line.startswith("listening on "), line)
        return server, line.split()[2].rpartition(":")[2]

    def connect(self, port):
        client = http.client.HTTPConnection("127.0.0.1", int(port), timeout=PATIENCE)
        self.addCleanup(client.close)
        return client

    def test_a_connection_serves_one_request_after_another(self):
        server, port = self.serve("--log")
        client = self.connect(port)
        for path, status, content in (("/", 200, b"<!doctype html><p>hello"), ("/large.bin", 200, self.large),
                                      ("/absent", 404, b"not found\n")):
            client.request("GET", path)
            answer = client.getresponse()
            self.assertEqual((answer.status, answer.read()), (status, content))
            client_address, method, target, logged, size, seconds = server.line().split()
            self.assertEqual((method, target, logged, size), ("GET", path, str(status), str(len(content))))
            self.assertTrue(client_address.startswith("127.0.0.1:"))
            self.assertGreaterEqual(float(seconds), 0)

    def test_a_request_that_is_not_allowed_gets_its_status_before_the_connection_closes(self):
        _, port = self.serve()
        for request, status in ((b"GET / HTTP/1.1\r\n\r\n", b"400"), (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", b"505"),
                                (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n", b"414"),
                                (b"GET / HTTP/1.1\r\nA: " + b"x" * 20000, b"431"),
                                (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
                                (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                                 b"400")):
            with self.subTest(request[:40]), socket.create_connection(("127.0.0.1", int(port)), PATIENCE) as client:
                # Content that the server never reads must not destroy its answer by a reset.
                client.sendall(request + b"y" * 100_000)
                answer = b""
                while piece := client.recv(65536):
                    answer += piece
                self.assertEqual(answer.split()[1], status)
                self.assertIn(b"\r\nConnection: close\r\n", answer)

    def assert_ends_in_good_order(self, port, end):
        """A transfer that is under way at the end is whole, and an idle connection is closed."""
        idle, busy = self.connect(port), self.connect(port)
        idle.request("GET", "/")
        idle.getresponse().read()
        busy.request("GET", "/large.bin")
        answer = busy.getresponse()
        first = answer.read(1000)
        end()
        self.assertEqual(idle.sock.recv(1), b"")
        idle.close()
        self.assertEqual(first + answer.read(), self.large)
        busy.close()

    def test_a_signal_lets_a_transfer_end_and_closes_idle_connections(self):
        server, port = self.serve()
        self.assert_ends_in_good_order(port, lambda: server.signal(signal.SIGTERM))
        status, _, errors = server.end()
        self.assertEqual((status, errors), (0, ""))

    def test_a_restart_lets_a_transfer_end_and_closes_idle_connections(self):
        server, port = self.serve()
        self.assert_ends_in_good_order(port, lambda: self.restart(server, server.pid))
        self.assertEqual(server.process.wait(PATIENCE), 0)
        after = self.connect(port)
        after.request("GET", "/")
        self.assertEqual(after.getresponse().read(), b"<!doctype html><p>hello")

    def test_restarts_under_load_lose_no_request(self):
        server, port = self.serve()

        def converse():
            client = http.client.HTTPConnection("127.0.0.1", int(port), timeout=PATIENCE)
            with contextlib.closing(client):
                client.request("GET", "/")
                self.assertEqual(client.getresponse().read(), b"<!doctype html><p>hello")

        self.restart_under_load(server, 2, 3, converse)

    def test_requests_under_way_have_the_time_of_drain(self):
        server, port = self.serve("--drain", "0.01")
        busy = self.connect(port)
        busy.request("GET", "/large.bin")
        server.signal(signal.SIGTERM)
        status, output, errors = server.end()
        self.assertEqual((status, errors), (0, ""))
        self.assertRegex(output, r"^(cut 1 connection\(s\), with \d+ bytes unsent\n)?$")

    def test_a_folder_that_cannot_be_opened_is_one_line_and_an_exit_status(self):
        server = Program(HTTP_SERVER, "/does/not/exist", "--port", "0")
        self.addCleanup(server.let_go)
        status, _, errors = server.end()
        self.assertEqual(status, 1)
        self.assertEqual(errors, "http_server: http::static_files: open of /does/not/exist: No such file or directory\n")

    def test_a_websocket_sends_messages_back_and_answers_a_close(self):
        described = subprocess.run([HTTP_SERVER, "--help"], capture_output=True, check=True, text=True).stdout
        if "--websocket-echo" not in described:
            self.skipTest("built without WebSocket")
        _, port = self.serve("--websocket-echo", "/echo")
        key = base64.b64encode(os.urandom(16)).decode()
        expected = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        mask = os.urandom(4)

        def frame(first, payload):
            length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
            masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
            return bytes([first]) + length + mask + masked

        with socket.create_connection(("127.0.0.1", int(port)), PATIENCE) as client:
            client.sendall(f"GET /echo HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
            answers = client.makefile("rb")
            self.assertEqual(answers.readline(), b"HTTP/1.1 101 Switching Protocols\r\n")
            head = b""
            while (line := answers.readline()) != b"\r\n":
                head += line
            self.assertIn(b"Sec-WebSocket-Accept: " + expected + b"\r\n", head)
            client.sendall(frame(0x81, b"hello") + frame(0x82, bytes(300)))
            self.assertEqual(answers.read(7), b"\x81\x05hello")
            self.assertEqual(answers.read(304), b"\x82\x7e\x01\x2c" + bytes(300))
            client.sendall(frame(0x88, b"\x03\xe8"))
            self.assertEqual(answers.read(), b"\x88\x02\x03\xe8")

    @unittest.skipUnless(shutil.which("curl"), "there is no curl")
    def test_curl_gets_parts_over_a_unix_socket_and_asks_for_changes_only(self):
        path = os.path.join(self.folder.name, "socket")
        self.serve(host="unix:" + path)

        def curl(*arguments):
            return subprocess.run(["curl", "-sS", "--max-time", str(PATIENCE), "--unix-socket", path, *arguments],
                                  capture_output=True, check=True).stdout

        url = "http://localhost/large.bin"
        self.assertEqual(curl("--range", "10-19", url), self.large[10:20])
        self.assertEqual(curl("--http1.0", url), self.large)
        tag = os.path.join(self.folder.name, "tag")
        self.assertEqual(len(curl("--etag-save", tag, url)), len(self.large))
        self.assertEqual(curl("--etag-compare", tag, "-w", "%{http_code}", url), b"304")
        self.assertEqual(curl("-o", "/dev/null", "-w", "%{http_code}", "--head", url), b"200")


if __name__ == "__main__":
    unittest.main()
