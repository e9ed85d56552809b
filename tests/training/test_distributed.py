"""Two processes train as one."""

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from tests.small import CONFIG, DEV, TRAIN, make
from tests.training.test_elbo import equal, run
from text2image.training import elbo
from text2image.training.distributed import init_distributed
from text2image.training.progress import StepReport
from text2image.training.resume import ResumableState
from text2image.training.train_config import TrainConfig


def test_two_processes_train_as_one_and_go_on_after_a_break(tmp_path):
    config = replace(CONFIG, epoch_size=201)  # the last batch has one image: the second process has none
    alone = run(ResumableState(tmp_path, "alone", "f" * 64), config)
    multiprocessing.start_processes(_one_of_two, (tmp_path, config, 8, free_port()), nprocs=2, start_method="spawn")
    assert not (tmp_path / "0.pt").exists(), "broken off"
    multiprocessing.start_processes(_one_of_two, (tmp_path, config, 0, free_port()), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert equal(first["model"], second["model"])
    assert first["resumed"]
    for name, value in alone[0].items():
        torch.testing.assert_close(first["model"][name], value, rtol=1e-3, atol=1e-5, msg=name)
    for (_, _, _, *means), row in zip(first["history"], alone[1], strict=True):
        assert means == [pytest.approx(tuple(row.train), rel=1e-4), pytest.approx(tuple(row.dev), rel=1e-4)]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _one_of_two(rank: int, folder: Path, config: TrainConfig, stop_at: int, port: int) -> None:
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank),
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # whatever this machine calls itself
    torch.set_num_threads(1)
    resumed = []

    def report(report: StepReport) -> None:
        resumed.append(report.resumed)
        if report.step == stop_at:
            raise SystemExit(0)

    model = make()
    with init_distributed("cpu") as context, ResumableState(folder, "two", "f" * 64, read_only=context.rank > 0) as work:
        history, _ = elbo.train(model, TRAIN, DEV, config, 1, work, context, report, save_every=0)
        torch.save({"model": model.state_dict(), "resumed": all(resumed),
                    "history": [(*row[:3], tuple(row.train), tuple(row.dev)) for row in history]}, folder / f"{rank}.pt")
