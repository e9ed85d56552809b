"""The whole visit in a real browser: type, watch, compare, save, wrong files, no network, small screens, accessibility."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.keys import Keys

import text2image
from benchmarks import web as benchmark
from tests.web import golden
from tests.web.browser import READY, Visit, visit
from text2image.models import checkpoints
from text2image.results.figures import as_bytes

FIRST = "the digit 3 is on the left of the digit 7 ."
CAPTION = "the digit 5 is at the bottom left of the image ."
# A line of the console that is not the page's: an answer of a server that is not there.
EXPECTED = ("net::ERR_INTERNET_DISCONNECTED",)


@pytest.fixture(scope="module")
def browser(site, tmp_path_factory):
    with visit(site, tmp_path_factory.mktemp("downloads")) as opened:
        yield opened


@pytest.fixture
def page(browser) -> Visit:
    """The page as it opens, on a desktop; at the end the console is empty."""
    browser.screen(1280, 1100)
    browser.offline(False)
    browser.complaints()
    browser.open()
    yield browser
    assert not [line for line in browser.complaints() if not any(known in line for known in EXPECTED)]


@pytest.fixture(scope="module")
def model(site):
    """Python's."""
    return text2image.load(site.parent / "pretrained/mnist")


def pythons(model, caption: str, seed: int) -> np.ndarray:
    """(H, W, 3) shades of the image of a seed."""
    return as_bytes(model.generate(caption, seed=seed)[0, 0].numpy())


def close(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Equal up to half a shade of rounded weights and half a shade of rounding."""
    return np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_a_caption_is_typed_and_the_image_is_pythons(page, model):
    page.caption(CAPTION)
    page.glimpse(32)
    assert close(page.shades(), pythons(model, CAPTION, 0))
    assert page.text("#at") == "glimpse 32 of 32"
    page.all("#seeds button")[3].click()
    page.glimpse(32)
    assert close(page.shades(), pythons(model, CAPTION, 3))
    page.find("#next").click()
    assert page.find("#seeds button").get_attribute("aria-label") == "Seed 8"
    page.wait(lambda: page.script(READY))
    page.glimpse(32)
    assert close(page.shades(), pythons(model, CAPTION, 11))
    assert page.script("return [...document.querySelectorAll('#seeds canvas')].every((c) => c.width === 60)")


def test_the_film_plays_pauses_and_follows_the_slider_and_the_map(page):
    page.find("#play").click()
    page.wait(lambda: page.text("#play") == "Play" or page.find("#play").click())
    page.glimpse(1)
    first = page.shades()
    page.glimpse(20)
    assert (page.shades() != first).any() and page.find(".box").is_displayed()
    words = page.script("return [...document.querySelectorAll('.words button')].map((b) => [b.textContent, b.style.getPropertyValue('--attended')])")
    alphas = page.script("const f = page.films[0]; return [...f.alphas.subarray(19 * 12, 20 * 12)]")
    assert [word for word, _ in words] == FIRST.split() and np.isclose(sum(alphas), 1, atol=1e-5)
    assert np.argmax([float(value) for _, value in words]) == np.argmax(alphas)
    assert FIRST.split()[int(np.argmax(alphas))] in page.find("#glimpse").get_attribute("aria-valuetext")
    page.script("const m = document.querySelector('.heat .map'), r = m.getBoundingClientRect();"
                "m.setPointerCapture = () => {};"
                "m.dispatchEvent(new PointerEvent('pointerdown', {clientX: r.left + r.width * 8.5 / 32, clientY: r.top + 5, buttons: 1}))")
    assert page.text("#at") == "glimpse 9 of 32"
    page.find("#glimpse").send_keys(Keys.ARROW_RIGHT)
    assert page.text("#at") == "glimpse 10 of 32"
    page.find("#window").click()
    assert not page.find(".box").is_displayed()
    page.find("#window").click()
    page.find("#play").click()
    page.wait(lambda: page.text("#at") == "glimpse 32 of 32")
    assert page.text("#play") == "Play"


def test_words_are_completed_and_unknown_ones_marked(page):
    field = page.find("#caption")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("the digit 4 is at the to")
    assert [each.text for each in page.all("#suggestions li")] == ["top"]
    field.send_keys(Keys.ARROW_DOWN, Keys.ENTER)
    assert field.get_property("value") == "the digit 4 is at the top "
    assert [each.text for each in page.all("#suggestions li")] == ["of", "left", "right"]
    assert field.get_attribute("aria-expanded") == "true"
    field.send_keys("lfet of the image .")
    page.wait(lambda: "is no word of this model" in page.text("#said"))
    assert page.find("#mirror mark").get_property("textContent") == "lfet" and field.get_attribute("aria-invalid") == "true"
    page.find("#said button").click()
    page.wait(lambda: page.script("return page.words.join(' ')") == "the digit 4 is at the top left of the image .")
    assert not page.text("#said") and field.get_attribute("aria-invalid") == "false"
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("a cat", Keys.ENTER)
    page.wait(lambda: "It knows only: " in page.text("#said"))
    assert not page.all("#said button")
    assert page.text("#status") == "The picture is still of: the digit 4 is at the top left of the image ."
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("the digit 4 is at the top left of the image .", Keys.ENTER)
    page.wait(lambda: "still of" not in page.text("#status"))


def test_a_row_of_the_map_is_as_high_as_its_word(page):
    page.caption("the digit 3")
    high = page.script("return ['.heat .map', '.heat .names'].map((each) => document.querySelector(each).getBoundingClientRect().height)")
    assert high[0] == pytest.approx(high[1], abs=1)


def test_a_seed_that_is_no_number_is_said(page):
    seed = page.find("#seed")
    seed.send_keys("x")
    assert "whole number" in page.text("#no-seed")
    seed.send_keys(Keys.BACKSPACE)
    assert not page.text("#no-seed")


def test_the_benchmark_times_the_page_and_pytorch(page, site, monkeypatch):
    monkeypatch.setattr(benchmark, "REPEATS", 1)
    page.script(benchmark.WATCH)
    first, every = benchmark.in_page(page, benchmark.MNIST_CAPTION)
    assert 0 < first < every
    one, eight = benchmark.in_python(site.parent / "pretrained/mnist/model.safetensors", benchmark.MNIST_CAPTION)
    assert one > 0 and eight > 0


def test_captions_are_no_markup(page):
    field = page.find("#caption")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("<img src=x onerror=alert(1)> the", Keys.ENTER)
    page.wait(lambda: "img" in page.text("#said"))
    assert not page.all("main img") and page.shades().any()


def test_what_was_held_out_is_said(page):
    for caption, said in (("the digit 9 is at the bottom left of the image .", "Never trained on."),
                          ("the digit 9 is on the left of the digit 7 .", "Trained on in other words only."),
                          (FIRST, "Captions like this one were trained on."),
                          (FIRST.removesuffix(" ."), "Only the full stop is missing"),
                          ("the the the", "none of the sentences")):
        page.caption(caption)
        assert said in page.text("#status"), caption
    assert {"never trained on", "trained on in other words only"} == {each.text for each in page.all("#examples small")}
    page.all("#examples button")[-1].click()
    page.wait(lambda: "Never trained on" in page.text("#status"))


def test_one_word_is_exchanged_and_both_films_are_side_by_side(page, model):
    page.all(".words button")[2].click()
    assert page.text("#exchange").startswith("In place of “3”:") and page.script("return document.activeElement.textContent") == "0"
    next(each for each in page.all("#exchange button") if each.text == "8").click()
    page.wait(lambda: len(page.all(".stage")) == 2)
    page.glimpse(32)
    other = FIRST.replace("3", "8")
    assert close(page.shades(1), pythons(model, FIRST, 0)) and close(page.shades(2), pythons(model, other, 0))
    assert page.find(".words .changed").text == "8"
    link = page.script("return location.href")
    page.driver.get("about:blank")
    page.driver.get(link)
    page.wait(lambda: len(page.all(".stage")) == 2)
    page.glimpse(32)
    assert close(page.shades(2), pythons(model, other, 0))
    next(each for each in page.all(".take button") if each.text == "Take this caption").click()
    page.wait(lambda: len(page.all(".stage")) == 1 and page.script("return page.words.join(' ')") == other)


def test_a_link_holds_model_caption_and_seed(page, model):
    page.open(f"#model=mnist&caption={CAPTION.replace(' ', '+')}&seed=5&image=2")
    page.glimpse(32)
    assert close(page.shades(), pythons(model, CAPTION, 6))
    page.open("#model=elsewhere")
    assert "asks for the model “elsewhere”" in page.alert()
    page.find("#dismiss").click()
    assert not page.find("#alert").is_displayed()


def test_png_and_gif(page):
    page.caption(CAPTION)
    page.glimpse(32)
    shades = page.shades()
    name = "the-digit-5-is-at-the-bottom-left-of-the-image-seed-0"
    for suffix in ("png", "gif"):  # each after the other has come: a browser may refuse a second download without a second press
        page.find(f"#{suffix}").click()
        page.wait((page.downloads / f"{name}.{suffix}").exists)
    page.wait(lambda: not list(page.downloads.glob("*.crdownload")))
    with Image.open(page.downloads / f"{name}.png") as image:
        assert image.size == (480, 480)
        assert np.array_equal(np.asarray(image.convert("RGB"))[4::8, 4::8], shades)
    with Image.open(page.downloads / f"{name}.gif") as film:
        assert film.n_frames == 33 and film.size == (240, 240)
        film.seek(32)
        assert np.abs(np.asarray(film.convert("RGB"))[2::4, 2::4].astype(int) - shades).max() <= 2


@pytest.mark.parametrize(("name", "content", "said"), [
    ("notes.txt", b"not a model, but a text that someone wrote", "notes.txt is no model but a file of another sort"),
    ("empty.safetensors", b"", "it has 0 bytes"),
    ("half", None, "it was cut short: fetch it again"),
    ("kind", None, "a model of kind 'bag_of_words', which this page cannot run"),
])
def test_a_wrong_file_is_one_line_and_the_page_lives_on(page, tmp_path, name, content, said):
    if content is None:
        content = other_file(tmp_path, name)
    page.drop(name, content)
    assert said in page.alert()
    page.caption(CAPTION)
    assert page.shades().any() and page.find("#model").get_property("value") == "mnist"


def other_file(folder: Path, name: str) -> bytes:
    """Half a checkpoint, or one of a kind that there is not."""
    path = folder / "model.safetensors"
    checkpoints.save(path, checkpoints.Checkpoint(golden.build(*golden.MODELS["one_filter_one_glimpse"]), golden.WORDS, None))
    content = path.read_bytes()
    if name == "half":
        return content[:len(content) // 2]
    size = int.from_bytes(content[:8], "little")
    header = content[8:8 + size].replace(b"align_draw", b"bag_of_words").rstrip()
    return len(header).to_bytes(8, "little") + header + content[8 + size:]


@pytest.mark.parametrize("name", ["colour", "noalign", "draw_released_fixed_prior"])
def test_any_checkpoint_can_be_opened(page, tmp_path, name):
    kind, config = golden.MODELS[name]
    config = type(config)(**{**config.__dict__, "channels": 3 if config.channels == 2 else config.channels})
    path = tmp_path / "mine.safetensors"
    checkpoints.save(path, checkpoints.Checkpoint(golden.build(kind, config), golden.WORDS, None))
    page.script("delete document.body.dataset.all")
    page.find("#file").send_keys(str(path))
    page.wait(lambda: page.script("return document.body.dataset.all && page.name") == "mine.safetensors")
    unconditional = kind.__module__.endswith(".draw")
    caption = "a b c" if unconditional else "dog a ."
    if unconditional:
        assert page.find("#caption").get_property("disabled") and "reads no caption" in page.text("#status")
    else:
        page.caption(caption)
    page.glimpse(config.glimpses)
    assert close(page.shades(), pythons(text2image.load(path), caption, 0))
    assert page.find("#attention").is_displayed() == (name == "colour")
    if name == "colour":  # no grammar: words that the model treats alike are offered
        page.all(".words button")[0].click()
        page.wait(lambda: len(page.all("#exchange button")) > 5)


def test_it_asks_nobody_else_and_needs_no_network_once_it_is_open(page, model):
    assert all(url.startswith((page.address, "data:", "blob:", "about:")) for url in page.requests())
    page.offline(True)
    page.caption(CAPTION)
    page.glimpse(32)
    assert close(page.shades(), pythons(model, CAPTION, 0))
    page.script("page.listed.push({name: 'far', title: 'Far', file: 'models/far.safetensors'}); page.choose('far')")
    assert "Far cannot be fetched" in page.alert()
    assert page.requests() == [f"{page.address}models/far.safetensors"] or all(url.startswith(page.address) for url in page.requests())


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone(page, dark):
    page.screen(360, 740, dark)
    page.open()
    page.caption(CAPTION)
    assert page.script("return document.documentElement.scrollWidth") == 360
    sizes = page.script("return [...document.querySelectorAll('button, select, input:not([type=file])')].filter((e) => e.offsetParent)"
                        ".map((e) => [e.id || e.textContent, e.getBoundingClientRect().right, e.getBoundingClientRect().left])")
    assert sizes and all(left >= 0 and right <= 360 for _, right, left in sizes), sizes
    assert page.find(".frame").size["width"] > 300


def test_who_wants_no_motion_sees_the_whole_image(page):
    page.screen(1280, 1100, still=True)
    page.open()
    assert page.text("#at") == "glimpse 32 of 32" and page.text("#play") == "Play"


def test_the_keyboard_reaches_everything(page):
    reached = set()
    page.script("document.body.focus()")
    for _ in range(60):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        active = page.script("const e = document.activeElement; return e.id || e.textContent")
        reached.add(active)
        assert page.script("const s = getComputedStyle(document.activeElement); return document.activeElement === document.body || s.outlineStyle !== 'none'"), active
    assert reached >= {"model", "open", "caption", "play", "glimpse", "speed", "window", "smooth", "png", "gif", "link", "seed", "next", "7", CAPTION}


def test_from_a_folder_it_says_what_to_do(browser, site):
    browser.driver.get((site / "index.html").as_uri())
    browser.wait(lambda: browser.find("#unserved").is_displayed())
    assert "run make web" in browser.text("#unserved")
    browser.complaints()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (360, True)])
def test_accessibility(page, width, dark):
    axe = axe_core()
    page.screen(width, 1000, dark, still=True)
    page.open()
    page.caption("the digit 9 is at the bottom left of the image .")
    page.all(".words button")[2].click()
    page.glimpse(3)
    page.drop("notes.txt", b"no model at all")
    page.alert()
    page.driver.execute_script(axe)
    found = page.driver.execute_async_script("const done = arguments[0]; axe.run(document).then(done, (error) => done({error: String(error)}))")
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []
    assert len(found["passes"]) > 20


def axe_core() -> str:
    """The script of axe-core: the file that TEXT2IMAGE_AXE names, or that of the package axe-core-python."""
    named, package = os.environ.get("TEXT2IMAGE_AXE"), find_spec("axe_core_python")
    if not named and (package is None or package.origin is None):
        pytest.skip("neither axe-core-python is installed nor does TEXT2IMAGE_AXE name an axe.min.js")
    return Path(named or Path(package.origin).with_name("axe.min.js")).read_text(encoding="utf-8")
