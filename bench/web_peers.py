"""Starts the servers that web_costs and web_times compare: ours, the loop by hand, nginx, h2o and HAProxy, each with an
answer of 13 bytes at /."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "support"))
import nginx  # noqa: E402

OURS, BARE = "build-release/bench/web_server", "build-release/bench/peers/web_bare"
# h2o has no answer but a file's.
CONFIGURATIONS = {"nginx": """
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{secure_port} ssl;
        ssl_certificate {folder}/both.pem;
        ssl_certificate_key {folder}/both.pem;
        ssl_protocols TLSv1.3;
        location / {{ default_type text/plain; return 200 "Hello, World!"; }}
    }}
""", "h2o": """
user: {user}
num-threads: 1
max-connections: 12000
http1-request-timeout: 3600
hosts:
  default:
    listen: {{ host: 127.0.0.1, port: {port} }}
    listen:
      host: 127.0.0.1
      port: {secure_port}
      ssl: {{ certificate-file: {folder}/both.pem, key-file: {folder}/both.pem, neverbleed: OFF, ocsp-update-interval: 0 }}
    paths: {{ "/": {{ file.dir: {folder}/files }} }}
""", "haproxy": """
global
    nbthread 1
    maxconn 6000
defaults
    mode http
    timeout client 1h
    timeout connect 10s
    timeout server 10s
frontend hello
    bind 127.0.0.1:{port}
    bind 127.0.0.1:{secure_port} ssl crt {folder}/both.pem ssl-min-ver TLSv1.3
    http-request return status 200 content-type text/plain string "Hello, World!"
"""}


def program_of(name):
    """Its path, or None."""
    own = {"ours": OURS, "bare": BARE}
    return own[name] if name in own else shutil.which(name) or shutil.which(name, path="/usr/sbin")


def free_ports(count):
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


def prepare(folder):
    """Makes a certificate (ECDSA P-256, signed by itself) and the file that h2o serves."""
    key, certificate, both = (os.path.join(folder, name) for name in ("key", "certificate", "both.pem"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with open(both, "wb") as file:
        for name in (key, certificate):
            with open(name, "rb") as part:
                file.write(part.read())
    os.environ["BENCH_CERTIFICATE"] = both
    os.mkdir(os.path.join(folder, "files"))
    with open(os.path.join(folder, "files", "index.html"), "wb") as file:
        file.write(b"Hello, World!")


class Server:
    """One of them; `port` is for HTTP and `secure_port` for HTTPS, which the loop by hand has not."""

    def __init__(self, name, folder, *before, program=None):
        self.name = name
        command = [*before, program or program_of(name)]
        if name in ("ours", "bare"):
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            if name == "ours":
                self.port, self.secure_port = (int(self.process.stdout.readline()) for _ in range(2))
            else:  # listening on ADDRESS:PORT (NAME)
                self.port, self.secure_port = int(self.process.stdout.readline().split()[2].rpartition(":")[2]), None
            return
        for _ in range(3):  # a free port may be another process's by the time it is taken
            self.port, self.secure_port = free_ports(2)
            if self.start(folder, command):
                return
        sys.exit(f"{name} does not start")

    def start(self, folder, command):
        path = os.path.join(folder, self.name + ".conf")
        text = CONFIGURATIONS[self.name].format(folder=folder, port=self.port, secure_port=self.secure_port,
                                                user=getpass.getuser())
        with open(path, "w", encoding="ascii") as file:
            file.write(nginx.configuration(folder, text, 12000) if self.name == "nginx" else text)
        words = {"nginx": ["-e", "stderr", "-c"], "h2o": ["-c"], "haproxy": ["-q", "-db", "-f"]}[self.name]
        self.process = subprocess.Popen([*command, *words, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while self.process.poll() is None:
            try:
                for port in (self.port, self.secure_port):
                    socket.create_connection(("127.0.0.1", port)).close()
                return True
            except OSError:
                time.sleep(0.05)
        return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
