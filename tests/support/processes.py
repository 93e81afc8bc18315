"""What the tests of real processes share: starting a program and reading its lines, connecting to it, playing the other
side, and asking the kernel what a process does. Nothing here waits by sleeping: it waits for a line, for bytes, for an
end, and fails after PATIENCE seconds, which are far more than any of it needs."""

import contextlib
import os
import re
import resource
import select
import signal
import socket
import subprocess
import threading
import time
import unittest

PATIENCE = 60
BACKEND = os.environ.get("REACTOR_BACKEND", "auto")
# gcov counts what is run (tests/run --coverage), and a program that is killed does not say what it has counted.
COUNTED = os.environ.get("COUNTED", "false") == "true"


def raise_descriptor_limit(wanted):
    """Allows this process, and what it starts, so many descriptors. False if the hard limit forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        return False
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return True


class Program:
    """A process whose output is read by lines. With `descriptors`, that is all it may have open; with
    `standard_input`, it can be written to. `before` is called in the child before exec."""

    def __init__(self, *command, descriptors=None, environment=None, standard_input=subprocess.DEVNULL,
                 standard_error=subprocess.PIPE, pass_descriptors=(), before=None):
        command = [str(argument) for argument in command]

        def prepare():
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which these tests may run, ignores it
            if before is not None:
                before()

        is_ordinary = before is None and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
        if descriptors is not None:
            command = ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh", *command]
        self.name = " ".join(command)
        self.process = subprocess.Popen(
            command, bufsize=0, stdin=standard_input, stdout=subprocess.PIPE, stderr=standard_error,
            env={**os.environ, **(environment or {})}, pass_fds=pass_descriptors,
            preexec_fn=None if is_ordinary else prepare)
        self.pid = self.process.pid
        self.output = b""

    def line(self):
        """The next line of its standard output, without its end."""
        deadline = time.monotonic() + PATIENCE
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        while b"\n" not in self.output:
            if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
                raise AssertionError(f"{self.name}: no line came in {PATIENCE} s, only {self.output!r}")
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                raise AssertionError(f"{self.name}: ended instead of printing a line; it had printed {self.output!r}, "
                                     f"and on standard error {self.process.stderr.read()!r}")
            self.output += piece
        line, self.output = self.output.split(b"\n", 1)
        return line.decode()

    def end(self):
        """Waits for its end. Its exit status, the rest of its standard output, and its standard error."""
        try:
            output, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, errors = self.process.communicate()
            raise AssertionError(f"{self.name}: still ran after {PATIENCE} s, printed {output!r} and {errors!r}")
        return self.process.returncode, (self.output + (output or b"")).decode(), (errors or b"").decode()

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def let_go(self):
        """When the test is over: ends it, asking it to, twice if need be, where it is to say what it has counted."""
        for _ in range(2 if COUNTED else 0):
            if self.process.poll() is None:
                self.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(1)
        self.kill()

    # What the kernel says about it (proc(5)).

    def status(self, field):
        """A number of /proc/PID/status."""
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        raise KeyError(field)

    def resident(self):
        """Bytes of memory in use."""
        return self.status("VmRSS") * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def run_state(self):
        """Whether it sleeps, and how often it has been put to sleep or aside: if it sleeps twice with the same
        number, it did not run in between."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as stat:
            state = stat.read().rpartition(")")[2].split()[0]
        return state, self.status("voluntary_ctxt_switches") + self.status("nonvoluntary_ctxt_switches")


class Server(Program):
    """A program that prints a line `listening on ADDRESS:PORT (BACKEND)` for each of its addresses."""

    def __init__(self, *command, addresses=1, **options):
        super().__init__(*command, **options)
        try:
            self.listening = [self.line() for _ in range(addresses)]
            self.address = self.listening[0].split()[2]
            if not self.address.startswith("unix:"):
                self.port = int(self.address.rpartition(":")[2])
        except BaseException:
            self.kill()
            raise


class ProcessTest(unittest.TestCase):
    """A test that starts processes and talks to them; everything it starts ends with it."""

    def start(self, *command, **options):
        program = Program(*command, **options)
        self.addCleanup(program.let_go)
        return program

    def start_server(self, *command, **options):
        server = Server(*command, **options)
        self.addCleanup(server.let_go)
        return server

    def connect(self, server, family=socket.AF_INET, receive_buffer=None):
        """A connection to a Server or to a port of the loopback."""
        client = socket.socket(family, socket.SOCK_STREAM)
        self.addCleanup(client.close)
        client.settimeout(PATIENCE)
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(("::1" if family == socket.AF_INET6 else "127.0.0.1", getattr(server, "port", server)))
        return client

    def play_server(self, conversation):
        """Accepts one connection in a thread and gives it to conversation(connection). Returns the port. What the
        conversation raises, other than that the connection broke, fails the test."""
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(PATIENCE)
        raised = []

        def play():
            try:
                with contextlib.closing(listener), listener.accept()[0] as connection:
                    connection.settimeout(PATIENCE)
                    conversation(connection)
            except ConnectionError:
                pass
            except Exception as error:
                raised.append(error)

        def finish():
            thread.join(PATIENCE)
            self.assertFalse(thread.is_alive(), "the conversation did not end")
            self.assertEqual(raised, [])

        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        self.addCleanup(finish)
        return listener.getsockname()[1]

    def restart(self, server, process):
        """Has the process start its successor. Returns the successor's process id, once it listens."""
        os.kill(process, signal.SIGHUP)
        lines = [server.line(), server.line()]
        told = [re.fullmatch(r"process (\d+) goes on", line) for line in lines]
        self.assertTrue(any(lines[i].startswith("listening on") for i in range(2)), lines)
        successor = int(next(match for match in told if match).group(1))
        self.addCleanup(self.end_process, successor)
        return successor

    def end_process(self, process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)

    def restart_under_load(self, server, clients, restarts, converse):
        """Restarts it again and again, each time once every client has had a conversation since: none may fail."""
        ending, served, failures = threading.Event(), [0] * clients, []

        def load(which):
            while not ending.is_set():
                try:
                    converse()
                    served[which] += 1
                except Exception as error:
                    failures.append(error)
                    return

        threads = [threading.Thread(target=load, args=(which,)) for which in range(clients)]
        for thread in threads:
            thread.start()
        processes = [server.pid]
        try:
            for _ in range(restarts):
                before = list(served)
                processes.append(self.restart(server, processes[-1]))
                self.until(lambda: failures or all(now > then for now, then in zip(served, before)), "each to be served")
        finally:
            ending.set()
            for thread in threads:
                thread.join(PATIENCE)
        self.assertEqual(failures, [])
        self.assertEqual(len(set(processes)), restarts + 1)
        self.assertEqual(server.process.wait(PATIENCE), 0)  # the first one ended when its last client had gone

    def receive(self, client, size):
        """Exactly so many bytes."""
        pieces = []
        while size > 0:
            piece = client.recv(min(size, 1 << 20))
            if not piece:
                raise AssertionError(f"the stream ended with {size} bytes missing")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def receive_all(self, client):
        """What comes until the end of the stream."""
        return b"".join(iter(lambda: client.recv(1 << 20), b""))

    def assert_echoes(self, client, message=b"is anybody there?"):
        client.sendall(message)
        self.assertEqual(self.receive(client, len(message)), message)

    def assert_served(self, server, family=socket.AF_INET):
        """A client is answered, and goes: a server that is to end waits some seconds for those that stay."""
        with self.connect(server, family) as client:
            self.assert_echoes(client)

    def assert_ended(self, client):
        """The other side closes or resets, and sends nothing before."""
        try:
            self.assertEqual(client.recv(1024), b"")
        except ConnectionError:
            pass

    def until(self, condition, what):
        """Asks again and again; a round trip through a process in between gives the machine time to get there."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {PATIENCE} s in vain: {what}")
            self.beat(10)

    def beat(self, count):
        """Lets time pass without sleeping: so many round trips through a process that has nothing to do with the
        test."""
        if not hasattr(self, "metronome"):
            cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            self.metronome = cat

            def end():
                cat.stdin.close()
                cat.stdout.close()
                cat.wait(PATIENCE)

            self.addCleanup(end)
        for _ in range(count):
            self.metronome.stdin.write(b"x")
            self.metronome.stdout.read(1)

    def until_it_rests(self, program):
        """Waits until the process does nothing any more."""
        def rests():
            before = program.run_state()
            self.beat(100)
            return before[0] == "S" and program.run_state() == before

        self.until(rests, f"{program.name} to come to rest; now {program.run_state()}")

    def assert_rests(self, program):
        """The process does nothing while 20000 round trips go through another one, but for a timer or two. It has a few
        such stretches: TCP asks a window that is closed again after 0.2, 0.4, 0.8 s (RFC 9293, 3.8.6.1), each time the
        peer's kernel may take a few bytes more, and then there is something to send."""
        for _ in range(5):
            self.until_it_rests(program)
            before = program.run_state()
            self.beat(20000)
            after = program.run_state()
            if after[0] == "S" and after[1] - before[1] <= 5:
                return
        self.fail(f"it ran {after[1] - before[1]} times while nothing happened, and is in state {after[0]}")
