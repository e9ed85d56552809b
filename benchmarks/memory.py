"""What training holds in memory, and what a batch takes, against the size of the prepared data.

    python -m benchmarks.memory docs/memory.png

prints a row a size and draws them: synthetic images of 3x32x32, one caption of 12 words each. Each split is written as the
prepared format writes it, and trained on in a process of its own: 100 steps of a small alignDRAW, batches of 100 in a random
order. It is done with the split in its file, and with the split in memory for comparison. The largest takes 3.2 GB of disk
below the folder for temporary files, and is deleted.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from matplotlib.figure import Figure

from text2image.data import datasets
from text2image.models.align_draw import AlignDRAW, AlignDRAWConfig

SIZES = (10_000, 100_000, 300_000, 1_000_000)
SHAPE = 3, 32, 32
WORDS, VOCABULARY = 12, 1000
BLOCK = 10_000   # images
BATCH, STEPS = 100, 100
HOW = FIRST, AGAIN, WHOLE = "in its file, first read", "in its file, read before", "in memory"
SMALL = AlignDRAWConfig(channels=3, height=32, width=32, glimpses=4, language_units=16, align_units=16, infer_units=32,
                        generate_units=32, latent=8, read_window=5, write_window=5, init_std=0.05, canvas_init=0.0,
                        preset="paper")


class Row(NamedTuple):
    """What was measured: a file's bytes; MiB of the process before it loads and at its peak; seconds to load, waiting for a
    batch, and of a step with it."""

    size: int
    begun: float
    peak: float
    loading: float
    batch: float
    step: float


class Synthetic:
    """So many images of noise, a block at a time."""

    dtype = np.dtype(np.uint8)

    def __init__(self, count: int):
        self.shape = count, *SHAPE

    def __iter__(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for first in range(0, self.shape[0], BLOCK):
            yield rng.integers(0, 256, (min(BLOCK, self.shape[0] - first), *SHAPE), np.uint8)


def write(path: Path, count: int) -> None:
    """A split of `count` images, which stays in its file whatever its size."""
    datasets.MAPPED_FROM = 1
    captions = np.random.default_rng(1).integers(1, VOCABULARY, (count, WORDS)).astype(np.int32)
    datasets.write_images(path, Synthetic(count), captions, np.full(count, WORDS), np.arange(count))


def load(path: Path, where: str) -> datasets.CaptionedImages:
    """The split, left in its file or read into memory."""
    if where == "file":
        found = datasets.load(path)
        assert isinstance(found, datasets.CaptionedImages)
        return found
    with h5py.File(path) as h5:
        return datasets.CaptionedImages(*(h5[name][()] for name in ("images", "captions", "lengths", "image_of_caption")))


def forget(path: Path) -> None:
    """Let the system drop what it keeps of a file, so that it is read from the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def train(path: Path, where: str) -> None:
    """Steps on the split, in this process; prints what `Row` holds after the file's size."""
    torch.set_num_threads(1)
    model = AlignDRAW(SMALL, VOCABULARY)
    model.reset(torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(model.parameters())
    generator = torch.Generator().manual_seed(2)
    begun, start = memory("VmRSS"), time.monotonic()
    data = load(path, where)
    loaded = time.monotonic()
    batches = data.shuffled(BATCH, 0, 1, "images", 0)
    waited, before = 0.0, time.monotonic()
    for i in range(STEPS):
        asked = time.monotonic()
        batch = batches[i]
        waited += time.monotonic() - asked
        noise = torch.randn(model.noise_shape(BATCH), generator=generator)
        optimizer.zero_grad()
        model.elbo(batch.images, batch.words, noise).negative_elbo.mean().backward()
        optimizer.step()
    print(begun, memory("VmHWM"), loaded - start, waited / STEPS, (time.monotonic() - before) / STEPS)


def memory(name: str) -> float:
    """This process's resident memory (VmRSS) or its largest so far (VmHWM), pages of files among it, MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def measure(count: int) -> dict[str, Row]:
    """A size: how the split is held, and what that took."""
    taken = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.h5"
        write(path, count)
        for how in HOW:
            if how == FIRST:
                forget(path)
            said = subprocess.run([sys.executable, "-m", "benchmarks.memory", str(path), "memory" if how == WHOLE else "file"],
                                  check=True, capture_output=True, text=True).stdout
            taken[how] = Row(path.stat().st_size, *map(float, said.split()))
    return taken


def draw(path: Path, taken: dict[int, dict[str, Row]]) -> None:
    """Two panels against the number of images: memory beyond that of the process at its start, and seconds a step."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    memory_panel, time_panel = figure.subplots(1, 2)
    for how, style in zip(HOW, ("o:", "o-", "s--"), strict=True):
        rows = [taken[count][how] for count in taken]
        memory_panel.plot(list(taken), [row.peak - row.begun for row in rows], style, label=f"the split is {how}")
        time_panel.plot(list(taken), [1e3 * row.batch for row in rows], style)
    memory_panel.set(xscale="log", yscale="log", xlabel="images of 3x32x32", ylabel="MiB beyond the start")
    time_panel.set(xscale="log", yscale="log", xlabel="images of 3x32x32", ylabel="ms, waiting for a batch of 100")
    memory_panel.legend(fontsize=8)
    for panel in (memory_panel, time_panel):
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Measure, print, and draw into the file that the command line names; or, with a split and how it is held, train on it."""
    if len(sys.argv) == 3:
        train(Path(sys.argv[1]), sys.argv[2])
        return
    print("| images | GB | the split is | peak, MiB | beyond the start, MiB | loading, s | a batch, ms | a step with it, ms |\n"
          "|---|---|---|---|---|---|---|---|")
    taken = {}
    for count in SIZES:
        taken[count] = measure(count)
        for how, row in taken[count].items():
            print(f"| {count:,} | {row.size / 1e9:.2f} | {how} | {row.peak:,.0f} | {row.peak - row.begun:,.0f} | "
                  f"{row.loading:.2f} | {1e3 * row.batch:.1f} | {1e3 * row.step:.1f} |", flush=True)
    if len(sys.argv) == 2:
        draw(Path(sys.argv[1]), taken)


if __name__ == "__main__":
    main()
