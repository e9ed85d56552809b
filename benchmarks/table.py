"""What a step, an image and a batch of data cost, on every device there is: the table of docs/performance.md.

    make bench                                     # all of it
    PYTHONPATH=src python -m benchmarks.table captured --device cuda

Each line of ours is timed in turn with what it is compared to; the ratio is of the medians. Memory is that of a process
which does nothing else.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import load_digits

from benchmarks.step import CONFIGURATIONS, DEVICES, MNIST, Way, in_turn, steps, trainings
from text2image import devices, seeds
from text2image.data.datasets import CaptionedDigits
from text2image.data.mnist_captions import VOCABULARY, Grammar, Layout, Span, caption
from text2image.models.align_draw import AlignDRAW
from text2image.results import sampling

WORDS, REPEATS = 12, 7
PRECISIONS: tuple[devices.Precision, ...] = ("float32", "tf32", "bfloat16")
CANVAS = Layout(60, top=Span(0, 2), bottom=Span(30, 32), left=Span(0, 4), right=Span(28, 32), middle=Span(16, 18))


def medians(works: dict[str, Callable[[], None]], device: torch.device, repeats: int = REPEATS) -> dict[str, float]:
    """Seconds of each, timed in turn."""
    return {name: statistics.median(values) for name, values in in_turn(works, device, repeats).items()}


def line(what: str, ours: float, other: float | None = None) -> None:
    """Print a row: what, milliseconds, and those of what it is compared to."""
    compared = "" if other is None else f"{other * 1e3:9.1f} ms   {other / ours:5.2f} x"
    print(f"{what:58} {ours * 1e3:9.1f} ms   {compared}", flush=True)


def training_steps(device: torch.device, batch: int) -> None:
    """Rows of a step's time at each configuration and precision."""
    for name, (config, words_known) in CONFIGURATIONS.items():
        def ours(captions: int = batch, precision: devices.Precision = "float32", every: int = 0) -> Callable[[], None]:
            return steps(config, words_known, captions, WORDS, device, precision, every)["text2image"]  # noqa: B023

        both = medians(steps(config, words_known, batch, WORDS, device, "float32"), device)
        line(f"{device.type}: {name}, a step of {batch}, against plain eager", both["text2image"], both["plain eager"])
        others = {"in bfloat16": ours(precision="bfloat16"), "with checkpoints every 8 glimpses": ours(every=8)}
        if device.type == "cuda":
            others |= {"in tf32": ours(precision="tf32"), f"of {10 * batch}": ours(10 * batch)}
        for what, other in others.items():
            both = medians({"other": other, "as above": ours()}, device, 3)
            line(f"{device.type}: {name}, a step {what}, against the first", both["other"], both["as above"])


def captured_steps(device: torch.device, batch: int, ways: tuple[Way, ...] = ("captured",)) -> None:
    """Rows of training's own step, captured against eager; on a GPU at each precision and batch, with its memory."""
    on_gpu = device.type == "cuda"
    for name, (config, words_known) in CONFIGURATIONS.items():
        for captions in (batch, 10 * batch) if on_gpu else (batch,):
            for precision in PRECISIONS if on_gpu else PRECISIONS[:1]:
                if on_gpu:
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                found = medians(trainings(config, words_known, captions, WORDS, device, precision, ("eager", *ways)), device, 3)
                for way in ways:
                    line(f"{device.type}: {name}, a {way} step of {captions}, {precision}, against eager", found[way],
                         found["eager"])
                if on_gpu:
                    print(f"{device.type}: memory of all: {torch.cuda.max_memory_reserved() / 2**30:.2f} GiB", flush=True)


def fused_steps(device: torch.device, batch: int) -> None:
    """The same of steps whose small operations `torch.compile` fuses, and on a GPU of those that are captured besides."""
    captured_steps(device, batch, ("fused", "fused and captured") if device.type == "cuda" else ("fused",))


def samples(device: torch.device, captions: int) -> None:
    """The row of drawing an image for each of so many captions; on a GPU of ten times as many, too."""
    model = AlignDRAW(MNIST, len(VOCABULARY))
    model.reset(seeds.torch_generator("weights"))
    model.to(device)
    known = [VOCABULARY.encode(caption(*row)) for row in Grammar.from_seed(1).combinations(held_out=False)]
    for count in (captions, 10 * captions) if device.type == "cuda" else (captions,):
        ids = (known * count)[:count]

        def draw() -> None:
            sampling.draw(model, ids, 1, 0, device)  # noqa: B023

        line(f"{device.type}: mnist, images of {count} captions", medians({"draw": draw}, device)["draw"])


def idle_share(device: torch.device, batch: int) -> None:
    """How long a step waits for its images, captions and noise."""
    real = load_digits()
    bank = np.pad(real.images * 255 / 16, ((0, 0), (10, 10), (10, 10))).round().astype(np.uint8)  # 28x28, as MNIST's
    batches = CaptionedDigits(bank, real.target, Grammar.from_seed(1), CANVAS, device).shuffled(batch, 10_000, "benchmark")

    shape = AlignDRAW(MNIST, len(VOCABULARY)).noise_shape(batch)

    def fetch() -> None:
        for i in range(10):
            batches[i]
            seeds.noise(shape, "benchmark", i, device=device)

    step = steps(MNIST, len(VOCABULARY), batch, WORDS, device, "float32")["text2image"]
    both = medians({"fetch": fetch, "step": step}, device)
    data = both["fetch"] / 10
    print(f"{device.type + ': mnist, images and noise of a step':58} {data * 1e3:9.1f} ms   "
          f"{data / (data + both['step']):.1%} of the loop", flush=True)


def memory(device: torch.device, batch: int) -> None:
    """Rows of the memory that training takes."""
    for name, every in (*((name, 0) for name in CONFIGURATIONS), ("coco", 8)):
        command = [sys.executable, "-m", "benchmarks.step", "--configuration", name, "--only", "text2image", "--repeats", "2",
                   "--device", device.type, "--checkpoint-every", str(every), "--batch", str(batch)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        print(f"{device.type}: {name}{', checkpoints every 8 glimpses' * bool(every)}, {said}", flush=True)


PARTS: dict[str, Callable[[torch.device, int], None]] = {
    "steps": training_steps, "captured": captured_steps, "fused": fused_steps, "samples": samples, "data": idle_share,
    "memory": memory}


def main() -> None:
    """Print the parts of the table that the command line names, or all."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="part", help=f"{', '.join(PARTS)}; without one: all")
    cli.add_argument("--device", choices=("cpu", "cuda"), help="time on this device alone")
    cli.add_argument("--batch", type=int, default=100, help="images of a step, and captions that are drawn")
    arguments = cli.parse_args()
    devices.keep_freed_memory()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads"
          + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""))
    for device in [torch.device(arguments.device)] if arguments.device else DEVICES:
        for part in arguments.parts or PARTS:
            PARTS[part](device, arguments.batch)


if __name__ == "__main__":
    main()
