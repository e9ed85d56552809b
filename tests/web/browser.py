"""A browser that visits the page: Chromium without a window, driven by selenium. Where there is none, tests are skipped."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from pipeline.site import server

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60.0  # seconds
READY = "return document.body.dataset.all !== undefined && !document.querySelector('#unserved:not([hidden])')"


def programs() -> tuple[str, str] | None:
    """A browser and its driver, where the system has both."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


class Visit:
    """A page in a browser, and what a visitor does there."""

    def __init__(self, driver: webdriver.Chrome, address: str, downloads: Path):
        self.driver, self.address, self.downloads = driver, address, downloads

    def open(self, after: str = "") -> None:
        """Load the page anew, and wait for its first eight images."""
        self.driver.get("about:blank")
        self.driver.get(self.address + after)
        self.wait(lambda: self.script(READY))

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def wait(self, true: Callable[[], Any]) -> Any:
        """What `true` gives when it gives something."""
        end = time.monotonic() + PATIENCE
        while not (found := true()):
            assert time.monotonic() < end, f"waited in vain; the page says: {self.text('body')[:1500]}"
            time.sleep(0.02)
        return found

    def caption(self, text: str) -> None:
        """Type a caption in place of the one that is there, and wait for its eight images."""
        field = self.find("#caption")
        field.send_keys(Keys.CONTROL, "a")
        self.script("delete document.body.dataset.all")
        field.send_keys(text)
        self.wait(lambda: self.script("return document.body.dataset.all && page.words.join(' ')") == text)
        field.send_keys(Keys.ESCAPE)

    def glimpse(self, number: int) -> None:
        """Move the slider."""
        self.script("const s = document.getElementById('glimpse'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))", number)

    def shades(self, stage: int = 1) -> np.ndarray:
        """(H, W, 3) of what a stage's canvas shows."""
        found = self.script("const c = document.querySelectorAll('.stage canvas')[arguments[0] - 1];"
                            "return [c.height, c.width, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]", stage)
        height, width, values = found
        return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]

    def drop(self, name: str, content: bytes) -> None:
        """Drop a file of a few kilobytes onto the page."""
        self.script("const data = new DataTransfer(); data.items.add(new File([new Uint8Array(arguments[1])], arguments[0]));"
                    "for (const type of ['dragover', 'drop']) document.body.dispatchEvent("
                    "new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: data}))", name, list(content))

    def alert(self) -> str:
        """The line that the page shows when something is wrong, when it does."""
        return self.wait(lambda: self.text("#alert span"))

    def screen(self, width: int, height: int, dark: bool = False, still: bool = False) -> None:
        """A screen of that size, with the reader's wishes."""
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                    {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
        wishes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce" if still else "no-preference"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": k, "value": v} for k, v in wishes.items()]})

    def offline(self, offline: bool) -> None:
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions",
                                    {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1})

    def requests(self) -> list[str]:
        """Addresses of all that was asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """What the browser's console has against the page since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


@contextmanager
def visit(site: Path, downloads: Path) -> Iterator[Visit]:
    """Serve a site, and open a browser for it."""
    found = programs()
    if not found:
        pytest.skip("no Chromium with its chromedriver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    for argument in ("--headless=new", "--disable-dev-shm-usage", "--window-size=1280,1100", "--force-color-profile=srgb", "--disable-gpu",
                     *(["--no-sandbox"] if os.geteuid() == 0 else [])):  # root may not have the sandbox
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with server(site, 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        driver = webdriver.Chrome(options, webdriver.ChromeService(found[1]))
        try:
            yield Visit(driver, f"http://127.0.0.1:{running.server_port}/", downloads)
        finally:
            driver.quit()
            running.shutdown()
