"""The report's page and document: from a record, and in a real browser."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.results import recorded
from text2image.errors import UserError
from text2image.results import page, record

CHROMIUM, DRIVER = (next(filter(None, map(shutil.which, names)), None) for names in (("chromium", "chromium-browser", "google-chrome"),
                                                                                    ("chromedriver",)))
CONTRAST = 4.5  # of text, WCAG 2.2 AA


@pytest.fixture
def made(tmp_path) -> Path:
    return recorded.make(tmp_path)


class Elements(HTMLParser):
    """Every element with its attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_the_page_holds_all_that_there_is_and_fetches_nothing(made):
    text = page.html(record.read(made, {}), made)
    elements = Elements(text)
    assert not elements.of("script") and not elements.of("link") and not elements.of("iframe")
    assert all(element.get("src", "data:").startswith("data:") for _, element in elements.found)
    assert all(element["href"].startswith("#") for element in elements.of("a"))
    (policy,) = (meta["content"] for meta in elements.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert len(elements.of("img")) == 3 and all(len(image["alt"]) > 10 for image in elements.of("img"))
    ids = [element["id"] for _, element in elements.found if element.get("id")]
    assert {link["href"][1:] for link in elements.of("a")} == set(ids) and len(ids) == len(set(ids))
    for words in ("-35.60 ± 0.42", "python -m pipeline.train one small align_draw", "0123456789+", "5 min", "novelty: by digit", "as recalled, unverified",
                  "-1792.15", "-36.00 ± 1.00", "KL of glimpses"):
        assert words in text, words
    assert page.html(record.read(made, {}), made) == text, "equal results are equal pages"


def test_what_a_result_holds_is_text(made):
    found = record.read(made, {})
    text = page.html(found, made)
    assert recorded.HOSTILE not in text and "<script" not in text
    assert "&lt;script&gt;document.title" in text
    assert "<script" not in page.markdown(found)


def test_a_run_of_a_hostile_name(made):
    hostile = 'x"><img src=y onerror=z>'
    recorded.write(made / "results" / hostile / "train.json", {"steps": 1, '"><b>': 2})
    elements = Elements(page.html(record.read(made, {}), made))
    assert not elements.of("b") and all("onerror" not in attributes for _, attributes in elements.found)


def test_nothing_was_made_yet(tmp_path):
    found = record.read(tmp_path, {})
    assert "No run was made yet" in page.html(found, tmp_path) and "No run was made yet" in page.markdown(found)
    assert "alignDRAW" in page.markdown(found), "the paper's figures are there"


def test_a_figure_that_is_damaged_is_named(made):
    (made / "samples/one/grid.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"grid\.png: not readable as an image"):
        page.html(record.read(made, {}), made)


def test_what_was_drawn_here_comes_before_what_git_keeps(made):
    kept = made / "docs/figures/one"
    kept.mkdir()
    shutil.copy(made / "docs/figures/two/grid.webp", kept)
    shutil.copy(made / "docs/figures/two/grid.webp", kept / "words.webp")
    found = {figure.name: figure for figure in page.figures(made, "one")}
    assert list(found) == ["grid", "words", "animation"]
    assert found["words"].picture.uri != found["grid"].picture.uri


def test_the_document_has_every_table(made):
    text = page.markdown(record.read(made, {}))
    assert re.findall("^## (.*)$", text, re.MULTILINE) == [
        "Paper and ours", "All runs", "Several seeds", "Train", "Train: best dev", "Bounds", "Bounds: IWAE", "Novelty", "Novelty: by digit", "Novelty: held out digits",
        "Retrieval", "Retrieval: chance", "Retrieval: nearest", "Retrieval: random", "Similarity", "Prepared data", "Prepared data: of each split", "What made them"]
    assert text.count(record.PAPER) == 11 and text.count("as recalled, unverified") >= 4


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium without a window, and its performance log."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium with chromedriver here")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def visit(browser, file: Path, width: int, scheme: str) -> list[str]:
    """Open a page at a width, in light or dark; returns the addresses that were asked for."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 500})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(file.as_uri())
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


# Of every text that is seen the contrast with what it stands on; WCAG 2.2's formula.
CONTRASTS = """
const canvas = document.createElement('canvas').getContext('2d');
const rgba = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
const light = c => { const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                     return .2126 * r + .7152 * g + .0722 * b; };
const ground = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; } return [255, 255, 255]; };
const found = {};
for (const e of document.querySelectorAll('body *')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
  const svg = e instanceof SVGElement, style = getComputedStyle(e);
  const [a, b] = [light(rgba(svg ? style.fill : style.color)), light(ground(e))].sort((x, y) => y - x);
  const key = e.tagName + '.' + (e.className.baseVal ?? e.className), ratio = (a + .05) / (b + .05);
  found[key] = Math.min(found[key] ?? 99, ratio);
}
return found;
"""


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(browser, made, width, scheme):
    """Nothing is fetched, nothing is said on the console, every image is there, nothing is wider than the window, all text is
    readable; wide tables are scrolled in themselves."""
    (made / "index.html").write_text(page.html(record.read(made, {}), made), encoding="utf-8")
    asked = visit(browser, made / "index.html", width, scheme)
    assert [url for url in asked if not url.startswith("data:")] == [(made / "index.html").as_uri()]
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    assert browser.title == "text2image: results", "no script of a result ran"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert browser.execute_script("return document.images.length") == 3
    dark = browser.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches")
    assert dark == (scheme == "dark")
    contrasts = browser.execute_script(CONTRASTS)
    assert len(contrasts) > 10
    assert {name: ratio for name, ratio in contrasts.items() if ratio < CONTRAST} == {}
    lines = browser.execute_script("return [...document.querySelectorAll('.chart path[class^=line]')].map(p => getComputedStyle(p).stroke)")
    assert "none" not in lines and len(set(lines)) >= 2
    if width == 360:
        assert browser.execute_script("return [...document.querySelectorAll('.scroll')].some(s => s.scrollWidth > s.clientWidth)")
