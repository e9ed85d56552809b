"""Where a training step spends its time, by kinds of operations and, on a GPU, by kernels.

    python -m benchmarks.profile --configuration mnist

On a CPU the time is divided into the large matrix products (of the LSTMs, the posterior, and what h_gen is multiplied with),
the small batched ones (of the windows and of align), passes over activations, and what is between operations. On a GPU the
kernels' own time stands beside the step's: a step cannot be shorter than that, as each glimpse waits for the one before it.
"""

import statistics
import time
from collections import Counter

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.step import CONFIGURATIONS, DEVICES, command_line, seconds, steps
from text2image import devices

LARGE = {"aten::mm", "aten::addmm"}
SMALL = {"aten::bmm", "aten::baddbmm_", "aten::mv", "aten::addmv_"}
MOST = 12  # operations, or kernels, that are named


def kind(operation: str) -> str:
    """The group of an operation."""
    if not operation.startswith("aten::"):
        return "between operations"  # Python's and autograd's own
    return "large products" if operation in LARGE else "small products" if operation in SMALL else "passes"


def rows(configuration: str, batch: int, words: int, device: torch.device, repeats: int) -> list[str]:
    """The profile's lines."""
    config, words_known = CONFIGURATIONS[configuration]
    step = steps(config, words_known, batch, words, device, "float32")["text2image"]
    for _ in range(2):
        step()
    taken = statistics.median(seconds(step, device) for _ in range(repeats)) * 1e3
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    begun = time.perf_counter()
    with profile(activities=activities) as found:
        seconds(step, device)
    profiled = (time.perf_counter() - begun) * 1e3
    # On a GPU an operation has the time of its kernels, too: each is counted once.
    events = [event for event in found.key_averages() if not on_gpu or (
        event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation)]
    own = {event.key: (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e3 for event in events}
    counts = {event.key: event.count for event in events}
    within = sum(own.values())
    lines = [f"{device.type}: {configuration}, a step of {batch}: {taken:.1f} ms; profiled {profiled:.1f} ms, of which "
             f"{within:.1f} ms within {'kernels' if on_gpu else 'operations'}"]
    if not on_gpu:
        by_kind: Counter[str] = Counter()
        for name, spent in own.items():
            by_kind[kind(name)] += spent
        lines += [f"  {name:<28}{spent:9.1f} ms {spent / within:6.1%}" for name, spent in by_kind.most_common()]
    lines += [f"  {name[:60]:<60}{spent:9.1f} ms {counts[name]:6} x" for name, spent in
              sorted(own.items(), key=lambda item: -item[1])[:MOST] if spent]
    return lines


def main() -> None:
    """Print the profile of a step on every device there is."""
    arguments = command_line(__doc__, repeats=5).parse_args()
    devices.keep_freed_memory()
    for device in [torch.device(arguments.device)] if arguments.device else DEVICES:
        print("\n".join(rows(arguments.configuration, arguments.batch, arguments.words, device, arguments.repeats)), flush=True)


if __name__ == "__main__":
    main()
