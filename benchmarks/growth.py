"""How a training step's cost grows with glimpses, batch, canvas and words, at the paper's MNIST configuration.

    python -m benchmarks.growth docs/growth.png

prints a row a size and draws them. The sizes of one quantity are timed in turn; the others stand at the paper's.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure

from benchmarks.step import DEVICES, MNIST, steps
from benchmarks.table import medians
from text2image import devices
from text2image.data.mnist_captions import VOCABULARY

REPEATS = 5
PAPER = {"glimpses": 32, "batch": 100, "canvas": 60, "words": 12}
SIZES = {"glimpses": (8, 16, 32, 64), "batch": (25, 50, 100, 200, 400), "canvas": (30, 60, 90, 120), "words": (6, 12, 24, 48)}
LABELS = {"glimpses": "glimpses T", "batch": "captions a batch", "canvas": "canvas, pixels a side", "words": "words a caption"}
TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)  # seconds


def measure(device: torch.device) -> dict[str, dict[int, float]]:
    """Median seconds of a step: quantity, size."""
    taken = {}
    for quantity, sizes in SIZES.items():
        works = {}
        for size in sizes:
            at = PAPER | {quantity: size}
            config = replace(MNIST, glimpses=at["glimpses"], height=at["canvas"], width=at["canvas"])
            works[str(size)] = steps(config, len(VOCABULARY), at["batch"], at["words"], device, "float32")["text2image"]
        taken[quantity] = {int(size): seconds for size, seconds in medians(works, device, REPEATS).items()}
    return taken


def draw(path: Path, taken: dict[str, dict[int, float]], title: str) -> None:
    """A panel a quantity: seconds of a step, and, dashed, what they were if they grew in proportion from the paper's."""
    figure = Figure(figsize=(12, 3), layout="constrained")
    panels = figure.subplots(1, len(taken), sharey=True)
    for panel, (quantity, times) in zip(panels, taken.items(), strict=True):
        sizes, at_paper = list(times), times[PAPER[quantity]]
        panel.plot(sizes, [at_paper * size / PAPER[quantity] for size in sizes], "--", color="0.7", label="in proportion")
        panel.plot(sizes, list(times.values()), "o-", color="tab:blue", label="measured")
        panel.plot(PAPER[quantity], at_paper, "o", color="tab:red", label="the paper's")
        panel.set(xscale="log", yscale="log", xticks=sizes, xlabel=LABELS[quantity])
        panel.set_xticklabels(sizes)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    low, high = panels[0].get_ylim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    panels[0].set(ylabel="seconds a step", yticks=ticks, yticklabels=ticks)
    panels[-1].legend(fontsize=8, loc="lower right")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Measure, print, and draw into the file that the command line names."""
    devices.keep_freed_memory()
    device = DEVICES[-1]  # a GPU where there is one
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    taken = measure(device)
    for quantity, times in taken.items():
        for size, seconds in times.items():
            ratio = seconds / times[PAPER[quantity]]
            print(f"{device.type}: {LABELS[quantity]:24} {size:5}   {seconds * 1e3:8.1f} ms   {ratio:5.2f} of the paper's")
    if len(sys.argv) > 1:
        draw(Path(sys.argv[1]), taken, f"MNIST, {name}")


if __name__ == "__main__":
    main()
