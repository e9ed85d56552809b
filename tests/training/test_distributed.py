"""Two processes train as one."""

import os
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from tests.small import CONFIG, DEV, TRAIN, make
from tests.training.test_elbo import equal, run
from text2image.errors import UserError
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
    shutil.copytree(tmp_path, tmp_path / "copy")
    ended_by_one = run(ResumableState(tmp_path / "copy", "two", "f" * 64), config)
    multiprocessing.start_processes(_one_of_two, (tmp_path, config, 0, free_port()), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert equal(first["model"], second["model"])
    assert first["resumed"] and second["resumed"]
    near(first["model"], alone[0])
    near(ended_by_one[0], alone[0])
    assert [row.epoch for row in ended_by_one[1]] == [1, 2, 3]
    for (_, _, _, *means), row in zip(first["history"], alone[1], strict=True):
        assert means == [pytest.approx(tuple(row.train), rel=1e-4), pytest.approx(tuple(row.dev), rel=1e-4)]


def test_what_one_process_began_two_go_on_with(tmp_path):
    """RMSprop's gradients are sparse in one process and dense in two; the state lies where the first process alone has it."""
    whole = run(ResumableState(tmp_path, "whole", "f" * 64), CONFIG)
    with pytest.raises(KeyboardInterrupt):
        run(ResumableState(tmp_path, "two", "f" * 64), CONFIG, 8, save_every=0)
    multiprocessing.start_processes(_one_of_two, (tmp_path, CONFIG, 0, free_port()), nprocs=2, start_method="spawn")
    second = torch.load(tmp_path / "1.pt")
    assert second["resumed"]
    near(second["model"], whole[0])
    assert second["history"][-1][-1] == pytest.approx(tuple(whole[1][-1].dev), rel=1e-4)


@pytest.mark.parametrize(("error", "kind"), [
    (RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.2]:1"), UserError),
    (torch.distributed.DistNetworkError("Connection reset by peer"), UserError),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), RuntimeError)])
def test_a_process_that_is_lost_is_one_line_in_the_others(monkeypatch, error, kind):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    for name, value in (("init_process_group", None), ("destroy_process_group", None), ("get_rank", 1), ("get_world_size", 2)):
        monkeypatch.setattr(torch.distributed, name, lambda *_, value=value, **__: value)
    with pytest.raises(kind) as raised, init_distributed("cpu") as context:
        assert (context.rank, context.world_size) == (1, 2)
        raise error
    assert ("another process of this training ended" in str(raised.value)) == (kind is UserError)
    assert str(error)[:20] in str(raised.value)


def near(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name, value in other.items():
        torch.testing.assert_close(one[name], value, rtol=1e-3, atol=1e-5, msg=name)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _world(rank: int, port: int) -> None:
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank),
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # whatever this machine calls itself
    torch.set_num_threads(1)


def _one_of_two(rank: int, folder: Path, config: TrainConfig, stop_at: int, port: int) -> None:
    """One of two processes; each has its own disk, and the first one's alone holds the state."""
    _world(rank, port)
    resumed = []

    def report(report: StepReport) -> None:
        resumed.append(report.resumed)
        if report.step == stop_at:
            raise SystemExit(0)

    model = make()
    with init_distributed("cpu") as context:
        context.require_same("same", "code")
        with pytest.raises(UserError, match="process 1 of 2 has not the code of process 0: bring every machine to the same commit"):
            context.require_same(f"digest {rank}", "code")
        with ResumableState(folder / "elsewhere" if rank else folder, "two", "f" * 64, read_only=rank > 0) as work:
            history, _ = elbo.train(model, TRAIN, DEV, config, 1, work, context, report, save_every=0)
            torch.save({"model": model.state_dict(), "resumed": all(resumed),
                        "history": [(*row[:3], tuple(row.train), tuple(row.dev)) for row in history]}, folder / f"{rank}.pt")
