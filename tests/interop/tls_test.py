"""The programs over TLS against other people's stacks, both ways: OpenSSL's and GnuTLS's tools, curl and Python. A test
whose tool is not installed is skipped; `tests/run --all` installs them."""

import os
import socket
import ssl
import subprocess
import threading
import unittest

from processes import PATIENCE
from tls_programs import ECHO_SERVER, FILE_SERVER, FORWARDER, MESSAGE, TlsTest, needs


class Servers(TlsTest):
    """Our servers and other people's clients."""

    def test_openssl_s_client_gets_an_echo_in_both_versions(self):
        server = self.echo_server("--tls-alpn", "echo")
        for version in ("-tls1_2", "-tls1_3"):
            client = self.start("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", version, "-CAfile",
                                self.path("ca.pem"), "-verify_return_error", "-verify_hostname", "localhost", "-alpn",
                                "echo", "-quiet", "-no_ign_eof", standard_input=subprocess.PIPE)
            self.converse(client, "hello")
            client.process.stdin.close()
            self.assertEqual(client.process.wait(PATIENCE), 0)

    @needs("gnutls-cli")
    def test_gnutls_cli_gets_an_echo_in_both_versions(self):
        server = self.echo_server()
        for version in ("1.2", "1.3"):
            client = self.start("gnutls-cli", "--x509cafile", self.path("ca.pem"), "--verify-hostname", "localhost",
                                "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}", "--port", server.port, "127.0.0.1",
                                standard_input=subprocess.PIPE)
            self.converse(client, "hello")
            client.process.stdin.close()
            self.assertEqual(client.process.wait(PATIENCE), 0)

    @needs("curl")
    def test_curl_gets_a_file(self):
        content = os.urandom(3_000_000)
        with open(self.path("file"), "wb") as file:
            file.write(content)
        server = self.start_server(FILE_SERVER, self.path("file"), "--host", "127.0.0.1", "--port", "0",
                                   *self.certificate())
        result = subprocess.run(["curl", "--silent", "--show-error", "--http0.9", "--cacert", self.path("ca.pem"), "--resolve",
                                 f"localhost:{server.port}:127.0.0.1", f"https://localhost:{server.port}/"],
                                capture_output=True, timeout=PATIENCE)
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        self.assertEqual(result.stdout, content)

    def test_python_agrees_on_a_protocol_and_says_goodbye(self):
        server = self.echo_server("--tls-alpn", "h2,echo")
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        context.set_alpn_protocols(["echo", "other"])
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as plain, \
                context.wrap_socket(plain, server_hostname="localhost") as connection:
            self.assertEqual(connection.selected_alpn_protocol(), "echo")
            self.assertEqual(connection.version(), "TLSv1.3")
            sent = os.urandom(1 << 20)
            sender = threading.Thread(target=connection.sendall, args=(sent,))
            sender.start()
            came = b""
            while len(came) < len(sent):
                came += connection.recv(1 << 16)
            sender.join()
            self.assertEqual(came, sent)
            connection.unwrap()  # says close_notify, and wants the server's

    def test_python_resumes_a_session(self):
        server = self.echo_server()
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        session = None
        for resumed in (False, True):
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as plain, \
                    context.wrap_socket(plain, server_hostname="localhost", session=session) as connection:
                connection.sendall(b"hello")
                self.assertEqual(connection.recv(100), b"hello")
                self.assertEqual(connection.session_reused, resumed)
                session = connection.session

    def test_a_client_needs_a_certificate_where_an_authority_for_clients_is_given(self):
        server = self.echo_server("--tls-ca", self.path("ca.pem"), "--verbose")
        self.assert_echoed(self.echo_client(server.port, "--tls-certificate", self.path("good.pem"), "--tls-key",
                                            self.path("good.key")))
        status, _, errors = self.echo_client(server.port).end()
        self.assertEqual(status, 1)
        self.assertIn("the peer's alert: ", errors)


class Clients(TlsTest):
    """Our client and other people's servers."""

    def test_openssl_s_server_is_talked_to_in_both_versions(self):
        for version in ("-tls1_2", "-tls1_3"):
            port = self.free_port()
            server = self.start("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", self.path("good.pem"), "-key",
                                self.path("good.key"), version, "-naccept", "1", standard_input=subprocess.PIPE)
            self.wait_for("ACCEPT", server)
            client = self.echo_client(port, "--framing", "delimited:\\n")
            while server.line() != MESSAGE:
                pass
            server.process.stdin.write(MESSAGE.encode() + b"\n")
            self.assert_echoed(client)

    @needs("gnutls-serv")
    def test_gnutls_serv_echoes_in_both_versions(self):
        for version in ("1.2", "1.3"):
            port = self.free_port()
            server = self.start("gnutls-serv", "--echo", "--port", port, "--x509certfile", self.path("good.pem"),
                                "--x509keyfile", self.path("good.key"), "--priority",
                                f"NORMAL:-VERS-ALL:+VERS-TLS{version}", standard_error=subprocess.STDOUT)
            self.wait_for("Echo Server listening", server)
            self.assert_echoed(self.echo_client(port, "--framing", "delimited:\\n", host="127.0.0.1"))

    def test_python_serves_our_client(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path("good.pem"), self.path("good.key"))
        context.set_alpn_protocols(["echo"])
        seen = []

        def echo(connection):
            with context.wrap_socket(connection, server_side=True) as secure:
                seen.append(secure.selected_alpn_protocol())
                while data := secure.recv(1 << 16):
                    secure.sendall(data)
                secure.unwrap()

        port = self.play_server(echo)
        self.assert_echoed(self.echo_client(port, "--tls-alpn", "echo"))
        self.assertEqual(seen, ["echo"])

    def refusal(self, name, *arguments):
        """The error of our client towards a server with that certificate."""
        server = self.start_server(ECHO_SERVER, "--host", "127.0.0.1", "--port", "0", *self.certificate(name))
        status, output, errors = self.echo_client(server.port, *arguments).end()
        self.assertEqual(status, 1, output)
        return errors

    def test_bad_certificates_are_refused_and_the_error_says_why(self):
        self.assertIn("certificate has expired", self.refusal("expired"))
        self.assertIn("self-signed certificate", self.refusal("itself"))
        self.assertIn("hostname mismatch", self.refusal("other"))
        self.assertIn("certificate revoked", self.refusal("revoked", "--tls-crl", self.path("crl.pem")))
        server = self.echo_server()
        self.assert_echoed(self.echo_client(server.port, "--tls-crl", self.path("crl.pem")))

    def test_files_that_are_wrong_are_named(self):
        status, _, errors = self.start(ECHO_SERVER, "--port", "0", "--tls-certificate", self.path("good.pem"), "--tls-key",
                                       self.path("other.key")).end()
        self.assertEqual(status, 1)
        self.assertIn(self.path("other.key"), errors)
        self.assertIn("is not that of the certificate", errors)


class Forwarders(TlsTest):
    def forwarder(self, to, *arguments):
        return self.start_server(FORWARDER, "--listen", "127.0.0.1:0", "--to", f"localhost:{to}", *arguments)

    def test_the_forwarder_ends_tls_here_and_begins_it_there(self):
        target = self.echo_server()
        begins = self.forwarder(target.port, "--to-tls", "--to-tls-ca", self.path("ca.pem"))
        ends = self.forwarder(begins.port, *self.certificate())
        self.assert_echoed(self.echo_client(ends.port))
        connection = self.python_client(ends.port)
        sent = os.urandom(1 << 20)
        sender = threading.Thread(target=connection.sendall, args=(sent,))
        sender.start()
        came = b""
        while len(came) < len(sent):
            came += connection.recv(1 << 16)
        sender.join()
        self.assertEqual(came, sent)

    def test_a_target_that_is_not_trusted_is_not_forwarded_to(self):
        target = self.echo_server()
        forwarder = self.forwarder(target.port, "--to-tls", "--to-tls-ca", self.path("itself.pem"))
        with socket.create_connection(("127.0.0.1", forwarder.port), timeout=PATIENCE) as client:
            with self.assertRaises(ConnectionError):
                client.sendall(b"secret")
                while True:
                    if client.recv(100) == b"":
                        raise ConnectionError


if __name__ == "__main__":
    unittest.main()
