"""The README's programs do what the README says: they are compiled as they stand there, and run here."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

FOLDER = os.environ["README_PROGRAMS"]
PORT = 10000  # the README's


def program(name):
    return os.path.join(FOLDER, "readme_" + name)


class Readme(unittest.TestCase):
    def test_the_test_without_a_socket_passes(self):
        subprocess.run([program("test")], check=True, timeout=60)

    def test_the_client_prints_what_the_server_sends_back(self):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", PORT))
            except OSError:
                self.skipTest(f"port {PORT} is in use")
        with subprocess.Popen([program("echo")]) as server:
            try:
                answer = None
                for _ in range(10000):  # until it listens, which it does not tell
                    result = subprocess.run([program("ask")], capture_output=True, text=True, timeout=60)
                    answer = result.stdout
                    if "refused" not in result.stderr:
                        break
                self.assertEqual(answer, "What is the answer?\n")
            finally:
                server.kill()

    def test_the_shell_lines_build_the_server_and_show_its_answer(self):
        """The lines after `meson setup`, on the library of this build and on a port that is free."""
        has_nc = shutil.which("nc") and "-N" in subprocess.run(["nc", "-h"], stdout=subprocess.PIPE,
                                                               stderr=subprocess.STDOUT, text=True, timeout=60).stdout
        if os.environ.get("SANITIZED", "none") != "none" or not has_nc or not shutil.which("g++"):
            self.skipTest("needs a plain build, g++ and an nc that knows -N")
        top = pathlib.Path(__file__).resolve().parents[2]
        readme = (top / "README.md").read_text(encoding="utf-8")
        build, start, ask, answer = re.search(
            r"\$ meson setup.*\n +\$ (g\+\+.*)\n +\$ (.*) &\n +\$ (.*)\n +(\w+)\n", readme).groups()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        with tempfile.TemporaryDirectory() as folder:
            source = re.search(r"```cpp\n(// echo\.cpp\n.*?)```", readme, re.DOTALL)[1].replace(str(PORT), port)
            pathlib.Path(folder, "echo.cpp").write_text(source, encoding="utf-8")
            build = build.replace("-I.", f"-I{top}").replace("build/", os.environ["BUILD"] + "/")
            subprocess.run(["sh", "-c", build], cwd=folder, check=True, timeout=300)
            with subprocess.Popen([start], cwd=folder) as server:
                try:
                    for _ in range(10000):  # until it listens
                        said = subprocess.run(["sh", "-c", ask.replace(str(PORT), port)], capture_output=True, text=True,
                                              timeout=60).stdout
                        if said:
                            break
                    self.assertEqual(said, answer + "\n")
                finally:
                    server.kill()

    def test_the_server_of_datagrams_answers(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            try:
                client.bind(("127.0.0.1", PORT))
            except OSError:
                self.skipTest(f"port {PORT} is in use")
        with subprocess.Popen([program("names")]) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            try:
                client.settimeout(60)
                client.connect(("127.0.0.1", PORT))
                answer = None
                for _ in range(100000):  # until it is bound, which it does not tell
                    try:
                        client.send(b"who is it?")
                        answer = client.recv(100)
                        break
                    except ConnectionRefusedError:
                        pass
                self.assertEqual(answer, b"who is it?")
            finally:
                server.kill()

    def test_the_client_says_what_went_wrong(self):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                self.skipTest(f"something listens on port {PORT}")
        result = subprocess.run([program("ask")], capture_output=True, text=True, timeout=60)
        self.assertEqual(result.stderr, "Connection refused\n")


if __name__ == "__main__":
    unittest.main()
