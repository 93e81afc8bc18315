"""HTTP and WebSocket against other people's programs, both ways: curl, wrk, nginx, and Python's http.server and websockets.
A test whose tool is not installed is skipped; `tests/run --all` installs them. HTTP_SERVER and HTTP_GET say where the programs
are, INTEROP_SERVERS in which folder the peers are that live with these tests."""

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import nginx
from processes import PATIENCE, ProcessTest

HTTP_GET = os.environ.get("HTTP_GET", "build/protocols/http_get")
HTTP_SERVER = os.environ.get("HTTP_SERVER", "build/protocols/http_server")
PEERS = os.environ.get("INTEROP_SERVERS", "build/tests/interop")
HERE = os.path.dirname(os.path.abspath(__file__))
NGINX = """
    upstream ours {{ server 127.0.0.1:{upstream}; keepalive 4; }}
    server {{
        listen {listen};
        root {folder}/root;
        absolute_redirect off;
        client_max_body_size 16m;
        location /listing/ {{ autoindex on; }}
        location /ours/ {{
            proxy_pass http://ours/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
        location /socket {{
            proxy_pass http://ours;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }}
    }}
"""


def tool(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def needs(name):
    return unittest.skipUnless(tool(name), f"{name} is not installed")


def python_with_websockets():
    """Debian's package belongs to Debian's Python, which need not be the first one."""
    for python in ("/usr/bin/python3", sys.executable):
        if os.path.exists(python) and subprocess.run([python, "-c", "import websockets"], capture_output=True).returncode == 0:
            return python
    return None


class WebTest(ProcessTest):
    def setUp(self):
        super().setUp()
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = temporary.name
        os.makedirs(self.path("root", "listing", "inner"))
        self.large = random.Random(1).randbytes(3_000_000)
        self.write(self.large, "root", "large.bin")
        self.write(b"a page", "root", "index.html")

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, content, *names):
        with open(self.path(*names), "wb") as file:
            file.write(content)

    def succeed(self, *command, text=True):
        done = subprocess.run([str(word) for word in command], capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, (done.stdout[-1000:], done.stderr[-1000:]))
        return done.stdout.decode() if text else done.stdout

    def make_certificate(self):
        """For localhost, signed by itself: the files `chain` and `key`."""
        self.succeed("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                     "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", self.path("key"), "-out",
                     self.path("chain"))

    def web_server(self):
        path = os.path.join(PEERS, "interop_web_server")
        if not os.path.exists(path):
            self.skipTest("built without WebSocket")
        return self.start_server(path)

    def start_nginx(self, listen):
        """In front of our server, and of the files."""
        web = NGINX.format(listen=listen, folder=self.folder, upstream=self.web_server().port)
        self.write(nginx.configuration(self.folder, web).encode(), "nginx.conf")
        self.start(tool("nginx"), "-p", self.folder, "-c", self.path("nginx.conf"), "-e", "stderr")
        self.until(lambda: os.path.exists(self.path("nginx.pid")), "nginx listens")

    def curl(self, *arguments, text=False):
        return self.succeed("curl", "-sS", "--max-time", PATIENCE, *arguments, text=text)

    def tell(self, *words):
        print(f"{self.id().split('.')[-1]}:", *words, flush=True)


@needs("curl")
class Curl(WebTest):
    def test_content_goes_up_and_comes_back_in_every_framing(self):
        url = f"http://127.0.0.1:{self.web_server().port}/echo"
        file = "@" + self.path("root", "large.bin")
        self.assertEqual(self.curl("--data-binary", file, url), self.large)  # curl asks first (100-continue)
        self.assertEqual(self.curl("--data-binary", file, "-H", "Expect:", url), self.large)
        self.assertEqual(self.curl("--data-binary", file, "-H", "Transfer-Encoding: chunked", url), self.large)
        self.assertEqual(self.curl("-T", self.path("root", "large.bin"), url), self.large)
        self.assertEqual(self.curl("--http1.0", "--data-binary", file, url), self.large)

    def test_one_connection_serves_several_requests_and_http_1_0_gets_parts_up_to_the_end(self):
        url = f"http://127.0.0.1:{self.web_server().port}/parts"
        parts = "".join(f"{number}\n" for number in range(1000))
        connects = "%{num_connects} "
        self.assertEqual(self.curl("-w", connects, url, url, text=True), f"{parts}1 {parts}0 ")
        self.assertEqual(self.curl("--http1.0", url, text=True), parts)

    def test_files_come_whole_in_ranges_and_over_tls(self):
        plain = self.start_server(HTTP_SERVER, self.path("root"), "--host", "127.0.0.1", "--port", "0")
        url = f"http://127.0.0.1:{plain.port}/large.bin"
        self.assertEqual(self.curl(url), self.large)
        self.assertEqual(self.curl("-r", "-100", url), self.large[-100:])
        self.assertEqual(self.curl("-C", "1000000", url), self.large[1_000_000:])
        if "--tls-certificate" not in self.succeed(HTTP_SERVER, "--help"):
            return
        self.make_certificate()
        secure = self.start_server(HTTP_SERVER, self.path("root"), "--host", "127.0.0.1", "--port", "0", "--tls-certificate",
                                   self.path("chain"), "--tls-key", self.path("key"), "--tls-alpn", "http/1.1")
        url = f"https://localhost:{secure.port}/large.bin"
        self.assertEqual(self.curl("--cacert", self.path("chain"), "--connect-to", f"::127.0.0.1:{secure.port}", url), self.large)

    def test_a_unix_socket_serves_files_and_one_that_has_not_changed_is_not_sent_again(self):
        self.start_server(HTTP_SERVER, self.path("root"), "--host", "unix:" + self.path("socket"))
        over = ["--unix-socket", self.path("socket"), "-w", "%{http_code}"]
        self.assertEqual(self.curl(*over, "--etag-save", self.path("tag"), "http://localhost/"), b"a page200")
        self.assertEqual(self.curl(*over, "--etag-compare", self.path("tag"), "http://localhost/"), b"304")
        self.assertEqual(self.curl(*over, "-r", "2-3", "http://localhost/index.html"), b"pa206")
        self.assertIn(b"Content-Length: 6\r\n", self.curl(*over, "-I", "http://localhost/"))
        self.assertEqual(self.curl(*over, "--path-as-is", "-o", os.devnull, "http://localhost/../tag"), b"404")


class Wrk(WebTest):
    @needs("wrk")
    def test_each_request_gets_an_answer(self):
        server = self.web_server()
        output = self.succeed("wrk", "-t", 1, "-c", 50, "-d", 1, "--timeout", PATIENCE, f"http://127.0.0.1:{server.port}/")
        self.assertGreater(int(re.search(r"(\d+) requests in", output)[1]), 0, output)
        self.assertNotIn("Socket errors", output)
        self.assertNotIn("Non-2xx", output)
        self.tell(re.search(r"\d+ requests in [^\n]*", output)[0])


class Python(WebTest):
    def test_its_file_server_is_asked(self):
        with open(os.devnull, "w") as nothing:
            server = self.start(sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory",
                                self.path("root"), standard_error=nothing)
        port = re.search(r"port (\d+)", server.line())[1]
        url = f"http://127.0.0.1:{port}"
        self.assertEqual(self.succeed(HTTP_GET, url + "/large.bin", text=False), self.large)
        self.assertIn("inner", self.succeed(HTTP_GET, url + "/listing"))  # a redirect to /listing/

    def test_websockets_is_asked_and_asks(self):
        python = python_with_websockets()
        if python is None:
            self.skipTest("websockets is not installed")
        ours = self.web_server()
        peer = os.path.join(HERE, "websockets_peer.py")
        self.assertEqual(self.succeed(python, peer, "client", f"ws://127.0.0.1:{ours.port}/socket"),
                         "15 messages, closed with 1000\n")
        theirs = self.start_server(python, peer, "server")
        self.assertEqual(self.succeed(os.path.join(PEERS, "interop_web_socket_client"), theirs.port),
                         "14 messages, closed with 1000\n")


@needs("nginx")
class Nginx(WebTest):
    def setUp(self):
        super().setUp()
        self.start_nginx("unix:" + self.path("socket"))

    def get(self, path, *arguments, text=False):
        return self.succeed(HTTP_GET, "http://localhost" + path, "--address", "unix:" + self.path("socket"), *arguments, text=text)

    def test_it_is_asked_for_files_listings_and_through_redirects(self):
        self.assertEqual(self.get("/large.bin"), self.large)
        self.assertEqual(self.get("/"), b"a page")
        self.assertIn("inner", self.get("/listing", text=True))
        self.assertEqual(self.get("/large.bin", "--header", "Range: bytes=10-19"), self.large[10:20])
        self.assertTrue(self.get("/large.bin", "--method", "HEAD", "--head", text=True).startswith("200 OK\nServer: nginx"))

    def test_it_stands_between_our_client_and_our_server(self):
        self.assertEqual(self.get("/ours/", text=True), "hello\n")
        self.assertEqual(self.get("/ours/parts", text=True).split()[-1], "999")
        self.assertEqual(self.get("/ours/echo", "--data", "x" * 100_000, text=True), "x" * 100_000)


if __name__ == "__main__":
    unittest.main(verbosity=2)
