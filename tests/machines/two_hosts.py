"""torchrun over two hosts: two network namespaces, each with a copy of the repository on a disk of its own.

    python -m tests.machines.two_hosts FOLDER

as root, on Linux, with iproute2. The quick start's digits, shortened, are trained by two hosts; one is lost and comes back; the
training goes on in one process while it is away, with the state that the first host saved. Prints what happened, and raises
AssertionError where it should not have.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import Repository, as_it_stands

ADDRESSES = {"t2i-a": "10.77.0.1", "t2i-b": "10.77.0.2"}
FIRST, SECOND = ADDRESSES
PORT = 29400
SHORT = {"runs.digits.train.epochs": 40, "runs.digits.train.epoch_size": 400, "runs.digits.train.dev_size": 100,
         "datasets.digits.preprocess.images.dev": 100, "datasets.digits.preprocess.images.test": 100}


@contextmanager
def two_namespaces() -> Iterator[None]:
    """Two network namespaces with a cable between them."""
    first, second = ADDRESSES
    commands = [f"ip netns add {first}", f"ip netns add {second}",
                f"ip link add v-{first} netns {first} type veth peer name v-{second} netns {second}"]
    commands += [f"ip -n {name} addr add {address}/24 dev v-{name}" for name, address in ADDRESSES.items()]
    commands += [f"ip -n {name} link set {link} up" for name in ADDRESSES for link in ("lo", f"v-{name}")]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True)
        yield
    finally:
        for name in ADDRESSES:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


class Host:
    """A host: a namespace, and a copy of the repository with the prepared digits."""

    def __init__(self, name: str, repository: Repository):
        self.name, self.repository = name, repository
        self.log = repository.path.parent / f"{name}.log"
        self.process: subprocess.Popen | None = None

    def start(self, nodes: str) -> None:
        """Start the host's torchrun, which waits for `nodes` of them: a number, or the least and the most, 1:2."""
        command = ["ip", "netns", "exec", self.name, "torchrun", f"--nnodes={nodes}", "--nproc-per-node=1", "--max-restarts=9",
                   "--rdzv-backend=c10d", f"--rdzv-endpoint={ADDRESSES[FIRST]}:{PORT}", "--rdzv-id=digits",
                   f"--rdzv-conf=is_host={int(self.name == FIRST)},last_call_timeout=15", f"--local-addr={ADDRESSES[self.name]}",
                   "-m", "pipeline.train", "digits", "digits", "align_draw"]
        environment = self.repository.environment | {"PYTHONPATH": "src", "GLOO_SOCKET_IFNAME": f"v-{self.name}",
                                                     # Else a host that comes back waits in vain for the address of the first.
                                                     "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.repository.path, env=environment, stdout=log, stderr=log,
                                            start_new_session=True)

    def lose(self) -> None:
        """The power goes: every process of the host ends at once."""
        for pid in subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True).stdout.split():
            os.kill(int(pid), signal.SIGKILL)
        self.process.wait()

    def end(self, seconds: float = 300) -> int:
        """Wait until torchrun is done; returns its exit code."""
        return self.process.wait(seconds)

    def said(self) -> str:
        """What the host's processes have printed so far."""
        return self.log.read_text(errors="replace")

    def line(self, words: str) -> str:
        """The last line of that which holds `words`."""
        return next(line for line in reversed(self.said().splitlines()) if words in line)

    @property
    def state(self) -> bool:
        """Whether the host's disk holds a saved state."""
        return bool(list((self.repository.path / "state").glob("digits-*/state.pt")))


def wait_for(what, seconds: float = 120) -> None:
    """Wait until `what()` is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.1)


def hosts(folder: Path) -> tuple[Host, Host, Repository]:
    """Two hosts and, to compare them with, a third copy, all of them with the same prepared digits."""
    checkout = as_it_stands(folder / "alone" / "text2image")
    checkout.set_parameters(SHORT)
    checkout.commit()
    checkout.dvc("repro", "preprocess@digits")
    return *(Host(name, checkout.copy(folder / name / "text2image")) for name in ADDRESSES), checkout  # type: ignore[return-value]


def main(folder: Path) -> None:
    """Train, lose a host, go on alone, have it back, and compare with a training in one process."""
    first, second, alone = hosts(folder)
    with two_namespaces():
        for host in (first, second):
            host.start("1:2")
        wait_for(lambda: "epoch 5 " in first.said())
        assert not second.state, "the first process saves, and no other"
        print(f"two hosts: {first.line('epoch 5 ')}")
        second.lose()
        wait_for(lambda: "resumed at step" in first.said())
        wait_for(lambda: "epoch 12 " in first.said())
        print(f"one is lost, the other: {first.line('resumed at step')}; then {first.line('epoch 12 ')}")
        second.start("1:2")
        codes = [host.end() for host in (first, second)]
    print(f"it is back, the first: {first.line('resumed at step')}; then {first.line('epoch 40 ')}; exit codes {codes}")
    assert codes == [0, 0]
    assert first.said().count("resumed at step") == 2
    assert first.said().count("error: another process of this training ended") == 1
    assert not (second.repository.path / "models/digits").exists(), "the first process writes, and no other"
    assert not first.state, "it is forgotten when all is done"
    alone.stage("train", "digits", "digits", "align_draw")
    dev = [json.loads((copy.path / "results/digits/train.json").read_text())["best_dev"]["elbo"] for copy in (first.repository, alone)]
    print(f"best ELBO on dev: two hosts {dev[0]:.3f}, one process {dev[1]:.3f}")
    assert abs(dev[0] - dev[1]) < 0.02 * abs(dev[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
