"""The programs over TLS against other people's stacks, both ways: OpenSSL's and GnuTLS's tools, curl and Python. The
certificates are made here. A test whose tool is not installed is skipped; `tests/run --all` installs them."""

import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest

from processes import PATIENCE, ProcessTest

ECHO_SERVER = os.environ.get("ECHO_SERVER", "build/protocols/echo_server")
ECHO_CLIENT = os.environ.get("ECHO_CLIENT", "build/protocols/echo_client")
FORWARDER = os.environ.get("FORWARDER", "build/protocols/forwarder")
FILE_SERVER = os.environ.get("FILE_SERVER", "build/protocols/file_server")
MESSAGE = "This is the message.  It will be repeated."
CA_CONFIGURATION = """
[ca]
default_ca = own
[own]
database = {folder}/index
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = any
default_crl_days = 1
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
"""


def needs(name):
    return unittest.skipUnless(shutil.which(name), f"{name} is not installed")


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, timeout=PATIENCE, capture_output=True)


class Certificates:
    """A folder with an authority and certificates: good, of another name, expired, revoked, and one that signed itself."""

    def __init__(self, folder):
        self.folder = folder
        with open(self.path("ca.cnf"), "w", encoding="utf-8") as file:
            file.write(CA_CONFIGURATION.format(folder=folder))
        for name, content in (("index", ""), ("serial", "10")):
            with open(self.path(name), "w", encoding="utf-8") as file:
                file.write(content)
        self.sign_itself("ca", "Tests")
        self.sign_itself("itself", "localhost")
        self.issue("good", "localhost", "IP:127.0.0.1")
        self.issue("other", "example.com")
        self.issue("expired", "localhost", dates=("-startdate", "20200101000000Z", "-enddate", "20200102000000Z"))
        self.issue("revoked", "localhost")
        self.ca("-revoke", self.path("revoked.pem"))
        self.ca("-gencrl", "-out", self.path("crl.pem"))

    def path(self, name):
        return os.path.join(self.folder, name)

    def key(self, name):
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.path(name + ".key"))

    def sign_itself(self, name, subject):
        openssl("req", "-x509", *self.key(name), "-days", "2", "-subj", "/CN=" + subject, "-addext",
                "subjectAltName=DNS:" + subject, "-out", self.path(name + ".pem"))

    def ca(self, *arguments):
        openssl("ca", "-batch", "-config", self.path("ca.cnf"), "-cert", self.path("ca.pem"), "-keyfile",
                self.path("ca.key"), *arguments)

    def issue(self, name, host, *further, dates=("-days", "2")):
        openssl("req", *self.key(name), "-subj", "/CN=" + host, "-addext",
                "subjectAltName=" + ",".join(("DNS:" + host, *further)), "-out", self.path(name + ".csr"))
        self.ca(*dates, "-in", self.path(name + ".csr"), "-out", self.path(name + ".pem"), "-notext")


class TlsTest(ProcessTest):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.certificates = Certificates(folder.name)

    def path(self, name):
        return self.certificates.path(name)

    def certificate(self, name="good"):
        return ("--tls-certificate", self.path(name + ".pem"), "--tls-key", self.path(name + ".key"))

    def echo_server(self, *arguments):
        return self.start_server(ECHO_SERVER, "--host", "127.0.0.1", "--port", "0", *self.certificate(), *arguments)

    def echo_client(self, port, *arguments, host="localhost"):
        return self.start(ECHO_CLIENT, "--host", host, "--port", port, "--tls", "--tls-ca", self.path("ca.pem"),
                          *arguments)

    def assert_echoed(self, client):
        status, output, errors = client.end()
        self.assertEqual((status, errors), (0, ""), output)
        self.assertIn(f'received "{MESSAGE}"', output)

    def python_client(self, port, name="localhost", **settings):
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        for setting, value in settings.items():
            setattr(context, setting, value)
        plain = socket.create_connection(("127.0.0.1", int(port)), timeout=PATIENCE)
        self.addCleanup(plain.close)
        connection = context.wrap_socket(plain, server_hostname=name)
        self.addCleanup(connection.close)
        return connection

    def free_port(self):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            return probe.getsockname()[1]

    def wait_for(self, beginning, program):
        """Until it prints such a line."""
        while not program.line().startswith(beginning):
            pass

    def converse(self, peer, text):
        """Writes a line to a program of others, and reads until it prints that line."""
        peer.process.stdin.write(text.encode() + b"\n")
        while peer.line() != text:
            pass


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
