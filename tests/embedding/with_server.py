"""Runs a program beside a server that it talks to, and returns its exit status: with_server.py http|redis PROGRAM.
Servers have a port that was free, or a socket in a folder of their own, and go when the program has ended."""

import http.server
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

LIMIT = 100  # seconds for the program
SKIPPED = 77  # meson's word for it


def run(program, **environment):
    return subprocess.run([program], env={**os.environ, **environment}, timeout=LIMIT).returncode


class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # so connections are kept

    def do_GET(self):
        body = b"x" * 3_000_000 if self.path == "/large" else f"hello from {self.path}\n".encode()
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/hello")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass  # the client gave up, as one of the tests does

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, *_):
        pass


def with_http(program):
    with Server(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            return run(program, EMBEDDING_PORT=str(server.server_address[1]))
        finally:
            server.shutdown()


def with_redis(program):
    if not shutil.which("redis-server"):
        print("skipped: there is no redis-server")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        command = ["redis-server", "--port", "0", "--unixsocket", path, "--dir", folder, "--save", "", "--appendonly", "no",
                   "--daemonize", "no"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                # It says when it accepts connections, and ends the output if it fails.
                lines = []
                for line in server.stdout:
                    lines.append(line)
                    if "ready to accept connections" in line.lower():
                        break
                with socket.socket(socket.AF_UNIX) as probe:
                    if probe.connect_ex(path) != 0:
                        print("redis-server does not start:", *lines)
                        return 1
                threading.Thread(target=server.stdout.read, daemon=True).start()
                return run(program, EMBEDDING_SOCKET=path)
            finally:
                server.kill()


if __name__ == "__main__":
    sys.exit({"http": with_http, "redis": with_redis}[sys.argv[1]](sys.argv[2]))
