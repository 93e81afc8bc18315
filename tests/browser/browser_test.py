"""A real browser, Chromium, and two programs: the example with a web page, with its files, WebSockets, a stream and a restart, and
http_server with TLS. CHAT and HTTP_SERVER say where they are; a picture of the page is left in the folder SCREENSHOTS. Skipped without the packages chromium and
chromium-driver; `tests/run --browser` installs them."""

import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import unittest

import webdriver
from processes import PATIENCE, ProcessTest

CHAT = os.environ.get("CHAT", "build/protocols/chat")
HTTP_SERVER = os.environ.get("HTTP_SERVER", "build/protocols/http_server")
PAGES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "protocols", "examples", "chat", "page")
SCREENSHOTS = os.environ.get("SCREENSHOTS", "build")
FILES = ["chat.css", "chat.js", "chat.svg"]
LOADED = """
return performance.getEntriesByType("resource").map((each) => [each.name.split("/").pop(), each.responseStatus, each.transferSize > 0]);
"""
TEXTS = "return [...document.querySelectorAll('#lines p')].map((each) => each.textContent);"
# Says lines "NAME 0", "NAME 1" … one behind the other, each when the one before has come back, until the page is asked to stop.
TALK = """
const [name, words] = arguments;
document.getElementById("name").value = name;
const say = () => {
    if (document.body.dataset.stop) return document.body.dataset.said = number;
    document.getElementById("text").value = `${words} ${number++}`;
    document.getElementById("say").requestSubmit();
};
let number = 0;
new MutationObserver(() => { if (number > 0 && !document.querySelector(".pending")) say(); })
    .observe(document.getElementById("lines"), { subtree: true, childList: true, attributes: true });
say();
"""


# Sends each message to the WebSocket, and gives back how many came back as they were.
ECHO = """
const [url, done] = arguments, socket = new WebSocket(url), sizes = [0, 1, 125, 126, 65535, 65536, 1000000];
const messages = sizes.flatMap((size) => ["ä".repeat(size / 2), new Uint8Array(size).fill(255)]);
const same = (data, message) => typeof message === "string" ? data === message
    : data.byteLength === message.length && new Uint8Array(data).every((byte) => byte === 255);
let came = 0;
socket.binaryType = "arraybuffer";
socket.onopen = () => socket.send(messages[0]);
socket.onmessage = ({ data }) => {
    if (!same(data, messages[came])) return socket.close(4000);
    ++came < messages.length ? socket.send(messages[came]) : socket.close(1000);
};
socket.onclose = ({ code, wasClean }) => done([came, code, wasClean]);
"""
FETCH = """
const done = arguments[arguments.length - 1];
(async () => {
    const whole = await (await fetch("large.bin")).arrayBuffer();
    const digest = Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", whole)), (byte) => byte.toString(16).padStart(2, "0"));
    const part = await fetch("large.bin", { headers: { Range: "bytes=1000-1999" } });
    return [digest.join(""), part.status, (await part.arrayBuffer()).byteLength, (await fetch("absent")).status];
})().then(done, (error) => done(String(error)));
"""


@unittest.skipIf(webdriver.missing(), f"{webdriver.missing()} is not installed")
class BrowserTest(ProcessTest):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.browser = webdriver.Browser(self, self.path("profile"))

    def path(self, name):
        return os.path.join(self.folder, name)


class Chat(BrowserTest):
    def setUp(self):
        super().setUp()
        self.server = self.start_server(CHAT, "0", PAGES, self.path("lines"))
        self.url = f"http://127.0.0.1:{self.server.port}/"

    def enter(self, window=None):
        """Opens the page, and waits until it can speak."""
        if window is not None:
            self.browser.switch_to(window)
        self.browser.disable_cache()
        self.browser.open(self.url)
        self.browser.until("return document.querySelector('#status[data-state=connected]') !== null")

    def say(self, text):
        self.browser.type("#text", text)
        self.browser.click("button")

    def until_said(self, text):
        self.browser.until(f"return document.querySelector('#lines li:last-child:not(.pending) p')?.textContent === {json.dumps(text)}")

    def assert_loaded(self):
        """The page has its style, has run its script and shows its picture, all from the server and not from a cache."""
        loaded = {name: (status, transferred) for name, status, transferred in self.browser.run(LOADED)}
        self.assertEqual({name: loaded.get(name) for name in FILES}, dict.fromkeys(FILES, (200, True)))
        self.assertEqual(self.browser.run("return getComputedStyle(document.body).display"), "flex")
        self.assertEqual(self.browser.run("return document.querySelector('header img').naturalWidth > 0"), True)

    def restart(self, process):
        """Has the process start its successor, and goes on when that accepts. Returns its process id."""
        os.kill(process, signal.SIGHUP)
        successor = int(re.search(r"process (\d+)", self.server.line())[1])
        self.addCleanup(self.end_process, successor)
        return successor

    def end_process(self, process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)

    def test_two_pages_talk_to_each_other(self):
        browser = self.browser
        first, second = browser.windows()[0], browser.new_window()
        self.enter(first)
        self.assert_loaded()
        self.enter(second)
        browser.type("#name", "Grace")
        self.say("Hello, Ada. Is the loop running?")
        browser.switch_to(first)
        self.until_said("Hello, Ada. Is the loop running?")
        browser.type("#name", "Ada")
        self.say("It is – one thread, and it sleeps most of the time.")
        self.say("<b>größer</b> €")
        browser.switch_to(second)
        self.until_said("<b>größer</b> €")
        self.say("Then we can go home.")
        self.until_said("Then we can go home.")
        browser.switch_to(first)
        self.until_said("Then we can go home.")
        browser.screenshot(os.path.join(SCREENSHOTS, "chat.png"))
        print(f"{browser.version}: {os.path.join(SCREENSHOTS, 'chat.png')}")

    def test_a_response_is_seen_part_by_part(self):
        """The next part is sent when the page has seen the one before."""
        self.enter()
        parts = self.browser.run_async("""
            const done = arguments[arguments.length - 1];
            (async () => {
                const say = (text) => fetch("lines", { method: "POST", body: JSON.stringify({ id: text, name: "Page", text }) });
                const answer = await fetch("lines"), reader = answer.body.pipeThrough(new TextDecoderStream()).getReader(), seen = [];
                for (const text of ["one", "two", "three"]) {
                    await say(text);
                    seen.push(JSON.parse((await reader.read()).value).text);
                }
                await reader.cancel();
                return seen;
            })().then(done, (error) => done(String(error)));
        """)
        self.assertEqual(parts, ["one", "two", "three"])

    def test_a_line_that_is_no_pages_harms_no_page(self):
        """The server takes lines from anyone: bytes that are no text, and values that the page does not send."""
        for line, status in [(b"\xff", 400), (b"\xe2\x82", 400), (b'{"time": {"toString": 1, "valueOf": 1}}', 204), (b"null", 204),
                             (b'{"id": {"toString": 1}}', 204), (b'{"id": "last", "name": "Page", "text": "behind them"}', 204)]:
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)
            connection.request("POST", "/lines", line)
            self.assertEqual(connection.getresponse().status, status, line)
            connection.close()
        self.enter()
        self.until_said("behind them")

    def test_reloads_and_conversations_go_on_during_restarts(self):
        """One page speaks, another one is loaded again and again, while the server restarts."""
        browser = self.browser
        speaking, reloading = browser.windows()[0], browser.new_window()
        self.enter(speaking)
        browser.run(TALK, "Ada", "line")
        self.enter(reloading)
        process = self.server.pid
        for _ in range(3):
            os.kill(process, signal.SIGHUP)
            browser.reload()
            self.assert_loaded()
            process = int(re.search(r"process (\d+)", self.server.line())[1])
            self.addCleanup(self.end_process, process)
            browser.reload()
            self.assert_loaded()
        browser.switch_to(speaking)
        browser.run("document.body.dataset.stop = true")
        said = int(browser.until("return document.body.dataset.said"))
        self.assertGreater(said, 0)
        expected = [f"line {number}" for number in range(said)]
        self.assertEqual(browser.run(TEXTS), expected[-500:])
        self.enter(reloading)
        seen = browser.until("const texts = (() => { %s })(); return texts.length ? texts : null" % TEXTS)
        self.assertEqual(seen, expected[-len(seen):])


class Files(BrowserTest):
    def test_pages_files_and_sockets_come_over_tls(self):
        if not os.path.exists(HTTP_SERVER) or "--tls-certificate" not in subprocess.check_output([HTTP_SERVER, "--help"], text=True):
            self.skipTest("built without TLS")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=127.0.0.1", "-keyout", self.path("key"), "-out", self.path("chain")], check=True,
                       timeout=PATIENCE, capture_output=True)
        os.mkdir(self.path("root"))
        content = {"index.html": b"<!doctype html><title>Files</title><p>a page", "large.bin": random.Random(1).randbytes(3_000_000)}
        for name, each in content.items():
            with open(self.path("root/" + name), "wb") as file:
                file.write(each)
        server = self.start_server(HTTP_SERVER, self.path("root"), "--host", "127.0.0.1", "--port", "0", "--websocket-echo", "/echo",
                                   "--tls-certificate", self.path("chain"), "--tls-key", self.path("key"), "--tls-alpn", "http/1.1")
        self.browser.open(f"https://127.0.0.1:{server.port}/")
        self.assertEqual(self.browser.run("return [document.title, isSecureContext]"), ["Files", True])
        self.assertEqual(self.browser.run_async(FETCH), [hashlib.sha256(content["large.bin"]).hexdigest(), 206, 1000, 404])
        self.assertEqual(self.browser.run_async(ECHO, f"wss://127.0.0.1:{server.port}/echo"), [14, 1000, True])


if __name__ == "__main__":
    unittest.main(verbosity=2)
