# SPDX-License-Identifier: GPL-2.0-or-later
"""As much of a WebDriver client as the tests need: https://www.w3.org/TR/webdriver2/, and chromedriver's additions."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_STARTED = re.compile(r"started successfully on port (\d+)")
_PATIENCE_S = 120
"""Other programs may want the processors, too."""

KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Up": "\ue013", "Down": "\ue015", "Left": "\ue012", "Right": "\ue014"}
KEYS |= {"End": "\ue010", "Home": "\ue011", "Tab": "\ue004", "PageDown": "\ue00f"}


class Browser:
    """A headless Chromium. `javascript` runs in the page, `keys` and `click` go the way of a real user's."""

    def __init__(self, driver: str, chromium: str) -> None:
        self._process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._session = ""
        self._port = self._read_port()
        # Without a sandbox, as root cannot have one; /dev/shm is small in containers.
        options = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"]
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": chromium, "args": options},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        self._session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        self._do("POST", "/timeouts", {"pageLoad": _PATIENCE_S * 1000, "script": _PATIENCE_S * 1000})

    def _read_port(self) -> int:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := _STARTED.search(line):
                return int(found[1])
        raise OSError("chromedriver did not start")

    def close(self) -> None:
        try:
            if self._session:
                self._do("DELETE", "")
        finally:
            self._process.terminate()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()

    def open(self, path: Path) -> None:
        self._do("POST", "/url", {"url": path.as_uri()})

    def size(self, width: int, height: int) -> None:
        """Of the page, whatever the window around it takes."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", **metrics)

    def devtools(self, command: str, **parameters: object) -> Any:
        return self._do("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def colours(self, scheme: str) -> None:
        """light or dark"""
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def javascript(self, script: str, *arguments: object) -> Any:
        return self._do("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait_for(self, condition: str) -> None:
        """Until a JavaScript expression is true."""
        script = (
            "const done = arguments[0];"
            f"const look = () => (({condition}) ? done() : requestAnimationFrame(look)); look();"
        )
        self._do("POST", "/execute/async", {"script": script, "args": []})

    def element(self, selector: str) -> str:
        found: str = self._do("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]
        return found

    def click(self, selector: str) -> None:
        self._do("POST", f"/element/{self.element(selector)}/click", {})

    def type(self, selector: str, words: str) -> None:
        self._do("POST", f"/element/{self.element(selector)}/value", {"text": words})

    def keys(self, *keys: str) -> None:
        """Press keys, by name or as they are, wherever the focus is."""
        presses = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self._do("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": presses}]})

    def text(self, selector: str) -> str:
        words: str = self._do("GET", f"/element/{self.element(selector)}/text")
        return words

    def count(self, selector: str) -> int:
        number: int = self.javascript("return document.querySelectorAll(arguments[0]).length", selector)
        return number

    def errors(self) -> list[str]:
        """What the console has said since the last call."""
        return [f"{entry['level']}: {entry['message']}" for entry in self._do("POST", "/se/log", {"type": "browser"})]

    def screenshot(self, path: Path, whole_page: bool = False) -> None:
        parameters: dict[str, object] = {"format": "png", "captureBeyondViewport": whole_page}
        path.write_bytes(base64.b64decode(self.devtools("Page.captureScreenshot", **parameters)["data"]))

    def printed(self) -> bytes:
        """A PDF."""
        return base64.b64decode(self._do("POST", "/print", {"background": False}))

    def _do(self, method: str, command: str, body: dict[str, object] | None = None) -> Any:
        return self._call(method, f"/session/{self._session}{command}", body)

    def _call(self, method: str, path: str, body: dict[str, object] | None = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE_S + 10)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(answer, dict) and "error" in answer:
            raise OSError(f"{answer['error']}: {answer.get('message', '')}")
        return answer
