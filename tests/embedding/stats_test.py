"""echo_server --stats prints what is counted, while it runs and at the end."""

import re
import signal
import socket
import subprocess
import sys
import unittest

SERVER = sys.argv[1]


class Stats(unittest.TestCase):
    def test_the_counters_are_printed_again_and_again_and_at_the_end(self):
        with subprocess.Popen([SERVER, "--host", "127.0.0.1", "--port", "0", "--stats", "0.02"], stdout=subprocess.PIPE,
                              text=True) as server:
            try:
                port = int(re.match(r"listening on 127\.0\.0\.1:(\d+) ", server.stdout.readline())[1])
                with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                    client.sendall(b"hello")
                    self.assertEqual(client.recv(5, socket.MSG_WAITALL), b"hello")
                    self.assertTrue(any("connections=1 accepted=1 " in server.stdout.readline() for _ in range(10000)))
                server.send_signal(signal.SIGTERM)
                rest, _ = server.communicate(timeout=60)
                self.assertEqual(server.returncode, 0)
                last = rest.splitlines()[-1]
                self.assertRegex(last, r"^stats: connections=0 accepted=1 shed=0 back_offs=0 turns=\d+ events=\d+ ")
            finally:
                server.kill()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
