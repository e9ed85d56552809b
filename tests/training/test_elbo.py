"""Training by the ELBO, and resuming after a break as though there had been none."""

from dataclasses import replace

import pytest
import torch

from tests.models.configurations import MNIST
from tests.small import ADAMW, ALONE, CONFIG, DEV, RMSPROP, SMALL, TRAIN, make
from text2image import seeds
from text2image.data.datasets import CaptionedDigits
from text2image.data.mnist_captions import Grammar, Layout, Span
from text2image.errors import UserError
from text2image.models.align_draw import AlignDRAW
from text2image.sources import mnist
from text2image.training import elbo
from text2image.training.progress import StepReport
from text2image.training.resume import ResumableState
from text2image.training.schedules import DropSchedule
from text2image.training.step import make_step
from text2image.training.train_config import TrainConfig


def run(state: ResumableState, config: TrainConfig = CONFIG, stop_at: int = 0, save_every: float | None = None):
    """Train to the end, or as far as step `stop_at`, where the power goes."""
    def report(report: StepReport) -> None:
        if report.step == stop_at and report.row is None:
            raise KeyboardInterrupt

    model = make()
    with state:
        history, best = elbo.train(model, TRAIN, DEV, config, 1, state, ALONE, report, save_every)
    return model.state_dict(), history, best


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("optimizer", "init"), [(RMSPROP, "random"), (ADAMW, "released_weights")], ids=["rmsprop", "adamw"])
@pytest.mark.parametrize("stop_at", [2, 3, 5, 6, 13])
def test_a_run_that_was_broken_off_ends_bit_for_bit_like_one_that_was_not(tmp_path, optimizer, init, stop_at):
    config = replace(CONFIG, optimizer=optimizer, init=init)
    whole = run(ResumableState(tmp_path, "whole", "f" * 64), config)
    with pytest.raises(KeyboardInterrupt):
        run(ResumableState(tmp_path, "broken", "f" * 64), config, stop_at, save_every=0)
    broken = run(ResumableState(tmp_path, "broken", "f" * 64), config)
    assert equal(whole[0], broken[0])
    assert equal(whole[2], broken[2])
    assert [row.epoch for row in whole[1]] == ([0, 1, 2, 3] if init == "released_weights" else [1, 2, 3])
    assert repr(whole[1]) == repr(broken[1]), "nan in the training of epoch 0 is not equal to itself"


def test_the_weight_of_the_kl_rises_evenly_and_is_then_1():
    config = replace(CONFIG, epochs=4, kl_warmup=0.5)
    assert [config.kl_weight(done) for done in (0, 0.5, 1, 2, 3.9)] == [0, 0.25, 0.5, 1, 1]
    assert CONFIG.kl_weight(0) == 1


def test_a_step_weighs_the_kl():
    """Without its KL a step leaves alone what only the KL teaches; with all of it the step is the plain one."""
    batch, noise = TRAIN.shuffled(50, 50, "kl")[0], seeds.noise((4, 50, 8), "kl", device="cpu")
    ends = []
    for warmup, weight in ((0.0, 1.0), (0.5, 1.0), (0.5, 0.25), (0.5, 0.0)):
        model = make()
        make_step(model, replace(CONFIG, kl_warmup=warmup), ALONE)(batch, noise, 0.01, weight)
        ends.append(model.state_dict())
    plain, whole, part, none = ends
    assert equal(plain, whole)
    assert not equal(part, whole)
    assert torch.equal(none["prior.weight"], make().state_dict()["prior.weight"])
    assert not torch.equal(part["prior.weight"], none["prior.weight"])


def test_no_epochs_score_the_start(tmp_path):
    """The weights stay as they are, and are the best there are."""
    weights, history, best = run(ResumableState(tmp_path, "none", "f" * 64), replace(CONFIG, epochs=0))
    assert equal(weights, make().state_dict())
    assert equal(best, weights)
    assert [(row.epoch, row.step, row.learning_rate) for row in history] == [(0, 0, 0.0)]
    assert history[0].dev.elbo < 0
    with pytest.raises(UserError, match="the ELBO of the weights that training starts from is -inf"):
        elbo.train(AlignDRAW(replace(SMALL, canvas_init=3e38), 23), TRAIN, DEV, replace(CONFIG, epochs=0), 1,
                   ResumableState(tmp_path, "bad", "f" * 64), ALONE, lambda report: None)


def test_training_raises_the_bound_and_records_it(tmp_path):
    _, history, best = run(ResumableState(tmp_path, "run", "f" * 64), replace(CONFIG, epochs=6))
    assert [row.epoch for row in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1].train.elbo > history[0].train.elbo + 2
    for row in history:
        assert row.dev.elbo == pytest.approx(-(row.dev.reconstruction + row.dev.kl))
    assert [row.learning_rate for row in history] == [0.003, 0.003, *[0.0003] * 4]
    best_epoch = max(history, key=lambda row: row.dev.elbo)
    model = make()
    model.load_state_dict(best)
    again = elbo.mean_elbo(model, DEV.sequential(50, 50), ALONE, 1, "dev noise")
    assert again.elbo == pytest.approx(best_epoch.dev.elbo)


def test_a_bound_that_is_no_number_stops_the_run_with_advice(tmp_path):
    with pytest.raises(UserError, match=r"the ELBO is -?(nan|inf) at epoch 1, step \d+: lower train.learning_rate"):
        run(ResumableState(tmp_path, "run", "f" * 64), replace(CONFIG, learning_rate=1e6))


def test_weights_that_are_no_numbers_are_not_kept(tmp_path):
    """The update after the last bound that is scored ruins the weights: neither a state nor a result comes of them."""
    config = replace(CONFIG, epochs=1, epoch_size=50, learning_rate=1e30)
    with pytest.raises(UserError, match=r"lower train\.learning_rate"):
        run(ResumableState(tmp_path, "run", "f" * 64), config, save_every=0)
    assert not list(tmp_path.rglob("state.pt"))


def test_bound_of_real_mnist_rises(mirror, tmp_path):
    """At the paper's configuration, on the real archive: twelve steps of fifty 60x60 images."""
    bank = mnist.read_archive(mirror / "mnist")
    layout = Layout(60, top=Span(0, 2), bottom=Span(30, 32), left=Span(0, 4), right=Span(28, 32), middle=Span(16, 18))
    data = CaptionedDigits(bank.images[:50_000], bank.labels[:50_000], Grammar.from_seed(1), layout)
    model = AlignDRAW(MNIST, 23)
    model.reset(seeds.torch_generator(1, "weights"))
    config = replace(CONFIG, epochs=2, epoch_size=300, batch_size=50, learning_rate=0.0003, schedule=DropSchedule("drop", 0, 0.0003), dev_size=100)
    with ResumableState(tmp_path, "mnist", "f" * 64) as state:
        history, _ = elbo.train(model, data, data, config, 1, state, ALONE, lambda report: None)
    assert history[1].dev.elbo > history[0].dev.elbo
    assert history[1].train.elbo > history[0].train.elbo
