"""A real headless browser, where there is one: opens a page from disk and tells what a reader would see."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

BROWSERS, DRIVERS = ("chromium", "chromium-browser", "google-chrome"), ("chromedriver", "/usr/lib/chromium/chromedriver")
QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--allow-file-access-from-files",
)  # fmt: skip


def _found(names: tuple[str, ...]) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)


@contextlib.contextmanager
def browser(profile: Path) -> Iterator:
    """A Chromium driven by selenium, with an empty profile; skips the test with a plain reason where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program, driver = _found(BROWSERS), _found(DRIVERS)
    if program is None or driver is None:
        pytest.skip(
            f"no {' or '.join([name for name, path in (('chromium', program), ('chromedriver', driver)) if path is None])} on this machine"
        )
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*QUIET, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # An environment without proxies: the driver is on this machine.
    with contextlib.suppress(KeyError):
        os.environ["no_proxy"] += ",localhost,127.0.0.1"
    opened = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield opened
    finally:
        opened.quit()


LOOK = """
const images = [...document.images];
const root = document.documentElement;
const width = root.clientWidth;
// Whatever is wider than the page must be inside a frame that scrolls.
const loose = [...document.querySelectorAll('body *')].filter(one =>
    one.getBoundingClientRect().right > width + 1 && !one.closest('.scroll')).map(one => one.tagName);
const smallest = Math.min(...[...document.querySelectorAll('body *')].filter(one => one.childElementCount === 0 && one.textContent.trim())
    .map(one => parseFloat(getComputedStyle(one).fontSize)));
return {
    images: images.length,
    broken: images.filter(one => !one.complete || one.naturalWidth === 0).length,
    outside: performance.getEntriesByType('resource').map(one => one.name).filter(one => !one.startsWith('data:')),
    loose: loose, scroll: root.scrollWidth, width: width, smallest_px: smallest,
    narrowest_image: images.length ? Math.min(...images.map(one => one.getBoundingClientRect().width)) : 0,
    headings: [...document.querySelectorAll('h2')].map(one => one.textContent),
};
"""


def look(opened, page: Path, width_px: int, height_px: int = 900) -> dict:
    """Opens the page at this width of the window; what is there, as the browser sees it, and its log of errors."""
    # The size of a window has a lower bound of its own; a telephone's is emulated.
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": False}
    )
    opened.get(page.as_uri())
    opened.execute_async_script(
        "const done = arguments[0]; Promise.all([...document.images].map(one => one.decode().catch(() => 0))).then(done);"
    )
    return opened.execute_script(LOOK) | {"log": [entry["message"] for entry in opened.get_log("browser")]}
