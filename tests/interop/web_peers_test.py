"""HTTP and WebSocket against further programs of others, both ways: Node.js with its http, fetch, undici and ws; Python's aiohttp;
libwebsockets; ab; HAProxy, nginx and tinyproxy between our client and our server. A test whose tool is not installed is skipped;
`tests/run --all` installs them. The environment is that of web_test.py, which has what is shared."""

import os
import re
import socket
import subprocess
import sys
import unittest

from processes import PATIENCE
from web_test import HERE, HTTP_GET, HTTP_SERVER, PEERS, WebTest, needs, tool

NODE_PEER = os.path.join(HERE, "node_peer.js")
# Where Debian's packages of Node.js are: any Node.js finds them, and those of NODE_PATH first.
NODE = {"NODE_PATH": os.environ.get("NODE_PATH", "") + ":/usr/share/nodejs"}
HAPROXY = """
global
    maxconn 100
defaults
    mode http
    timeout connect {patience}s
    timeout client {patience}s
    timeout server {patience}s
    http-reuse always
listen web
    bind fd@{descriptor}
    server ours 127.0.0.1:{upstream}
"""


def node_has(package):
    return tool("node") is not None and subprocess.run(["node", "-e", f"require('{package}')"], env={**os.environ, **NODE},
                                                       capture_output=True).returncode == 0


def python_with_aiohttp():
    for python in ("/usr/bin/python3", sys.executable):
        if os.path.exists(python) and subprocess.run([python, "-c", "import aiohttp"], capture_output=True).returncode == 0:
            return python
    return None


class PeersTest(WebTest):
    def peer(self, name):
        path = os.path.join(PEERS, "interop_" + name)
        if not os.path.exists(path):
            self.skipTest(f"built without {name}")
        return path

    def assert_our_client_is_answered(self, url):
        self.assertEqual(self.succeed(self.peer("web_client"), url), "8 answers\n")

    def assert_our_socket_is_answered(self, port, target):
        self.assertEqual(self.succeed(self.peer("web_socket_client"), port, target), "14 messages, closed with 1000\n")


@needs("node")
class Node(PeersTest):
    def ask(self, what, path=""):
        done = subprocess.run(["node", NODE_PEER, what, f"http://127.0.0.1:{self.web_server().port}{path}"], capture_output=True,
                              timeout=PATIENCE, env={**os.environ, **NODE}, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_its_http_asks_on_one_connection(self):
        self.assertEqual(self.ask("http"), "7 answers on one connection, 1 continued\n")

    def test_its_fetch_streams_both_ways(self):
        self.assertEqual(self.ask("fetch"), "fetched 3890,1000010\n")

    @unittest.skipUnless(node_has("undici"), "undici is not installed")
    def test_undici_asks_ten_at_a_time(self):
        self.assertEqual(self.ask("undici"), "101 answers\n")

    @unittest.skipUnless(node_has("ws"), "ws is not installed")
    def test_ws_asks(self):
        self.assertRegex(self.ask("ws", "/socket"), r"^15 messages, (plain|permessage-deflate), closed with 1000\n$")

    def test_its_http_is_asked(self):
        self.assert_our_client_is_answered(f"http://127.0.0.1:{self.start_server('node', NODE_PEER, 'server').port}")

    @unittest.skipUnless(node_has("ws"), "ws is not installed")
    def test_ws_is_asked(self):
        self.assert_our_socket_is_answered(self.start_server("node", NODE_PEER, "server", environment=NODE).port, "/")


class Aiohttp(PeersTest):
    def setUp(self):
        super().setUp()
        self.python = python_with_aiohttp()
        if self.python is None:
            self.skipTest("aiohttp is not installed")

    def test_it_asks(self):
        self.assertEqual(self.succeed(self.python, os.path.join(HERE, "aiohttp_peer.py"), "client",
                                      f"http://127.0.0.1:{self.web_server().port}"), "6 answers, 14 messages, closed with 1000\n")

    def test_it_is_asked(self):
        port = self.start_server(self.python, os.path.join(HERE, "aiohttp_peer.py"), "server").port
        self.assert_our_client_is_answered(f"http://127.0.0.1:{port}")
        self.assert_our_socket_is_answered(port, "/socket")


class Libwebsockets(PeersTest):
    def test_it_asks(self):
        self.assertEqual(self.succeed(self.peer("lws_peer"), self.web_server().port), "14 messages\n")

    def test_it_is_asked(self):
        self.assert_our_socket_is_answered(self.start_server(self.peer("lws_peer"), "server").port, "/")


@needs("ab")
class Ab(PeersTest):
    def test_each_request_gets_an_answer_with_and_without_keep_alive(self):
        url = f"http://127.0.0.1:{self.web_server().port}/"
        for arguments, kept in (["-k"], 1000), ([], 0):
            output = self.succeed("ab", "-n", 1000, "-c", 20, *arguments, url)
            told = dict(re.findall(r"^([\w -]+): +(\d+)", output, re.MULTILINE))
            self.assertEqual((told["Complete requests"], told["Failed requests"]), ("1000", "0"), output)
            self.assertEqual(int(told.get("Keep-Alive requests", 0)), kept, output)


@needs("haproxy")
class Haproxy(PeersTest):
    def setUp(self):
        super().setUp()
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        self.port = listener.getsockname()[1]
        self.write(HAPROXY.format(descriptor=listener.fileno(), upstream=self.upstream().port, patience=PATIENCE).encode(), "haproxy.cfg")
        self.start(tool("haproxy"), "-db", "-f", self.path("haproxy.cfg"), pass_descriptors=[listener.fileno()])

    def upstream(self):
        return self.web_server()

    def test_it_stands_between_our_client_and_our_server(self):
        self.assert_our_client_is_answered(f"http://127.0.0.1:{self.port}")
        self.assert_our_socket_is_answered(self.port, "/socket")


class HaproxyAndFiles(Haproxy):
    def upstream(self):
        return self.start_server(HTTP_SERVER, self.path("root"), "--host", "127.0.0.1", "--port", "0")

    def test_it_stands_between_our_client_and_our_server(self):
        url = f"http://127.0.0.1:{self.port}/large.bin"
        self.assertEqual(self.succeed(HTTP_GET, url, text=False), self.large)
        self.assertEqual(self.succeed(HTTP_GET, url, "--header", "Range: bytes=-10", text=False), self.large[-10:])


@needs("nginx")
class Nginx(PeersTest):
    def test_sockets_pass_through_it(self):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.start_nginx(f"127.0.0.1:{port}")
        self.assert_our_socket_is_answered(port, "/socket")
        self.assert_our_client_is_answered(f"http://127.0.0.1:{port}/ours")


@needs("tinyproxy")
class Tinyproxy(PeersTest):
    def setUp(self):
        super().setUp()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.write(f"Port {self.port}\nListen 127.0.0.1\nTimeout {PATIENCE}\nLogLevel Error\n".encode(), "tinyproxy.conf")
        self.start(tool("tinyproxy"), "-d", "-c", self.path("tinyproxy.conf"))
        self.until(self.it_listens, "tinyproxy listens")

    def it_listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def test_our_client_asks_it_for_our_server(self):
        # One request at a time: it closes each connection without saying so in the answer (tinyproxy 1.11, its issue 563), and a
        # POST on a connection that is closed is not sent again.
        url, proxy = f"http://127.0.0.1:{self.web_server().port}", ("--proxy", f"http://127.0.0.1:{self.port}")
        self.assertEqual(self.succeed(HTTP_GET, url + "/parts", *proxy).split()[-1], "999")
        self.assertEqual(self.succeed(HTTP_GET, url + "/echo", "--data", "x" * 100_000, *proxy), "x" * 100_000)

    def test_our_client_has_a_tunnel_through_it(self):
        if "--tls-certificate" not in self.succeed(HTTP_SERVER, "--help"):
            self.skipTest("built without TLS")
        self.make_certificate()
        server = self.start_server(HTTP_SERVER, self.path("root"), "--host", "127.0.0.1", "--port", "0", "--tls-certificate",
                                   self.path("chain"), "--tls-key", self.path("key"), "--tls-alpn", "http/1.1")
        url = f"https://localhost:{server.port}/large.bin"
        self.assertEqual(self.succeed(HTTP_GET, url, "--proxy", f"http://127.0.0.1:{self.port}", "--tls-ca", self.path("chain"),
                                      text=False), self.large)


if __name__ == "__main__":
    unittest.main(verbosity=2)
