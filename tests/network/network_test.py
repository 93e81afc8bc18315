"""Connections over a network that fails, in namespaces of the test's own: a link that goes down, loss, delay. Client
and server stand in two network namespaces, joined by two cables (veth(4)). A namespace lives as long as a process in it
that ends with this one, whatever ends it: so nothing is left behind, and no name is taken. It takes root, unshare,
nsenter and ip(8); where one is missing the tests are skipped, and say so. ECHO_SERVER and NETWORK_CLIENT are the
programs at the two ends. How long something takes is not asserted, only that it happens, before PATIENCE is over."""

import os
import shutil
import subprocess
import unittest

from processes import ProcessTest

ECHO_SERVER = os.environ.get("ECHO_SERVER", "build/protocols/echo_server")
NETWORK_CLIENT = os.environ.get("NETWORK_CLIENT", "build/tests/network_client")
PORT = 7000
CABLES = (1, 2)
PROGRESS = 1 << 20  # after so many bytes the client says how many it has


class Namespace:
    """A network namespace of its own, held open by a cat that waits for an end of its input."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "cat"], bufsize=0, stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            self.holder.stdin.write(b"\n")  # comes back once unshare has become cat
            if self.holder.stdout.read(1) != b"\n":
                raise OSError(self.holder.stderr.read().decode().strip())
        except BaseException:
            self.close()
            raise

    @property
    def pid(self):
        return self.holder.pid

    def command(self, *words):
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *map(str, words)]

    def run(self, *words):
        done = subprocess.run(self.command(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
        return done.stdout

    def close(self):
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.stderr.close()
        self.holder.wait()


def missing():
    """Why there can be no namespaces here; None if there can."""
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    try:
        one, other = Namespace(), Namespace()
    except OSError as error:
        return f"no network namespace can be made: {error}"
    try:
        one.run("ip", "link", "add", "probe", "type", "veth", "peer", "name", "probe", "netns", other.pid)
    except OSError as error:
        return f"no pair of virtual devices can be made: {error}"
    finally:
        one.close()
        other.close()
    return None


MISSING = missing()


@unittest.skipIf(MISSING, MISSING)
class NetworkTest(ProcessTest):
    """Cable N has the address 10.77.N.1 at the client's end and 10.77.N.2 at the server's. Both ends know each other's
    hardware address beforehand: what is lost is lost in silence, and no failed ARP gives it away."""

    def setUp(self):
        self.near, self.far = (self.namespace() for _ in range(2))
        for end in (self.near, self.far):
            end.run("ip", "link", "set", "lo", "up")
        for cable in CABLES:
            name = f"cable{cable}"
            self.near.run("ip", "link", "add", name, "address", self.hardware(cable, 1), "type", "veth",
                          "peer", "name", name, "address", self.hardware(cable, 2), "netns", self.far.pid)
            for end, number in ((self.near, 1), (self.far, 2)):
                end.run("ip", "address", "add", f"10.77.{cable}.{number}/24", "dev", name)
                self.link(end, cable, "up")
                end.run("ip", "neighbour", "replace", f"10.77.{cable}.{3 - number}", "lladdr",
                        self.hardware(cable, 3 - number), "dev", name, "nud", "permanent")

    @staticmethod
    def hardware(cable, number):
        return f"02:00:00:00:{cable:02}:{number:02}"

    @staticmethod
    def address(cable):
        return f"10.77.{cable}.2:{PORT}"

    @staticmethod
    def link(end, cable, state):
        end.run("ip", "link", "set", f"cable{cable}", state)

    def namespace(self):
        result = Namespace()
        self.addCleanup(result.close)
        return result

    def server(self):
        return self.start_server(*self.far.command(ECHO_SERVER, "--host", "0.0.0.0", "--port", PORT))

    def client(self, *arguments):
        return self.start(*self.near.command(NETWORK_CLIENT, *arguments), standard_input=subprocess.PIPE)

    @staticmethod
    def tell(client, command):
        client.process.stdin.write(command.encode() + b"\n")

    def assert_lines(self, client, *lines):
        self.assertEqual([client.line() for _ in lines], list(lines))

    def assert_echoed(self, client, size):
        """The client gets all of so many bytes back, since its beginning; on the way there it tells how many it has."""
        for told in range(self.echoed + PROGRESS - self.echoed % PROGRESS, size, PROGRESS):
            self.assert_lines(client, f"echoed {told}")
        self.assert_lines(client, f"echoed {size}")
        self.echoed = size

    def connected(self, *arguments, cable=1):
        """A client that has had an answer over this cable."""
        client = self.client(*arguments, self.address(cable))
        self.assert_lines(client, f"connected to {self.address(cable)}")
        self.tell(client, "echo 1000")
        self.echoed = 0
        self.assert_echoed(client, 1000)
        return client

    def retransmitted(self):
        """Segments that either end has had to send again."""
        total = 0
        for end in (self.near, self.far):
            names, values = (line.split() for line in end.run("cat", "/proc/net/snmp").splitlines()
                             if line.startswith("Tcp:"))
            total += int(values[names.index("RetransSegs")])
        return total


class Vanished(NetworkTest):
    def test_unacknowledged_data_ends_a_connection_at_its_user_timeout(self):
        self.server()
        client = self.connected("--user-timeout", 500)
        self.link(self.far, 1, "down")
        self.tell(client, "send 1000")
        self.assert_lines(client, "ended: Connection timed out")
        self.assertEqual(client.end(), (0, "", ""))

    def test_a_peer_that_comes_back_within_the_user_timeout_loses_nothing(self):
        self.server()
        client = self.connected("--user-timeout", 60_000)
        self.link(self.far, 1, "down")
        self.tell(client, "echo 1000")
        self.until(lambda: self.retransmitted() > 0, "what was sent to be sent again")
        self.link(self.far, 1, "up")
        self.assert_lines(client, "echoed 2000")

    def test_keep_alive_ends_a_connection_on_which_nobody_says_anything(self):
        self.server()
        client = self.connected("--keep-alive", 1)
        self.link(self.far, 1, "down")
        self.assert_lines(client, "ended: Connection timed out")
        self.assertEqual(client.end(), (0, "", ""))


class Lossy(NetworkTest):
    def test_a_link_that_goes_down_and_up_again_and_again_loses_no_byte(self):
        self.server()
        client = self.connected()
        for megabytes in range(1, 6):
            before = self.retransmitted()
            self.link(self.far, 1, "down")
            self.tell(client, f"echo {1 << 20}")
            self.until(lambda: self.retransmitted() > before, "what was lost to be sent again")
            self.link(self.far, 1, "up")
            self.link(self.far, 1, "down")  # and perhaps in the middle of it
            self.link(self.far, 1, "up")
            self.assert_echoed(client, 1000 + (megabytes << 20))

    def test_loss_delay_and_reordering_lose_no_byte(self):
        for end in (self.near, self.far):
            try:
                end.run("tc", "qdisc", "add", "dev", "cable1", "root", "netem", "delay", "2ms", "1ms", "loss", "1%",
                        "reorder", "75%", "duplicate", "1%")
            except OSError as error:
                self.skipTest(f"the kernel has no netem: {error}")
        self.server()
        client = self.connected()
        self.tell(client, f"echo {8 << 20}")
        self.assert_echoed(client, 1000 + (8 << 20))
        self.assertGreater(self.retransmitted(), 0, "nothing was lost on the way")


class Connecting(NetworkTest):
    def test_behind_a_link_that_is_down_at_the_far_end_the_next_address_is_tried(self):
        self.server()
        self.link(self.far, 1, "down")
        client = self.client(self.address(1), self.address(2))
        self.assert_lines(client, f"connected to {self.address(2)}")

    def test_and_without_another_address_it_is_given_up_at_the_deadline(self):
        self.link(self.far, 1, "down")
        client = self.client("--timeout", 300, self.address(1))
        self.assert_lines(client, f"failed {self.address(1)}: Connection timed out", "ended: Connection timed out")

    def test_without_a_route_the_kernel_says_so_and_the_next_address_is_tried(self):
        self.server()
        self.link(self.near, 1, "down")
        client = self.client(self.address(1))
        self.assert_lines(client, f"failed {self.address(1)}: Network is unreachable", "ended: Network is unreachable")
        client = self.client(self.address(1), self.address(2))
        self.assert_lines(client, f"connected to {self.address(2)}")

    def test_reconnecting_goes_on_until_the_link_is_up_again(self):
        self.server()
        self.link(self.near, 1, "down")
        client = self.client("--reconnect", self.address(1))
        for _ in range(3):
            self.assert_lines(client, f"failed {self.address(1)}: Network is unreachable",
                              "ended: Network is unreachable")
        self.link(self.near, 1, "up")
        line = client.line()
        while not line.startswith("connected"):
            line = client.line()
        self.tell(client, "echo 1000")
        self.assert_lines(client, "echoed 1000")


if __name__ == "__main__":
    unittest.main(verbosity=2)
