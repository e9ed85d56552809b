"""Fuzzing for as long as one likes: `make fuzz`, or python -m tests.fuzz --seconds 600.

A child process reads altered files, one after the other. A file at which a reader does what it may not is kept below --keep,
with what it did. What a reader may do: take the file, or raise UserError with one line. What it may not: raise anything else,
take more than 5 seconds, take more than 1 GiB of memory beyond the file's size, or end the process.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.fuzz.mutations import mutate
from tests.fuzz.readers import Reader, readers
from text2image.errors import UserError

LONGEST = 5.0         # seconds for a file
STUCK = 30            # seconds after which a process that cannot be interrupted is killed
MEMORY = 1 << 30      # bytes beyond the file's size
LONGEST_LINE = 2000


class TooLong(BaseException):
    """A reader took too long."""


def _too_long(*_: object) -> None:
    raise TooLong


def peak() -> int:
    """The process's largest resident memory in bytes since `forget_peak`."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def forget_peak() -> None:
    """Begin to count anew, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def fault(reader: Reader, path: Path) -> str | None:
    """What a reader did with a file that it may not do."""
    forget_peak()
    before, begun = peak(), time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        reader.read(path)
        said = None
    except UserError as error:
        line = str(error)
        said = None if "\n" not in line and len(line) <= LONGEST_LINE else f"a line of {len(line):,} characters: {line[:200]!r}"
    except TooLong:
        said = f"took more than {LONGEST:g} seconds\n{traceback.format_exc()}"
    except BaseException:
        said = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if time.monotonic() - begun > LONGEST:
        said = said or f"took {time.monotonic() - begun:.1f} seconds"
    taken = peak() - before
    return f"took {taken:,} bytes\n{said}" if taken > MEMORY + path.stat().st_size else said


def limit_memory() -> None:
    """No more than four times what a reader may take: else one of them could take all that the machine has."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        size = int(statm.read_text().split()[0]) * resource.getpagesize() + 4 * MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def child(place: Path, seed: int, inputs: int, deadline: float, only: str, keep: Path) -> int:
    """Read altered files until `inputs` of each reader (0: no limit) or the deadline; returns how many faults were kept."""
    signal.signal(signal.SIGALRM, _too_long)
    warnings.simplefilter("ignore")
    found = [reader for reader in readers(place / "whole") if only in reader.name]
    for reader in found:
        for whole in reader.whole:
            write(place, reader, reader.wrap(whole))
            with suppress(UserError):  # the first time imports are made, which take their time
                reader.read(place / reader.name)
            if said := fault(reader, place / reader.name):
                raise SystemExit(f"{reader.name}, unaltered: {said}")
    limit_memory()
    done: Counter[str] = Counter()
    known: set[str] = set()
    round_ = 0
    while (not inputs or round_ < inputs) and time.monotonic() < deadline:
        for number, reader in enumerate(found):
            for n in range(reader.weight):
                draw = random.Random(f"{seed} {number} {round_} {n}")
                whole, other = draw.choice(reader.whole), draw.choice(reader.whole)
                write(place, reader, reader.wrap(mutate(draw, whole, other, reader.tokens)))
                (place / "now").write_text(f"{reader.name} {seed}-{round_}-{n}")
                said = fault(reader, place / reader.name)
                if said and (place_of := f"{reader.name} {said.strip().splitlines()[-1][:60]}") not in known:
                    known.add(place_of)
                    keep_fault(place, keep, said)
                done[reader.name] += 1
        round_ += 1
        (place / "done").write_text(" ".join(f"{name}={count}" for name, count in done.items()))
    return len(known)


def keep_fault(place: Path, keep: Path, said: str) -> None:
    """Keep the file that a child is at, and what it did."""
    name, number = (place / "now").read_text().split()
    keep.mkdir(parents=True, exist_ok=True)
    kept = keep / f"{number}-{Path(name).name}"
    shutil.copy(place / name, kept)
    kept.with_name(f"{kept.name}.txt").write_text(said)
    print(f"{kept}: {said.strip().splitlines()[-1][:300]}", flush=True)


def write(place: Path, reader: Reader, content: bytes) -> None:
    """The file that a reader is given, and the digests beside a state."""
    path = place / reader.name
    path.parent.mkdir(exist_ok=True)
    if path.name == "state.pt" and not (path.parent / "state.pt.sha256").exists():
        shutil.copy(place / "whole" / path.parent.name / "state.pt.sha256", path.parent)
    path.write_bytes(content)


def run(seconds: float, seed: int, inputs: int, keep: Path, only: str) -> int:
    """Processes that read altered files, one after the other; returns how many faults were found, which are kept."""
    end, faults, total = time.monotonic() + seconds, 0, Counter()
    while time.monotonic() < end:
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            arguments = {"child": place, "seed": seed, "inputs": inputs, "seconds": end - time.monotonic(), "only": only, "keep": keep}
            process = subprocess.Popen([sys.executable, "-m", "tests.fuzz", *(f"--{key}={value}" for key, value in arguments.items())],
                                       env=os.environ | {"OMP_NUM_THREADS": "1"})
            said = watch(process, place, end + STUCK)
            for part in (place / "done").read_text().split() if (place / "done").exists() else []:
                total[part.split("=")[0]] += int(part.split("=")[1])
            if said and not (place / "now").exists():  # before the first altered file
                return 1
            if said:
                keep_fault(place, keep, said)
            faults += 1 if said else process.returncode
            if inputs and not said:
                break
        seed += 1
    print(f"{sum(total.values()):,} files, {faults} faults: {dict(total)}")
    return faults


def watch(process: subprocess.Popen, place: Path, end: float) -> str | None:
    """Wait for a child; kill one that is stuck. Returns what it did wrong, None for nothing."""
    now, since = None, time.monotonic()
    while process.poll() is None:
        time.sleep(0.05)
        changed = next((path.stat().st_mtime_ns for path in (place / "now",) if path.exists()), None)
        if changed != now:
            now, since = changed, time.monotonic()
        if time.monotonic() - since > (STUCK if now else 4 * STUCK) or time.monotonic() > end:
            process.kill()
            process.wait()
            return f"was stuck for {time.monotonic() - since:.0f} seconds, and could not be interrupted"
    return f"ended the process ({process.returncode})" if process.returncode < 0 or not (place / "now").exists() else None


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=0, help="of each reader, at most (0: no limit)")
    parser.add_argument("--only", default="", help="readers whose file's name has this part")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        (given.child / "whole").mkdir()
        return child(given.child, given.seed, given.inputs, time.monotonic() + given.seconds, given.only, given.keep)
    return min(1, run(given.seconds, given.seed, given.inputs, given.keep, given.only))


if __name__ == "__main__":
    sys.exit(main())
