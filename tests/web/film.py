"""Pictures of the page for the documents: docs/web.png, docs/web-phone.png, and a visit as a film, docs/web.gif.

    make web-film
"""

import io
import tempfile
import time
from pathlib import Path

from PIL import Image
from selenium.webdriver.common.keys import Keys

from pipeline import site
from tests.web.browser import READY, Visit, visit

DOCS = Path("docs")
CAPTION = "the digit 5 is on the right of the digit 2 ."
HELD_OUT = "the digit 9 is at the bottom left of the image ."
WIDTH, HEIGHT = 1180, 980
FILM_WIDTH = 720
COLOURS = 64
WAIT = 0.35       # seconds that the browser's own transitions take


class Film:
    """Screens one after another, each with the milliseconds that it stays."""

    def __init__(self, page: Visit):
        self.page = page
        self.frames: list[tuple[Image.Image, int]] = []

    def take(self, milliseconds: int) -> None:
        time.sleep(0.15)
        image = Image.open(io.BytesIO(self.page.driver.get_screenshot_as_png())).convert("RGB")
        small = image.resize((FILM_WIDTH, round(image.height * FILM_WIDTH / image.width)), Image.Resampling.LANCZOS)
        self.frames.append((small, milliseconds))

    def save(self, path: Path) -> None:
        """As a GIF of one palette."""
        sheet = Image.new("RGB", (FILM_WIDTH, 6 * self.frames[0][0].height))
        for i in range(6):
            sheet.paste(self.frames[i * (len(self.frames) - 1) // 5][0], (0, i * self.frames[0][0].height))
        palette = sheet.quantize(COLOURS, Image.Quantize.MEDIANCUT)
        images = [frame.quantize(COLOURS, palette=palette, dither=Image.Dither.NONE) for frame, _ in self.frames]
        images[0].save(path, save_all=True, append_images=images[1:], loop=0, optimize=True, duration=[stays for _, stays in self.frames])


def picture(page: Visit, path: Path) -> None:
    """The screen as a small PNG."""
    time.sleep(WAIT)
    image = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")
    image.quantize(128, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)


def glimpses(film: Film, every: int) -> None:
    """The film of the page, some of its glimpses."""
    for number in (*range(1, 32, every), 32):
        film.page.glimpse(number)
        film.take(130)
    film.frames[-1] = (film.frames[-1][0], 1200)


def tour(page: Visit) -> Film:
    """The visit: type, watch, another seed, a word exchanged, a caption never trained on, a wrong file."""
    film = Film(page)
    page.glimpse(32)
    film.take(900)
    field = page.find("#caption")
    field.send_keys(Keys.CONTROL, "a")
    for start in range(0, len(CAPTION), 4):
        field.send_keys(CAPTION[start:start + 4])
        film.take(160)
    field.send_keys(Keys.ESCAPE)
    page.wait(lambda: page.script(READY))
    glimpses(film, 3)
    page.all("#seeds button")[6].click()
    page.glimpse(32)
    film.take(1000)
    page.all(".words button")[8 + 2].click()
    film.take(1400)
    next(each for each in page.all("#exchange button") if each.text == "3").click()
    page.wait(lambda: len(page.all(".stage")) == 2)
    glimpses(film, 4)
    page.caption(HELD_OUT)
    page.glimpse(32)
    film.take(1800)
    page.drop("holiday.txt", b"this is no model, but a text")
    page.alert()
    film.take(1800)
    return film


def main() -> None:
    """Write the three files."""
    with tempfile.TemporaryDirectory() as temporary:
        site.build(Path(temporary) / "site")
        with visit(Path(temporary) / "site", Path(temporary)) as page:
            page.screen(WIDTH, HEIGHT)
            page.open()
            page.caption(CAPTION)
            page.glimpse(18)
            picture(page, DOCS / "web.png")
            page.screen(390, 844, dark=True)
            page.open("#model=shapes")
            page.glimpse(4)
            picture(page, DOCS / "web-phone.png")
            page.screen(WIDTH, HEIGHT)
            page.open("#model=mnist")
            tour(page).save(DOCS / "web.gif")


if __name__ == "__main__":
    main()
