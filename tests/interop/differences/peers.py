"""The servers that are compared: how each is found and started, and its version."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time

import nginx

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"  # Debian's packages belong to Debian's Python, which need not be the first one
NGINX = """
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{backend};
            proxy_http_version 1.1;
        }}
    }}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    server one 127.0.0.1:{backend}
"""


def tool(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def output(*command):
    """What a program says of itself, or None if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return (done.stdout + done.stderr).strip()


def first_number(text):
    return re.search(r"\d+(\.\d+)+", text)[0] if text else None


def python_package(name):
    return output(PYTHON, "-c", f"import {name}; print({name}.__version__)")


class Peers(contextlib.ExitStack):
    """Starts them, and ends them with the block. Each of its methods gives a version and a port, or None if there is no
    such program."""

    def __init__(self, folder, ours):
        super().__init__()
        self.folder, self.ours_path = folder, ours
        self.backend = None

    def start(self, *command):
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.callback(process.wait)
        self.callback(process.kill)
        return process

    def port_of(self, *command):
        """The number at the end of its first line of output."""
        line = self.start(*command).stdout.readline().decode()
        return int(re.search(r"(\d+)( \(\w+\))?$", line.rstrip())[1])

    def proxy(self, program, template, *arguments, configuration=str):
        if self.backend is None:
            self.backend = self.port_of(PYTHON, os.path.join(HERE, "peer.py"), "backend")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        path = os.path.join(self.folder, os.path.basename(program) + ".configuration")
        with open(path, "w", encoding="ascii") as file:
            file.write(configuration(template.format(port=port, backend=self.backend)))
        self.start(program, *arguments, path)
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return port
            time.sleep(0.05)
        raise SystemExit(f"{program} does not start")

    def ours(self):
        return "this tree", self.port_of(self.ours_path)

    def llhttp(self):
        version = tool("node") and output("node", "-p", "process.versions.llhttp")
        return version and (version, self.port_of("node", os.path.join(HERE, "peer.js"), "llhttp"))

    def node(self):
        version = tool("node") and first_number(output("node", "--version"))
        return version and (version, self.port_of("node", os.path.join(HERE, "peer.js"), "http"))

    def h11(self):
        version = python_package("h11")
        return version and (version, self.port_of(PYTHON, os.path.join(HERE, "peer.py"), "h11"))

    def aiohttp(self):
        version = python_package("aiohttp")
        return version and (version, self.port_of(PYTHON, os.path.join(HERE, "peer.py"), "aiohttp"))

    def nginx(self):
        program = tool("nginx")
        return program and (first_number(output(program, "-v")),
                            self.proxy(program, NGINX, "-p", self.folder, "-e", "stderr", "-c",
                                       configuration=lambda web: nginx.configuration(self.folder, web)))

    def haproxy(self):
        program = tool("haproxy")
        return program and (first_number(output(program, "-v")), self.proxy(program, HAPROXY, "-f"))


NAMES = ["ours", "llhttp", "node", "h11", "aiohttp", "nginx", "haproxy"]
