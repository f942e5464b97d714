"""A headless Chromium driven by the DevTools protocol over two pipes: no port, no driver program, no library.

https://chromedevtools.github.io/devtools-protocol/ ; messages are JSON that end with a NUL, read from descriptor 3 and
written to descriptor 4 (`--remote-debugging-pipe`).
"""

from __future__ import annotations

import base64
import json
import os
import select
import time
from typing import TYPE_CHECKING, Any, Self

from numabench import process

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 30.0
# Keys that are no letters: the text that each makes, and its number.
_KEYS = {
    "Backspace": ("", 8),
    "Enter": ("\r", 13),
    "Escape": ("", 27),
    "Home": ("", 36),
    "ArrowLeft": ("", 37),
    "ArrowUp": ("", 38),
    "ArrowRight": ("", 39),
    "ArrowDown": ("", 40),
}


def program() -> str | None:
    """The browser of this machine, None where there is none."""
    return next((found for name in PROGRAMS if (found := process.find_program(name))), None)


class Browser:
    """A browser with one page. `events` are what it told without being asked, oldest first."""

    def __init__(self, directory: Path) -> None:
        found = program()
        assert found is not None
        inward, self._send = os.pipe()
        self._receive, outward = os.pipe()
        argv = [
            *("bash", "-c", 'exec "${@:3}" 3<&"$1" 4>&"$2"', "browser", str(inward), str(outward), found),
            *(
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-first-run",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
            f"--user-data-dir={directory}",
            # The sandbox needs a user who is not root.
            *(("--no-sandbox",) if os.geteuid() == 0 else ()),
            "about:blank",
        ]
        self._process = process.start(argv, pass_fds=(inward, outward))
        os.close(inward)
        os.close(outward)
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        os.close(self._send)
        os.close(self._receive)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What a command of the protocol returns."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            got = self._next(deadline)
            if got.get("id") == self._number:
                assert "error" not in got, f"{method}: {got['error']}"
                return dict(got["result"])
            if "method" in got:
                self.events.append((got["method"], got["params"]))

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._receive], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            part = os.read(self._receive, 1 << 20)
            assert part, "the browser ended"
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(message))

    def open(self, path: Path, ready: str = "document.documentElement.dataset.ready === 'yes'") -> None:
        """Show a file, and wait until its script has run; what was told of the page before is forgotten."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.until(f"location.href === {json.dumps(path.as_uri())} && document.readyState === 'complete' && {ready}")

    def run(self, expression: str) -> Any:
        """The value of an expression in the page."""
        got = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait for an expression to be true."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.run(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"{expression} never came true"
            # Another page is on its way: there is nothing to be notified of that would not be asked for anew.
            time.sleep(0.01)

    def press(self, key: str, modifiers: int = 0) -> None:
        """A key, pressed and let go."""
        text, code = _KEYS[key] if key in _KEYS else (key, ord(key.upper()))
        told = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", **told, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **told)

    def type(self, text: str) -> None:
        """A text into what has the focus."""
        self.call("Input.insertText", text=text)

    def point(self, selector: str, *, click: bool = False) -> None:
        """The mouse over the middle of what is seen of an element, and a click there."""
        find = f"document.querySelector({json.dumps(selector)})"
        x, y = self.run(
            f"(() => {{ const found = {find}; found.scrollIntoView({{block: 'center', behavior: 'instant'}});"
            "const box = found.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        if click:
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def look(self, *, dark: bool = False, width: int = 1280, height: int = 900, media: str = "screen") -> None:
        """How the page is to be shown."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media=media, features=scheme)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def screenshot(self, *, whole: bool = False) -> bytes:
        """The page as PNG, as far as it is seen or the whole."""
        got = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        return base64.b64decode(got["data"])

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def pdf(self) -> bytes:
        """The page as it is printed."""
        self.call("Emulation.setEmulatedMedia", media="")
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])

    def requested(self) -> list[str]:
        """What the page asked the network or the disk for."""
        return [told["request"]["url"] for method, told in self.events if method == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """Exceptions of the page's scripts, and what the browser refused it."""
        return [
            *(str(told["exceptionDetails"]) for method, told in self.events if method == "Runtime.exceptionThrown"),
            *(told["entry"]["text"] for method, told in self.events if method == "Log.entryAdded"),
        ]
