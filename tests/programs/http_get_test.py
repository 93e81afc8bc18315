"""http_get as a process: against http_server, with and without TLS, and against Python's server. HTTP_GET and HTTP_SERVER say
where the programs are."""

import http.server
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

from processes import BACKEND, PATIENCE, ProcessTest, Program

HTTP_GET = os.environ.get("HTTP_GET", "build/protocols/http_get")
HTTP_SERVER = os.environ.get("HTTP_SERVER", "build/protocols/http_server")


class Answers(http.server.BaseHTTPRequestHandler):
    """Says what it was asked; /moved leads to /there."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "there")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        text = f"{self.command} {self.path} {self.headers.get('X-Name')} {self.headers.get('Content-Type')} ".encode() + content
        self.send_response(404 if self.path == "/absent" else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *arguments):
        pass


class HttpGet(ProcessTest):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.large = bytes(range(256)) * 8192  # 2 MiB
        with open(os.path.join(self.folder.name, "large.bin"), "wb") as file:
            file.write(self.large)

    def get(self, url, *options):
        """The exit status, the output, and the errors of one request."""
        done = subprocess.run([HTTP_GET, url, "--backend", BACKEND, *options], capture_output=True, timeout=PATIENCE,
                              stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout, done.stderr.decode()

    def serve(self, *options, host="127.0.0.1"):
        server = Program(HTTP_SERVER, self.folder.name, "--host", host, "--port", "0", "--backend", BACKEND, *options)
        self.addCleanup(server.let_go)
        return server.line().split()[2].rpartition(":")[2]

    def other_server(self):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_address[1]}"

    def test_a_page_is_written_to_standard_output_or_to_a_file(self):
        port = self.serve()
        url = f"http://127.0.0.1:{port}/large.bin"
        self.assertEqual(self.get(url), (0, self.large, ""))
        path = os.path.join(self.folder.name, "copy")
        self.assertEqual(self.get(url, "--output", path, "--head"), (0, b"", ""))
        with open(path, "rb") as file:
            content = file.read()
        self.assertTrue(content.startswith(b"200 OK\nDate: "), content[:80])
        self.assertTrue(content.endswith(b"\n\n" + self.large))

    def test_requests_have_their_method_fields_and_content_and_redirects_are_followed(self):
        url = self.other_server()
        self.assertEqual(self.get(url + "/x", "--header", "X-Name: a b"), (0, b"GET /x a b None ", ""))
        self.assertEqual(self.get(url + "/x", "--data", "hello"), (0, b"POST /x None application/octet-stream hello", ""))
        self.assertEqual(self.get(url + "/x", "--data", "1", "--type", "text/plain", "--method", "PUT"),
                         (0, b"PUT /x None text/plain 1", ""))
        self.assertEqual(self.get(url + "/moved"), (0, b"GET /there None None ", ""))
        self.assertEqual(self.get(url + "/moved", "--redirects", "0"), (0, b"", ""))

    def test_a_failure_is_one_line_and_an_exit_status(self):
        url = self.other_server()
        self.assertEqual(self.get(url + "/absent"),
                         (1, b"GET /absent None None ", f"http_get: 404 Not Found: {url}/absent\n"))
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            port = reserved.getsockname()[1]
        refused = f"http://127.0.0.1:{port}/"
        self.assertEqual(self.get(refused), (1, b"", f"http_get: {refused}: Connection refused\n"))
        self.assertEqual(self.get("ftp://a/"), (1, b"", "http_get: http::Client: not a URL that can be asked: ftp://a/\n"))
        self.assertEqual(self.get(url, "--header", "nothing"), (1, b"", "http_get: --header: no colon in nothing\n"))
        self.assertEqual(self.get(url, "--redirects", "x")[0], 2)
        self.assertEqual(self.get(url, "--output", "/does/not/exist/x")[0], 1)

    def test_a_server_on_a_unix_socket_is_asked_by_its_address(self):
        path = os.path.join(self.folder.name, "socket")
        self.serve(host="unix:" + path)
        self.assertEqual(self.get("http://localhost/large.bin", "--address", "unix:" + path), (0, self.large, ""))

    @unittest.skipUnless(shutil.which("openssl"), "there is no openssl to make a certificate")
    def test_https_is_asked_if_the_certificate_is_trusted(self):
        described = subprocess.run([HTTP_SERVER, "--help"], capture_output=True, check=True, text=True).stdout
        if "--tls-certificate" not in described:
            self.assertNotEqual(self.get("https://localhost/")[0], 0)
            self.skipTest("built without TLS")
        chain, key = (os.path.join(self.folder.name, name) for name in ("chain.pem", "key.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key,
                        "-out", chain], check=True, timeout=PATIENCE, capture_output=True)
        port = self.serve("--tls-certificate", chain, "--tls-key", key, "--tls-alpn", "http/1.1", host="localhost")
        url = f"https://localhost:{port}/large.bin"
        self.assertEqual(self.get(url, "--tls-ca", chain), (0, self.large, ""))
        status, output, errors = self.get(url)
        self.assertEqual((status, output), (1, b""))
        self.assertIn("certificate", errors)
        self.assertEqual(self.get(url, "--tls-no-verify"), (0, self.large, ""))


if __name__ == "__main__":
    unittest.main()
