"""A training step (forward, backward, update) at the paper's MNIST configuration, against the reference.

    python -m benchmarks.step           the default: batch 100, 12 words
    python -m benchmarks.step --help    other sizes

Both are timed in turn in the same process, on every device there is; the ratio is of the medians. `make bench` prints
a table of all (benchmarks/table.py).
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from text2image import devices, seeds
from text2image.data.datasets import Batch
from text2image.models import fusing, reference
from text2image.models.align_draw import AlignDRAW, AlignDRAWConfig
from text2image.training.distributed import DistributedContext
from text2image.training.optimizers import RMSprop, RMSpropConfig, clip_gradients
from text2image.training.schedules import DropSchedule
from text2image.training.step import EAGER_FIRST, CapturedStep, EagerStep, GraphRecorder
from text2image.training.train_config import TrainConfig

MNIST = AlignDRAWConfig(channels=1, height=60, width=60, glimpses=32, language_units=128, align_units=512, infer_units=300,
                        generate_units=300, latent=150, read_window=8, write_window=8, init_std=0.01, canvas_init=-10.0,
                        preset="paper")
COCO = replace(MNIST, channels=3, height=32, width=32, infer_units=550, generate_units=550, latent=275, read_window=9,
               write_window=9, canvas_init=0.0)
Way = Literal["eager", "captured", "fused", "fused and captured"]  # of taking a training step
DEVICES = [torch.device(kind) for kind in (("cpu", "cuda") if torch.cuda.is_available() else ("cpu",))]
CONFIGURATIONS = {"mnist": (MNIST, 23), "coco": (COCO, 25_323)}


def steps(config: AlignDRAWConfig, words_known: int, batch: int, words: int, device: torch.device,
          precision: devices.Precision, checkpoint_every: int = 0) -> dict[str, Callable[[], None]]:
    """The two steps, on models of equal weights and the same batch."""
    generator = seeds.torch_generator("benchmark")
    images = torch.rand(batch, config.channels, config.height, config.width, generator=generator).to(device)
    caption = torch.randint(1, words_known, (batch, words), generator=generator).to(device)
    noise = torch.randn(config.glimpses, batch, config.latent, generator=generator).to(device)

    def step(loss: Callable[[AlignDRAW], torch.Tensor], model: AlignDRAW) -> Callable[[], None]:
        model.reset(seeds.torch_generator("weights"))
        model.to(device)
        optimizer = RMSprop(model.parameters(), 0.001, 0.9, 1e-6)

        def once() -> None:
            devices.product_type(precision)  # TF32 is a setting of the process
            optimizer.zero_grad()
            loss(model).backward()
            clip_gradients(model, "per_tensor", 10.0)
            optimizer.step()

        return once

    ours, eager = AlignDRAW(config, words_known), AlignDRAW(config, words_known)
    ours.checkpoint_every = checkpoint_every
    ours.precision, ours.sparse_gradients = devices.product_type(precision), device.type == "cpu"  # as in training
    return {"text2image": step(lambda model: model.elbo(images, caption, noise).negative_elbo.mean(), ours),
            "plain eager": step(lambda model: reference.elbo(model, images, caption, noise).negative_elbo.mean(), eager)}


def trainings(config: AlignDRAWConfig, words_known: int, batch: int, words: int, device: torch.device,
              precision: devices.Precision, ways: Iterable[Way]) -> dict[str, Callable[[], None]]:
    """Training's own step in some ways, on models of equal weights and the same batch; warm. On a CPU, which has no graphs, a
    captured one runs its function again: what it costs is the copying of batches."""
    train = TrainConfig(init="random", epochs=1, epoch_size=0, min_words=1, max_words=words, batch_size=batch, bucket=1,
                        optimizer=RMSpropConfig("rmsprop", 0.9, 1e-6), learning_rate=0.001,
                        schedule=DropSchedule("drop", 0, 0.001), clip="per_tensor", clip_norm=10.0, dev_size=0,
                        checkpoint_every=0, device="auto", precision=precision, capture="auto", compile="off")
    context, generator = DistributedContext(0, 1, device), seeds.torch_generator("benchmark")
    data = Batch(torch.rand(batch, config.channels, config.height, config.width, generator=generator).to(device),
                 torch.randint(1, words_known, (batch, words), generator=generator).to(device), torch.arange(batch))
    noise = torch.randn(config.glimpses, batch, config.latent, generator=generator).to(device)

    def of(way: Way) -> Callable[[], None]:
        model = AlignDRAW(config, words_known)
        model.reset(seeds.torch_generator("weights"))
        model.precision = devices.product_type(precision)
        model.to(device)
        if "captured" in way:
            record = GraphRecorder() if device.type == "cuda" else lambda function: function
            step: EagerStep = CapturedStep(model, train, context, record)
        else:
            step = EagerStep(model, train, context)

        def once() -> None:
            devices.product_type(precision)
            fusing.allow("fused" in way)
            step(data, noise, 0.001)

        for _ in range(EAGER_FIRST + 1):
            once()
        return once

    return {way: of(way) for way in ways}


def seconds(step: Callable[[], None], device: torch.device) -> float:
    """How long one step takes, a GPU's work included."""
    begun = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def in_turn(works: dict[str, Callable[[], None]], device: torch.device, repeats: int) -> dict[str, list[float]]:
    """Seconds of each, timed in turn `repeats` times after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            taken = seconds(work, device)
            if repeat:
                times[name].append(taken)
    return times


def peak_memory() -> int:
    """KiB that this process has held at most, without what its parent held when it started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)  # there in bytes


def command_line(description: str | None, repeats: int) -> argparse.ArgumentParser:
    """What every benchmark of a step can be asked for."""
    cli = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--configuration", choices=CONFIGURATIONS, default="mnist")
    cli.add_argument("--batch", type=int, default=100)
    cli.add_argument("--words", type=int, default=12)
    cli.add_argument("--repeats", type=int, default=repeats)
    cli.add_argument("--device", choices=("cpu", "cuda"), help="on this device alone")
    return cli


def main() -> None:
    """Time both steps as the command line asks."""
    cli = command_line(__doc__, repeats=9)
    cli.add_argument("--precision", choices=("float32", "tf32", "bfloat16"), default="float32")
    cli.add_argument("--checkpoint-every", type=int, default=0, help="gradient checkpointing: glimpses at a time; 0: none")
    cli.add_argument("--only", choices=("text2image", "plain eager"), help="time one of the two, for its memory")
    arguments = cli.parse_args()
    devices.keep_freed_memory()
    config, words_known = CONFIGURATIONS[arguments.configuration]
    print(f"{arguments.configuration}, batch {arguments.batch}, {arguments.words} words, {arguments.precision}, "
          f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for device in [torch.device(arguments.device)] if arguments.device else DEVICES:
        both = steps(config, words_known, arguments.batch, arguments.words, device, arguments.precision,
                     arguments.checkpoint_every)
        if arguments.only is not None:
            both = {arguments.only: both[arguments.only]}
        times = in_turn(both, device, arguments.repeats)
        medians = {name: statistics.median(values) for name, values in times.items()}
        for name, median in medians.items():
            print(f"{device.type:5} {name:12} {median * 1e3:8.1f} ms a step  {1 / median:7.2f} steps/s  "
                  f"(fastest {min(times[name]) * 1e3:.1f} ms)")
        if arguments.only is None:
            print(f"{device.type:5} ratio        {medians['text2image'] / medians['plain eager']:8.2f}")
    if arguments.only is None:
        again = [sys.executable, "-m", "benchmarks.step", *sys.argv[1:], "--only", "text2image", "--repeats", "2"]
        print(subprocess.run(again, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    else:
        on_gpu = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0
        print(f"peak memory of a process that runs {arguments.only} alone: {peak_memory() / 2**20:.2f} GiB"
              + (f", and {on_gpu:.2f} GiB of the GPU's" if on_gpu else ""))


if __name__ == "__main__":
    main()
