"""What the tests of the programs over TLS share: certificates, which are made here, our programs with them, and clients."""

import os
import shutil
import socket
import ssl
import subprocess
import tempfile
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
        # Python 3.13 and OpenSSL's X509_V_FLAG_X509_STRICT take no authority without a key usage (RFC 5280 4.2.1.3).
        openssl("req", "-x509", *self.key(name), "-days", "2", "-subj", "/CN=" + subject, "-addext",
                "subjectAltName=DNS:" + subject, "-addext", "keyUsage=critical,digitalSignature,keyCertSign,cRLSign", "-out",
                self.path(name + ".pem"))

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
