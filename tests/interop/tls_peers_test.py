"""The programs over TLS beside other people's servers: nginx and HAProxy in front of them and behind them, Node.js at
either end, sslscan's judgement, and a certificate that is replaced under load. A test whose program is not installed is
skipped; `tests/run --all` installs them."""

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import unittest
import xml.etree.ElementTree

from processes import PATIENCE
from tls_programs import ECHO_SERVER, TlsTest, needs

HTTP_SERVER = os.environ.get("HTTP_SERVER", "build/protocols/http_server")
NGINX_STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"
# Everything that nginx writes is in the folder of the test.
NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
{load}
events {{ }}
stream {{
    proxy_ssl_trusted_certificate {folder}/ca.pem; proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_server_name on;
    ssl_certificate {folder}/good.pem; ssl_certificate_key {folder}/good.key;
    server {{ listen 127.0.0.1:{port} ssl; proxy_pass 127.0.0.1:{to}; proxy_ssl on; }}
}}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    proxy_ssl_trusted_certificate {folder}/ca.pem; proxy_ssl_verify on; proxy_ssl_name localhost;
    ssl_certificate {folder}/good.pem; ssl_certificate_key {folder}/good.key;
    server {{ listen 127.0.0.1:{http_port} ssl; location / {{ proxy_pass https://127.0.0.1:{http_to}; }} }}
}}
"""
HAPROXY = """
defaults
    mode tcp
    timeout connect {patience}s
    timeout client {patience}s
    timeout server {patience}s
listen tls
    bind 127.0.0.1:{port} ssl crt {folder}/both.pem
    server echo 127.0.0.1:{to} ssl verify required ca-file {folder}/ca.pem sni str(localhost) verifyhost localhost
"""
NODE_SERVER = """
const tls = require('tls'), fs = require('fs');
const server = tls.createServer({key: fs.readFileSync(process.argv[2]), cert: fs.readFileSync(process.argv[1]),
  ALPNProtocols: ['echo']}, socket => socket.pipe(socket));
server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port));
"""
# Says what it agreed on, sends a megabyte, compares, and ends in order.
NODE_CLIENT = """
const tls = require('tls'), fs = require('fs'), crypto = require('crypto');
const sent = crypto.randomBytes(1 << 20);
const socket = tls.connect({host: '127.0.0.1', port: process.argv[1], ca: fs.readFileSync(process.argv[2]),
  servername: 'localhost', ALPNProtocols: ['echo']}, () => socket.write(sent));
let pieces = [], size = 0;
socket.on('data', piece => {
  pieces.push(piece);
  size += piece.length;
  if (size < sent.length) return;
  console.log(socket.getProtocol(), socket.alpnProtocol, Buffer.concat(pieces).equals(sent));
  socket.end();
});
socket.on('end', () => console.log('ended'));
"""


class Proxies(TlsTest):
    def proxied(self, connection):
        """A megabyte, through the proxy and back."""
        sent = os.urandom(1 << 20)
        sender = threading.Thread(target=connection.sendall, args=(sent,))
        sender.start()
        came = self.receive(connection, len(sent))
        sender.join()
        self.assertEqual(came, sent)

    def until_it_listens(self, port):
        def listens():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0
        self.until(listens, f"a listener on {port}")

    @needs("nginx")
    @needs("curl")
    def test_nginx_ends_tls_in_front_and_begins_it_again_towards_our_servers(self):
        echo = self.echo_server()
        site = self.start_server(HTTP_SERVER, self.certificates.folder, "--host", "127.0.0.1", "--port", "0",
                                 *self.certificate())
        port, http_port = self.free_port(), self.free_port()
        folder = self.certificates.folder
        with open(self.path("nginx.conf"), "w", encoding="utf-8") as file:
            load = f"load_module {NGINX_STREAM};" if os.path.exists(NGINX_STREAM) else ""
            file.write(NGINX.format(folder=folder, load=load, port=port, to=echo.port, http_port=http_port,
                                    http_to=site.port))
        self.start("nginx", "-e", self.path("nginx.log"), "-c", self.path("nginx.conf"), "-p", folder)
        self.until_it_listens(port)
        self.assert_echoed(self.echo_client(port))  # our client, nginx, our server
        self.proxied(self.python_client(port))
        got = subprocess.run(["curl", "--silent", "--show-error", "--cacert", self.path("ca.pem"), "--resolve",
                              f"localhost:{http_port}:127.0.0.1", f"https://localhost:{http_port}/ca.pem"],
                             capture_output=True, timeout=PATIENCE)
        with open(self.path("ca.pem"), "rb") as file:
            self.assertEqual((got.returncode, got.stderr, got.stdout), (0, b"", file.read()))

    @needs("haproxy")
    def test_haproxy_ends_tls_in_front_and_begins_it_again_towards_our_server(self):
        echo = self.echo_server()
        port = self.free_port()
        with open(self.path("both.pem"), "w", encoding="utf-8") as both:
            for name in ("good.pem", "good.key"):
                with open(self.path(name), encoding="utf-8") as part:
                    both.write(part.read())
        with open(self.path("haproxy.cfg"), "w", encoding="utf-8") as file:
            file.write(HAPROXY.format(folder=self.certificates.folder, port=port, to=echo.port, patience=PATIENCE))
        self.start("haproxy", "-db", "-f", self.path("haproxy.cfg"), standard_error=subprocess.STDOUT)
        self.until_it_listens(port)
        self.assert_echoed(self.echo_client(port))
        self.proxied(self.python_client(port))


class Node(TlsTest):
    @needs("node")
    def test_node_gets_an_echo_and_the_end(self):
        server = self.echo_server("--tls-alpn", "echo")
        status, output, errors = self.start("node", "-e", NODE_CLIENT, server.port, self.path("ca.pem")).end()
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual(output, "TLSv1.3 echo true\nended\n")

    @needs("node")
    def test_node_serves_our_client(self):
        node = self.start("node", "-e", NODE_SERVER, self.path("good.pem"), self.path("good.key"))
        self.assert_echoed(self.echo_client(node.line().split()[1], "--tls-alpn", "echo"))


class Judged(TlsTest):
    @needs("sslscan")
    def test_sslscan_finds_nothing_weak(self):
        server = self.echo_server()
        result = subprocess.run(["sslscan", "--xml=-", "--no-colour", f"127.0.0.1:{server.port}"], capture_output=True,
                                timeout=PATIENCE, check=True)
        report = xml.etree.ElementTree.fromstring(result.stdout)
        found = {(entry.get("type") + entry.get("version")) for entry in report.iter("protocol")
                 if entry.get("enabled") == "1"}
        self.assertEqual(found, {"tls1.2", "tls1.3"})
        ciphers = list(report.iter("cipher"))
        self.assertGreater(len(ciphers), 4)
        for cipher in ciphers:
            self.assertIn(cipher.get("strength"), ("strong", "acceptable"), cipher.attrib)
            self.assertGreaterEqual(int(cipher.get("bits")), 128)
            self.assertRegex(cipher.get("cipher"), "^(TLS_|ECDHE-).*(GCM|POLY1305)", cipher.attrib)
        for element, attribute, value in (("renegotiation", "supported", "0"), ("compression", "supported", "0")):
            for entry in report.iter(element):
                self.assertEqual(entry.get(attribute), value, entry.attrib)
        for entry in report.iter("heartbleed"):
            self.assertEqual(entry.get("vulnerable"), "0")
        self.assertGreater(len(list(report.iter("group"))), 2)
        for group in report.iter("group"):
            self.assertGreaterEqual(int(group.get("bits")), 128, group.attrib)


class Replaced(TlsTest):
    def end_process(self, process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)

    def test_a_certificate_is_replaced_under_load_without_one_failed_connection(self):
        """SIGHUP: a successor reads the new one, on the same sockets."""
        self.certificates.issue("old", "localhost")
        self.certificates.issue("new", "localhost")

        def put(name):
            for kind in (".pem", ".key"):
                shutil.copyfile(self.path(name + kind), self.path("present" + kind + "~"))
                os.replace(self.path("present" + kind + "~"), self.path("present" + kind))

        put("old")
        server = self.start_server(ECHO_SERVER, "--host", "127.0.0.1", "--port", "0", *self.certificate("present"))
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        serials, failures, enough = [], [], threading.Event()

        def load():
            while not enough.is_set():
                try:
                    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as plain, \
                            context.wrap_socket(plain, server_hostname="localhost") as connection:
                        connection.sendall(b"hello")
                        if connection.recv(100) != b"hello":
                            failures.append("no echo")
                        serials.append(connection.getpeercert()["serialNumber"])
                except OSError as failure:
                    failures.append(repr(failure))

        clients = [threading.Thread(target=load) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            self.until(lambda: len(serials) > 40, "connections")
            put("new")
            server.signal(signal.SIGHUP)
            lines = [server.line(), server.line()]
            successor = next(match for match in (re.fullmatch(r"process (\d+) goes on", line) for line in lines) if match)
            self.addCleanup(self.end_process, int(successor.group(1)))
            self.until(lambda: len(set(serials)) > 1 or failures, "the new certificate")
            seen = len(serials)
            self.until(lambda: len(serials) > seen + 40 or failures, "connections to the successor")
        finally:
            enough.set()
            for client in clients:
                client.join()
        self.assertEqual(failures, [])
        self.assertEqual(len(set(serials)), 2)


if __name__ == "__main__":
    unittest.main()
