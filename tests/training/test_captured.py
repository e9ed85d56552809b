"""The captured step gives what the eager one gives: on the CPU, where functions are run again in place of graphs, bit for bit; on
the simulated device, whose graphs are recorded operations, as well. tests/test_cuda.py has the same for a GPU."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.simulated_device import CPU, counting, record, simulated  # noqa: F401 (a fixture)
from tests.small import ADAMW, ALONE, CONFIG, DEV, RMSPROP, TRAIN, make
from tests.test_simulated_device import captioned, digits, small
from text2image.data.datasets import Dataset
from text2image.errors import UserWarningLine
from text2image.models.base import ImageModel
from text2image.training import elbo, step
from text2image.training.distributed import DistributedContext
from text2image.training.optimizers import RMSprop
from text2image.training.progress import StepReport
from text2image.training.resume import ResumableState
from text2image.training.step import CapturedStep, EagerStep, make_step

SHORT = replace(CONFIG, epochs=2, epoch_size=45, batch_size=10, dev_size=10)  # four full batches an epoch and one that is not
WIDTHS = replace(SHORT, epoch_size=0, batch_size=6, optimizer=ADAMW)  # of several widths, some of which occur once or twice


class Recorder:
    """Runs a function again in place of a graph; its result lies at one place, as a graph's does."""

    def __init__(self, record: Callable[[step.Replay], step.Replay] = lambda function: function):
        self.record, self.recorded, self.replayed = record, 0, 0

    def __call__(self, function: step.Replay) -> step.Replay:
        self.recorded += 1
        replayed, place = self.record(function), torch.zeros(2, dtype=torch.double)

        def replay() -> torch.Tensor:
            self.replayed += 1
            result = replayed()
            return place.copy_(result) if result.device == CPU else result

        return replay


def run(folder, monkeypatch, config, data: tuple[Dataset, Dataset], model: ImageModel, record=None, stop_at: int = 0, name: str = "run"):
    """Train, eagerly or recording with `record`; returns all that a saved state holds at the end."""
    device = next(model.parameters()).device
    if record is not None:
        monkeypatch.setattr(elbo, "make_step", lambda *arguments: CapturedStep(*arguments, record))
    else:
        monkeypatch.setattr(elbo, "make_step", EagerStep)

    def report(report: StepReport) -> None:
        if report.step == stop_at and report.row is None:
            raise KeyboardInterrupt

    with ResumableState(folder, name, "f" * 64) as state:
        history, best = elbo.train(model, *data, config, 1, state, DistributedContext(0, 1, device), report, 0 if stop_at else None)
        return {"history": repr(history), "best": best, **state.load()["trainer"]}


def same(one, other) -> bool:
    """Equal in everything, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one.cpu(), other.cpu())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def images(device: torch.device = CPU) -> tuple[Dataset, Dataset]:
    return captioned(16, 3, 14, 5, device), captioned(3, 3, 14, 5, device)


@pytest.mark.parametrize("optimizer", [RMSPROP, ADAMW], ids=["rmsprop", "adamw"])
def test_recorded_steps_are_eager_ones_bit_for_bit(tmp_path, monkeypatch, optimizer):
    config = replace(SHORT, optimizer=optimizer, clip="global" if optimizer is ADAMW else "per_tensor",
                     kl_warmup=0.75 if optimizer is ADAMW else 0.0)
    eager = run(tmp_path, monkeypatch, config, (TRAIN, DEV), make(), name="eager")
    recorder = Recorder()
    assert same(run(tmp_path, monkeypatch, config, (TRAIN, DEV), make(), recorder), eager)
    assert (recorder.recorded, recorder.replayed) == (1, 6), "of 8 full batches the first two are eager"


@pytest.mark.parametrize(("bucket", "most", "recorded"), [(1, 32, 3), (2, 32, 2), (1, 1, 1)])
def test_a_width_is_recorded_when_it_has_come_often_enough(tmp_path, monkeypatch, bucket, most, recorded):
    monkeypatch.setattr(step, "MOST_GRAPHS", most)
    config, shape = replace(WIDTHS, bucket=bucket, epochs=3), (3, 14, 14)
    eager = run(tmp_path, monkeypatch, config, images(), small("align_draw", shape, CPU), name="eager")
    recorder = Recorder()
    assert same(run(tmp_path, monkeypatch, config, images(), small("align_draw", shape, CPU), recorder), eager)
    assert recorder.recorded == recorded
    assert recorder.replayed > recorded


@pytest.mark.parametrize(("before", "after"), [(None, Recorder()), (Recorder(), None), (Recorder(), Recorder())],
                         ids=["eager then recorded", "recorded then eager", "recorded"])
def test_a_run_goes_on_from_the_state_of_either(tmp_path, monkeypatch, before, after):
    whole = run(tmp_path, monkeypatch, SHORT, (TRAIN, DEV), make(), name="whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, monkeypatch, SHORT, (TRAIN, DEV), make(), before, stop_at=5)
    assert same(run(tmp_path, monkeypatch, SHORT, (TRAIN, DEV), make(), after), whole)
    assert all(recorder is None or recorder.recorded for recorder in (before, after))


def test_where_recording_fails_one_line_says_so(tmp_path, monkeypatch):
    def fail(function: step.Replay) -> step.Replay:
        raise RuntimeError("CUDA error: operation not permitted\nwhen stream is capturing")

    eager = run(tmp_path, monkeypatch, SHORT, (TRAIN, DEV), make(), name="eager")
    with pytest.warns(UserWarningLine) as said:
        assert same(run(tmp_path, monkeypatch, SHORT, (TRAIN, DEV), make(), fail), eager)
    assert [str(warning.message) for warning in said] == [
        "the training step could not be captured, and goes on operation by operation, which takes longer: CUDA error: operation not "
        "permitted when stream is capturing; train.capture: off does so from the start"]


@pytest.mark.parametrize(("optimizer", "rounding"), [(RMSPROP, 0), (ADAMW, 1e-4)], ids=["rmsprop", "adamw"])
@pytest.mark.parametrize("kind", ["digits", "images"])
def test_graphs_of_the_simulated_device(tmp_path, monkeypatch, simulated, kind, optimizer, rounding):  # noqa: F811
    """Whatever the host does in a step, be it the learning rate, would be missing in the next. AdamW counts its steps on a device
    in float32."""
    data = images(simulated) if kind == "images" else (digits(TRAIN, simulated), digits(DEV, simulated))
    config = replace(WIDTHS if kind == "images" else SHORT, optimizer=optimizer, schedule=replace(CONFIG.schedule, after=1))
    shape = data[0].shape
    eager = run(tmp_path, monkeypatch, config, data, small("align_draw", shape, simulated), name="eager")
    recorder = Recorder(record)
    graphs = run(tmp_path, monkeypatch, config, data, small("align_draw", shape, simulated), recorder)
    assert recorder.replayed > recorder.recorded > 0
    if not rounding:
        assert same(graphs["history"], eager["history"])
    for name, value in eager["model"].items():
        torch.testing.assert_close(graphs["model"][name], value, rtol=rounding, atol=rounding / 10, msg=name)


def test_a_replayed_step_neither_waits_nor_copies(simulated):  # noqa: F811
    data = digits(TRAIN, simulated)
    config, context = replace(SHORT, optimizer=ADAMW), DistributedContext(0, 1, simulated)
    trainer = elbo.ELBOTrainer(small("align_draw", data.shape, simulated), data, data, config, 1, context)
    trainer.train_step = CapturedStep(trainer.model, config, context, record)
    batches = trainer.batches(0)
    for i in range(4):
        with counting() as found:
            trainer.step(batches, 0, i)
    assert trainer.train_step.replays
    assert (found[0].waits, found[0].copies) == (0, 0)
    assert found[0].launches < 60, "the batch, its noise, and their copies to where the graph reads them"


def test_a_graph_of_the_simulated_device_does_nothing_of_the_host(simulated):  # noqa: F811
    total, factor = torch.zeros(3, device=simulated), 2.0
    replay = record(lambda: total.add_(torch.ones(3, device=simulated) * factor))
    factor = 5.0
    assert [replay().tolist() for _ in range(3)] == [[2.0] * 3, [4.0] * 3, [6.0] * 3]
    for waits in (lambda: total * total.sum().item(), lambda: total[total > 1], lambda: total + torch.ones(3).to(simulated)):
        with pytest.raises(RuntimeError, match="not permitted while a graph is recorded"):
            record(waits)


def test_a_learning_rate_on_the_device_is_that_of_the_host():
    """In float32, where it is rounded alike."""
    def trained(rate) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 1001))
        optimizer = RMSprop([weight], rate, 0.9, 1e-6)
        for _ in range(3):
            weight.grad = weight.detach().sin()
            optimizer.step()
        return weight

    assert torch.equal(trained(0.0037), trained(torch.tensor(0.0037)))


def test_which_step_is_made():
    assert CONFIG.capture == "auto"
    assert type(make_step(make(), CONFIG, ALONE)) is EagerStep, "a CPU has no graphs"
