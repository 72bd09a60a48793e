"""A headless Chromium for the tests, where there is one, spoken to through a pipe.

It is the program that the environment variable HMDIFF_BROWSER names, or one of its usual names on
the PATH; the npm package @sparticuz/chromium unpacks one. Its protocol (Chrome DevTools) is JSON,
each message ended by a zero byte.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
PATIENCE_S = 180
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
    "--no-zygote",
)  # fmt: skip


def program() -> str | None:
    """The browser's path, or None."""
    return os.environ.get("HMDIFF_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One page of a browser; `problems` are its uncaught errors and what its console complains of,
    `requests` the addresses that it asked for."""

    def __init__(self, to: int, back):
        self.to, self.back, self.count, self.session = to, back, 0, None
        self.problems, self.requests = [], []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for part in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{part}.enable")

    def send(self, method: str, **params) -> dict:
        """Call a method of the protocol and wait for its answer."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.count:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def receive(self) -> dict:
        """The next message; events are noted."""
        parts = []
        while (byte := self.back.read(1)) != b"\0":
            assert byte, "the browser has gone"
            parts.append(byte)
        message = json.loads(b"".join(parts))
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(params["exceptionDetails"]["exception"].get("description"))
        elif method == "Log.entryAdded":
            self.problems.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            self.requests += [] if url.startswith("data:") else [url]
        return message

    def open(self, page: Path, width: int = 1280, height: int = 900) -> None:
        """Load a file at a width in pixels, and wait for it."""
        phone = width < 600
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=phone,
        )  # fmt: skip
        self.send("Page.navigate", url=page.resolve().as_uri())
        while self.receive().get("method") != "Page.loadEventFired":
            pass

    def run(self, code: str):
        """The JSON value of an expression, a promise's once it is there."""
        found = self.send(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def key(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Move the pressed mouse between two points of the window."""
        for kind, (x, y) in (
            ("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)
        ):  # fmt: skip
            held = int(kind != "mouseReleased")
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=held)

    def picture(self) -> bytes:
        """The whole page as PNG."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        made = self.send("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(made["data"])


@contextmanager
def browser(path: str) -> Iterator[Tab]:
    """Start a browser, give its first tab, and end it."""
    (read_to, to), (back, write_back) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        # The protocol's pipes are the file descriptors 3 and 4.
        shell = f'exec "$0" "$@" 3<&{read_to} 4>&{write_back}'
        flags = [*FLAGS, "--remote-debugging-pipe", f"--user-data-dir={home}"]
        process = subprocess.Popen(
            ["bash", "-c", shell, path, *flags],
            pass_fds=(read_to, write_back),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_to), os.close(write_back)
        patience = threading.Timer(PATIENCE_S, process.kill)  # then a wait for an answer fails
        patience.start()
        with os.fdopen(back, "rb") as answers:
            try:
                yield Tab(to, answers)
            finally:
                patience.cancel()
                os.close(to)
                process.terminate()
                process.wait(timeout=20)
