"""A browser without a window, driven by the W3C's WebDriver protocol with Python's standard library alone. Nothing here waits by
sleeping: the browser itself waits, for a page to be loaded and for a condition in it to hold, and gives up after PATIENCE seconds."""

import base64
import http.client
import json
import re
import shutil

from processes import PATIENCE

# The browser speaks with nothing but this machine, and does nothing of its own accord.
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check",
             "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-extensions",
             "--disable-sync", "--metrics-recording-only", "--window-size=900,640",
             "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]

# Asks again whenever the page changes, and calls back with the first answer that is neither false nor null.
UNTIL = """
const done = arguments[arguments.length - 1], condition = () => { %s };
const ask = () => { const answer = condition(); if (answer) { observer.disconnect(); done(answer); } };
const observer = new MutationObserver(ask);
observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
ask();
"""


def missing():
    """The name of the program that is not installed, or None."""
    return next((name for name in ("chromium", "chromedriver") if not shutil.which(name)), None)


def start_driver(test):
    """Returns its port. It takes one that is free for IPv4 and then the same for IPv6, where another process may have it
    already: then it ends, and is started again."""
    for attempts_left in reversed(range(5)):
        driver = test.start("chromedriver", "--port=0")
        try:
            while not (started := re.search(r"started successfully on port (\d+)", driver.line())):
                pass
            return int(started[1])
        except AssertionError:
            if attempts_left == 0:
                raise


class Browser:
    """One browser with one or several windows; `test` is a ProcessTest, whose end ends it."""

    def __init__(self, test, folder):
        self.connection = http.client.HTTPConnection("127.0.0.1", start_driver(test), timeout=2 * PATIENCE)
        test.addCleanup(self.connection.close)
        self.session = ""
        options = {"args": [*ARGUMENTS, f"--user-data-dir={folder}"], "binary": shutil.which("chromium")}
        made = self.call("POST", "/session", capabilities={"alwaysMatch": {
            "browserName": "chrome", "acceptInsecureCerts": True, "goog:chromeOptions": options,
            "timeouts": {"script": PATIENCE * 1000, "pageLoad": PATIENCE * 1000}}})
        self.session = "/session/" + made["sessionId"]
        self.version = made["capabilities"]["browserName"] + " " + made["capabilities"]["browserVersion"]
        test.addCleanup(self.call, "DELETE", "")

    def call(self, method, path, **arguments):
        content = json.dumps(arguments) if method == "POST" else None
        self.connection.request(method, self.session + path, content, {"Content-Type": "application/json"})
        answer = json.load(self.connection.getresponse())["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(f"{method} {path}: {answer['error']}: {answer['message']}")
        return answer

    def windows(self):
        return self.call("GET", "/window/handles")

    def new_window(self):
        return self.call("POST", "/window/new", type="tab")["handle"]

    def switch_to(self, window):
        self.call("POST", "/window", handle=window)

    def open(self, url):
        """Returns when the page and all that it names is loaded."""
        self.call("POST", "/url", url=url)

    def disable_cache(self):
        """All that this window loads comes from the server."""
        for command, parameters in (("Network.enable", {}), ("Network.setCacheDisabled", {"cacheDisabled": True})):
            self.call("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def reload(self):
        self.call("POST", "/refresh")

    def run(self, script, *arguments):
        """What the body of a function returns, in the page."""
        return self.call("POST", "/execute/sync", script=script, args=list(arguments))

    def run_async(self, script, *arguments):
        """What the script gives to its last argument, a function."""
        return self.call("POST", "/execute/async", script=script, args=list(arguments))

    def until(self, condition, *arguments):
        """Waits until the body of a function returns something true, and returns it."""
        return self.run_async(UNTIL % condition, *arguments)

    def element(self, selector):
        return next(iter(self.call("POST", "/element", using="css selector", value=selector).values()))

    def type(self, selector, text):
        self.call("POST", f"/element/{self.element(selector)}/value", text=text)

    def click(self, selector):
        self.call("POST", f"/element/{self.element(selector)}/click")

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("GET", "/screenshot")))
