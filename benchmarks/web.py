"""How long the page takes to draw, in Chromium without a window, and PyTorch beside it on the same machine.

    make web-bench

The first column is from the last key of a caption to the first image on the screen, the second to all eight; medians. Of
PyTorch it is one image, and eight. `coco` is a model of the paper's size for COCO with random weights.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.step import COCO
from pipeline import site
from tests.web.browser import Visit, programs, visit
from text2image import seeds
from text2image.data.vocabulary import Vocabulary
from text2image.models import align_draw, checkpoints
from text2image.results import sampling

REPEATS = 15
MNIST_CAPTION = "the digit 3 is on the left of the digit 7 ."
COCO_WORDS = Vocabulary(["<pad>", "UNK", ".", *(f"word{i}" for i in range(25_320))])
COCO_CAPTION = " ".join([*(f"word{i}" for i in range(100, 111)), "."])
# Times in the page: of the last key, of the frame after the first image, after all eight; and of its longest task meanwhile.
WATCH = """
window.marks = {};
window.longest = 0;
const tasks = (list) => list.getEntries().forEach(({duration}) => { longest = Math.max(longest, duration); });
new PerformanceObserver(tasks).observe({entryTypes: ['longtask']});
document.addEventListener('keydown', ({timeStamp}) => { marks = {key: timeStamp}; }, true);
const look = () => {
  for (const what of ['first', 'all']) {
    if (document.body.dataset[what] > marks.key) marks[what] ??= performance.now();
  }
  requestAnimationFrame(look);
};
look();
"""


def coco(folder: Path) -> Path:
    """A checkpoint of the paper's size for COCO."""
    model = align_draw.Model(COCO, len(COCO_WORDS))
    model.reset(seeds.torch_generator("weights"))
    path = folder / "coco.safetensors"
    checkpoints.save(path, checkpoints.Checkpoint(model, COCO_WORDS, None))
    return path


def in_page(page: Visit, caption: str) -> tuple[float, float]:
    """Milliseconds from the last key to the first image, and to all eight."""
    page.caption(caption.removesuffix(" ."))
    firsts, alls = [], []
    for repeat in range(REPEATS + 1):
        page.script("page.field.text = arguments[0]", f"{caption.removesuffix(' .')} ")
        page.wait(lambda: page.script("return page.films.filter(Boolean).length === 8"))
        page.script("window.marks = {}")
        page.find("#caption").send_keys(".")
        first, every = page.wait(lambda: page.script("return marks.all && [marks.first - marks.key, marks.all - marks.key]"))
        if repeat:  # the first time the browser compiles
            firsts.append(first)
            alls.append(every)
    return statistics.median(firsts), statistics.median(alls)


def in_python(path: Path, caption: str) -> tuple[float, float]:
    """Milliseconds of one image and of eight by PyTorch."""
    checkpoint = checkpoints.load(path)
    ids = [checkpoint.vocabulary.encode(caption)]

    def median(images: int) -> float:
        taken = []
        for _ in range(REPEATS + 1):
            begun = time.perf_counter()
            sampling.draw(checkpoint.model, ids, images, 0, torch.device("cpu"))
            taken.append(time.perf_counter() - begun)
        return 1e3 * statistics.median(taken[1:])

    return median(1), median(8)


def opened(page: Visit) -> float:
    """Milliseconds from asking for the page to its first image."""
    taken = []
    for _ in range(5):
        page.open()
        taken.append(float(page.script("return document.body.dataset.first")))
    return statistics.median(taken)


def line(what: str, both: Callable[[], tuple[float, float]]) -> None:
    """Print a row."""
    one, eight = both()
    print(f"{what:30} {one:8.0f} ms {eight:8.0f} ms", flush=True)


def sizes(folder: Path) -> None:
    """Print what a visitor fetches."""
    scripts = sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in (".html", ".css", ".js"))
    print(f"the page {scripts / 1e3:.0f} kB, " + ", ".join(
        f"{path.stem} {path.stat().st_size / 1e6:.2f} MB" for path in sorted(folder.glob("models/*.safetensors"))))


def main() -> None:
    """Print the table."""
    if not programs():
        sys.exit("error: no Chromium with its chromedriver is installed; Debian and Ubuntu have chromium and chromium-driver")
    mnist = Path("pretrained/mnist/model.safetensors")
    if not mnist.is_file():
        sys.exit(f"error: {mnist} is not there; `dvc pull pretrained/mnist` fetches it")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        site.build(folder / "site")
        large = coco(folder)
        with visit(folder / "site", folder) as page:
            of = page.driver.capabilities
            print(f"{of['browserName']} {of['browserVersion']}, torch {torch.__version__}, {torch.get_num_threads()} threads")
            sizes(folder / "site")
            print(f"{'opened, with its model':30} {opened(page):8.0f} ms")
            print(f"{'':30} {'one image':>11} {'eight':>11}")
            page.script(WATCH)
            line("mnist, the page", lambda: in_page(page, MNIST_CAPTION))
            line("mnist, PyTorch", lambda: in_python(mnist, MNIST_CAPTION))
            page.find("#file").send_keys(str(large))
            page.wait(lambda: page.script("return page.name") == large.name)
            line("coco, 33 million, the page", lambda: in_page(page, COCO_CAPTION))
            line("coco, 33 million, PyTorch", lambda: in_python(large, COCO_CAPTION))
            print(f"{'longest task of the page':30} {page.script('return longest'):8.0f} ms")


if __name__ == "__main__":
    main()
