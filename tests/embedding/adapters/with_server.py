"""Runs a program beside servers that it talks to, and returns its exit status: with_server.py SERVER,… PROGRAM ARGUMENT…,
where {NAME} in an argument is a variable of the environment. It runs on
every backend, and on epoll inside another loop. Servers have a port that was free, or a socket in a folder of their own,
and go when the program has ended."""

import functools
import glob
import http.server
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

LIMIT = 100  # seconds for the program
SKIPPED = 77  # meson's word for it
WAYS = {**{backend: {"REACTOR_BACKEND": backend} for backend in ("epoll", "poll", "select")},
        "epoll, inside another loop": {"REACTOR_BACKEND": "epoll", "REACTOR_NESTED": "yes"}}


def run(program, **environment):
    """One run for each way in which a loop is driven; the status of the first that fails. Or the next server's."""
    if callable(program):
        os.environ.update(environment)
        return program()
    if sys.argv[3:]:
        return run_as_written(program, environment)
    for name, way in WAYS.items():
        print(f"== {name}", flush=True)
        status = subprocess.run([program], env={**os.environ, **environment, **way}, timeout=LIMIT).returncode
        if status != 0:
            return status
    return 0


def run_as_written(program, environment):
    """The same for a program with arguments, which is no test by itself: it succeeds, and prints something."""
    class Program(unittest.TestCase):
        def test_it_succeeds_in_every_way_to_drive_a_loop(self):
            for name, way in WAYS.items():
                variables = {**os.environ, **environment, **way}
                arguments = [argument.format(**variables) for argument in sys.argv[3:]]
                with self.subTest(name):
                    done = subprocess.run([program, *arguments], env=variables, timeout=LIMIT, text=True,
                                          capture_output=True)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertNotEqual(done.stdout, "")

    program_tests = unittest.defaultTestLoader.loadTestsFromTestCase(Program)
    return 0 if unittest.TextTestRunner().run(program_tests).wasSuccessful() else 1


def alone(program):
    return run(program)


class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # so connections are kept
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms

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


def with_postgres(program):
    folders = [os.path.dirname(found) for found in (shutil.which("initdb"),) if found]
    folders += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    if not folders:
        print("skipped: there is no PostgreSQL")
        return SKIPPED
    other = {}
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:  # it refuses to run as root
            owner = pwd.getpwnam("nobody")
            other = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        data = os.path.join(folder, "data")
        made = subprocess.run([os.path.join(folders[0], "initdb"), "-D", data, "-U", "reactor", "-A", "trust", "-N",
                               "--no-locale", "-E", "UTF8"], cwd=folder, timeout=LIMIT, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **other)
        if made.returncode != 0:
            print("initdb fails:", made.stdout)
            return 1
        command = [os.path.join(folders[0], "postgres"), "-D", data, "-k", folder, "-c", "listen_addresses=",
                   "-c", "fsync=off", "-c", "shared_buffers=16MB"]
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, **other) as server:
            try:
                lines = []
                for line in server.stderr:
                    lines.append(line)
                    if "ready to accept connections" in line:
                        break
                else:
                    print("postgres does not start:", *lines)
                    return 1
                threading.Thread(target=server.stderr.read, daemon=True).start()
                return run(program, EMBEDDING_SOCKET=folder)
            finally:
                server.send_signal(signal.SIGINT)  # at once, but in order: its shared memory goes with it


def started(command, says, program, **environment):
    """Runs the program once the server has printed `says`."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            lines = []
            for line in server.stdout:
                lines.append(line)
                if says in line:
                    break
            else:
                print(f"{command[0]} does not start:", *lines)
                return 1
            threading.Thread(target=server.stdout.read, daemon=True).start()
            return run(program, **environment)
        finally:
            server.kill()


def found(name):
    """A server's path; those in sbin are not in everybody's PATH."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def with_mariadb(program):
    server = found("mariadbd")
    if server is None:
        print("skipped: there is no mariadbd")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        # Without the system's tables, which take longer to make than the tests: so without users, too.
        command = [server, "--no-defaults", "--datadir=" + folder, "--plugin-dir=" + folder, "--socket=" + path,
                   "--skip-networking", "--skip-grant-tables", "--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M",
                   "--innodb-flush-log-at-trx-commit=0"]
        command += ["--user=root"] if os.geteuid() == 0 else []
        return started(command, "ready for connections", program, EMBEDDING_SOCKET=path)


def with_mosquitto(program):
    server = found("mosquitto")
    if server is None:
        print("skipped: there is no mosquitto")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        path = os.path.join(folder, "configuration")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n")
            file.write("user root\n" if os.geteuid() == 0 else "")
        return started([server, "-c", path], "running", program, EMBEDDING_BROKER=str(port))


def with_ssh(program):
    server = found("sshd")
    if server is None or not shutil.which("ssh-keygen"):
        print("skipped: there is no sshd")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-m", "PEM", "-N", "", "-f", os.path.join(folder, name)],
                           check=True, timeout=LIMIT)
        port = free_port()
        path = os.path.join(folder, "configuration")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nPidFile none\nStrictModes no\n"
                       f"AuthorizedKeysFile {folder}/user.pub\nPasswordAuthentication no\nUsePAM no\nPermitRootLogin yes\n")
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        return started([server, "-D", "-e", "-f", path], "Server listening", program, EMBEDDING_PORT=str(port),
                       EMBEDDING_KEY=os.path.join(folder, "user"), EMBEDDING_USER=pwd.getpwuid(os.geteuid()).pw_name)


def with_avahi(program):
    """A bus and avahi-daemon in a network and a /run of its own, with the service "page" of the type _http._tcp."""
    server = found("avahi-daemon")
    needed = [server, shutil.which("dbus-daemon"), shutil.which("unshare"), found("ip")]
    spaces = ["unshare", "--net", "--mount"]  # as root alone: the bus would take another name for a lie
    if None in needed or subprocess.run([*spaces, "true"], stderr=subprocess.DEVNULL).returncode != 0:
        print("skipped: there is no avahi-daemon, no dbus-daemon, or no right to a namespace")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        texts = {
            "bus.conf": "<!DOCTYPE busconfig PUBLIC '-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN'"
                        " 'http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd'><busconfig>"
                        f"<listen>unix:path={folder}/bus</listen><auth>EXTERNAL</auth><policy context='default'>"
                        "<allow send_destination='*'/><allow receive_sender='*'/><allow own='*'/></policy></busconfig>",
            "avahi.conf": "[server]\nhost-name=reactor-test\nuse-ipv6=no\n[publish]\npublish-workstation=no\n",
            "services/page.service": "<!DOCTYPE service-group SYSTEM 'avahi-service.dtd'><service-group><name>page</name>"
                                     "<service><type>_http._tcp</type><port>80</port></service></service-group>",
        }
        os.mkdir(os.path.join(folder, "services"))
        for name, text in texts.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
        address = f"unix:path={folder}/bus"
        steps = (f"mount -t tmpfs none /run && mount --bind {folder}/services /etc/avahi/services && ip link set lo up"
                 f" && exec {server} -f {folder}/avahi.conf --no-rlimits --no-drop-root --no-chroot --no-proc-title")
        avahi = ["env", "DBUS_SYSTEM_BUS_ADDRESS=" + address, *spaces, "sh", "-c", steps]
        bus = ["dbus-daemon", "--nofork", "--nopidfile", "--print-address=1", f"--config-file={folder}/bus.conf"]
        then = functools.partial(started, avahi, "successfully established", program)
        return started(bus, "unix:path", lambda: then(DBUS_SYSTEM_BUS_ADDRESS=address))


def with_pulseaudio(program):
    """PulseAudio with a sink that plays into nothing."""
    if not shutil.which("pulseaudio"):
        print("skipped: there is no pulseaudio")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        command = ["env", "HOME=" + folder, "XDG_RUNTIME_DIR=" + folder, "pulseaudio", "-n", "--daemonize=no",
                   "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes", "--realtime=no", "--high-priority=no",
                   "--log-level=info", "--load=module-null-sink", f"--load=module-native-protocol-unix auth-anonymous=1 socket={path}"]
        return started(command, "startup complete", program, EMBEDDING_SOCKET=path, HOME=folder)


SERVERS = {"avahi": with_avahi, "none": alone, "http": with_http, "mariadb": with_mariadb, "mosquitto": with_mosquitto,
           "postgres": with_postgres, "pulseaudio": with_pulseaudio, "redis": with_redis, "ssh": with_ssh}

if __name__ == "__main__":
    servers, what = [SERVERS[name] for name in sys.argv[1].split(",")], sys.argv[2]
    for server in reversed(servers):
        what = functools.partial(server, what)
    sys.exit(what())
