"""The loop: its optimizers, its schedule, and going on after a break as though there had been none."""

import math
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import multiprocessing

from text2image import bounds, datasets, seeds, training
from text2image.bounds import EvaluateConfig
from text2image.datasets import CaptionedDigits, CaptionedImages
from text2image.errors import UserError
from text2image.mnist_captions import Canvas, Grammar, Span
from text2image.model import SWITCHES, AlignDRAW, ModelConfig
from text2image.processes import Processes, together
from text2image.progress import WorkInProgress, fingerprint
from text2image.training import RMSprop, TrainConfig, clip_gradients, learning_rate

SMALL = ModelConfig(channels=1, height=18, width=18, glimpses=4, language_units=16, align_units=16, infer_units=32,
                    generate_units=32, latent=8, read_window=4, write_window=5, init_std=0.1, canvas_init=-3.0,
                    preset="paper", **dict.fromkeys(SWITCHES, "preset"))
CONFIG = TrainConfig(start="random", epochs=3, epoch_size=250, least_words=1, most_words=100, batch_size=50,
                     bucket=1, optimizer="rmsprop", learning_rate=0.003,
                     final_learning_rate=0.0003, schedule="drop", drop_after=2, decay=0.9, second_decay=0.99, epsilon=1e-6,
                     weight_decay=0.0, clip="global", clip_norm=10.0, dev_size=50,
                     recomputed_glimpses=0, device="cpu", precision="float32")
ALONE = Processes(0, 1, torch.device("cpu"))
CANVAS = Canvas(18, top=Span(0, 1), bottom=Span(9, 10), left=Span(0, 1), right=Span(9, 10), middle=Span(4, 6))


def digits(part: slice) -> CaptionedDigits:
    real = load_digits()
    return CaptionedDigits((real.images[part] * 255 / 16).round().astype(np.uint8), real.target[part], Grammar.draw(1), CANVAS)


TRAIN, DEV = digits(slice(0, 1397)), digits(slice(1397, 1597))
MEAN = torch.full((1, 18, 18), 0.3)  # a training picture's mean, for what does not test it


def make() -> AlignDRAW:
    model = AlignDRAW(SMALL, 23)
    model.reset(seeds.torch_generator(1, "weights"))
    return model


def run(work: WorkInProgress, config: TrainConfig = CONFIG, stop_at: int = 0, save_every: float | None = None):
    """Train to the end, or as far as step `stop_at`, where the power goes."""
    def report(report: training.Report) -> None:
        if report.step == stop_at and report.history is None:
            raise KeyboardInterrupt

    model = make()
    with work:
        history, best = training.train(model, TRAIN, DEV, config, 1, work, ALONE, report, save_every)
    return model.state_dict(), history, best


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("optimizer", "start"), [("rmsprop", "random"), ("adamw", "prepared")])
@pytest.mark.parametrize("stop_at", [2, 3, 5, 6, 13])
def test_a_run_that_was_broken_off_ends_bit_for_bit_like_one_that_was_not(tmp_path, optimizer, start, stop_at):
    config = replace(CONFIG, optimizer=optimizer, start=start)
    whole = run(WorkInProgress(tmp_path, "whole", "f" * 64), config)
    with pytest.raises(KeyboardInterrupt):
        run(WorkInProgress(tmp_path, "broken", "f" * 64), config, stop_at, save_every=0)
    broken = run(WorkInProgress(tmp_path, "broken", "f" * 64), config)
    assert equal(whole[0], broken[0])
    assert equal(whole[2], broken[2])
    assert [row.epoch for row in whole[1]] == ([0, 1, 2, 3] if start == "prepared" else [1, 2, 3])
    assert repr(whole[1]) == repr(broken[1]), "nan in the training of epoch 0 is not equal to itself"


def test_no_epochs_score_the_start(tmp_path):
    """The weights stay as they are, and are the best there are."""
    weights, history, best = run(WorkInProgress(tmp_path, "none", "f" * 64), replace(CONFIG, epochs=0))
    assert equal(weights, make().state_dict())
    assert equal(best, weights)
    assert [(row.epoch, row.step, row.learning_rate) for row in history] == [(0, 0, 0.0)]
    assert history[0].dev.bound < 0
    with pytest.raises(UserError, match="the bound of the weights that training starts from is -inf"):
        training.train(AlignDRAW(replace(SMALL, canvas_init=3e38), 23), TRAIN, DEV, replace(CONFIG, epochs=0), 1,
                       WorkInProgress(tmp_path, "bad", "f" * 64), ALONE, lambda report: None)


def test_work_in_progress_is_found_by_the_same_work_alone(tmp_path):
    first = WorkInProgress(tmp_path, "run", fingerprint([1], []))
    with first:
        first.save({"step": torch.tensor(3)})
        with pytest.raises(UserError, match="another process is at this work"):
            WorkInProgress(tmp_path, "run", fingerprint([1], [])).__enter__()
    with WorkInProgress(tmp_path, "run", fingerprint([1], [])) as again:
        assert again.load()["step"] == 3
    with WorkInProgress(tmp_path, "run", fingerprint([2], [])) as other:
        assert other.load() is None
    with again:
        again.finish()
    assert not again.path.exists()


def test_a_fingerprint_knows_settings_and_contents(tmp_path):
    file = tmp_path / "data"
    file.write_text("one")
    before = fingerprint({"rate": 1}, [file])
    assert fingerprint({"rate": 1}, [file]) == before != fingerprint({"rate": 2}, [file])
    file.write_text("two")
    assert fingerprint({"rate": 1}, [file]) != before


def test_a_damaged_state_says_what_to_do(tmp_path):
    with WorkInProgress(tmp_path, "run", "f" * 64) as work:
        (work.path / "state.pt").write_bytes(b"half a file")
        with pytest.raises(UserError, match="delete it to start this work from the beginning"):
            work.load()


def test_training_raises_the_bound_and_records_it(tmp_path):
    _, history, best = run(WorkInProgress(tmp_path, "run", "f" * 64), replace(CONFIG, epochs=6))
    assert [row.epoch for row in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1].train.bound > history[0].train.bound + 2
    for row in history:
        assert row.dev.bound == pytest.approx(-(row.dev.reconstruction + row.dev.kl))
    assert [row.learning_rate for row in history] == [0.003, 0.003, *[0.0003] * 4]
    best_epoch = max(history, key=lambda row: row.dev.bound)
    model = make()
    model.load_state_dict(best)
    again = training.mean_bound(model, DEV.in_order(50, 50), ALONE, 1, "dev noise")
    assert again.bound == pytest.approx(best_epoch.dev.bound)


def test_a_bound_that_is_no_number_stops_the_run_with_advice(tmp_path):
    with pytest.raises(UserError, match=r"the bound is -?(nan|inf) at epoch 1, step \d+: lower train.learning_rate"):
        run(WorkInProgress(tmp_path, "run", "f" * 64), replace(CONFIG, learning_rate=1e6))


def test_weights_that_are_no_numbers_are_not_kept(tmp_path):
    """The update after the last bound that is scored ruins the weights: neither a state nor a result comes of them."""
    config = replace(CONFIG, epochs=1, epoch_size=50, learning_rate=1e30)
    with pytest.raises(UserError, match=r"lower train\.learning_rate"):
        run(WorkInProgress(tmp_path, "run", "f" * 64), config, save_every=0)
    assert not list(tmp_path.rglob("state.pt"))


def test_rmsprop_is_the_released_one():
    """h = 0.9 h + 0.1 g^2; w -= rate g / sqrt(h + 1e-6), coco/alignDraw.py:422; the first step is 3.16 rates long."""
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.double))
    optimizer = RMSprop([weight], 0.01, 0.9, 1e-6)
    expected, square = weight.detach().clone(), torch.zeros(2, dtype=torch.double)
    for gradient in (torch.tensor([3.0, 1e-4]), torch.tensor([-1.0, 2e-4]), torch.tensor([0.0, 0.0])):
        weight.grad = gradient.double()
        optimizer.step()
        square = 0.9 * square + 0.1 * gradient.double() ** 2
        expected -= 0.01 * gradient.double() / (square + 1e-6).sqrt()
        torch.testing.assert_close(weight.detach(), expected)
    assert optimizer.state[weight]["mean_square"].tolist() == pytest.approx(square.tolist())


def test_clipping():
    def gradients(how: str, scale: float) -> list[list[float]]:
        model = torch.nn.Linear(2, 1)
        model.weight.grad, model.bias.grad = scale * torch.tensor([[3.0, 4.0]]), scale * torch.tensor([12.0])
        clip_gradients(model, how, 10.0)
        return [model.weight.grad.flatten().tolist(), model.bias.grad.tolist()]

    assert gradients("per_tensor", 1.0) == [[3.0, 4.0], [pytest.approx(10.0)]]
    assert gradients("per_tensor", 4.0) == [pytest.approx([6.0, 8.0]), pytest.approx([10.0])]
    assert gradients("global", 1.0) == [pytest.approx([30 / 13, 40 / 13]), pytest.approx([120 / 13])]
    assert gradients("global", 0.5) == [[1.5, 2.0], [6.0]]


def test_schedules():
    assert [learning_rate(CONFIG, done) for done in (0, 1.99, 2, 2.5)] == [0.003, 0.003, 0.0003, 0.0003]
    assert learning_rate(replace(CONFIG, drop_after=0), 2.9) == 0.003
    cosine = replace(CONFIG, schedule="cosine")
    assert [learning_rate(cosine, done) for done in (0, 1.5, 3)] == pytest.approx([0.003, 0.00165, 0.0003])


def test_batches_of_captions():
    """Every caption once a pass, in batches of one length, none of them empty, in another order each pass."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 7, 110)
    captions = np.zeros((110, 6), np.int32)
    for row, length in enumerate(lengths):
        captions[row, :length] = row + 1
    pictures = np.arange(55, dtype=np.uint8).repeat(12).reshape(55, 1, 3, 4)
    data = CaptionedImages(pictures, captions, lengths, np.arange(110) // 2)

    def rows(batches: datasets.Batches) -> list[int]:
        seen = []
        for i in range(len(batches)):
            images, words, picture, _ = batches[i]
            assert 0 < len(words) == batches.sizes[i] <= 10
            assert (words > 0).all(), "padding within a batch of one length"
            found = words[:, 0].numpy() - 1
            assert (lengths[found] == words.shape[1]).all()
            assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), picture)
            assert picture.tolist() == (found // 2).tolist()
            seen += found.tolist()
        return seen

    first, again, other = (rows(data.shuffled(10, 0, 1, "pictures", n)) for n in (0, 0, 1))
    assert sorted(first) == sorted(other) == list(range(110))
    assert first == again != other
    assert sorted(rows(data.in_order(10, 30))) == list(range(30))
    assert len(rows(data.shuffled(10, 30, "part"))) == 30
    some = data.of_lengths(4, 5)
    kept = set(np.flatnonzero((lengths == 4) | (lengths == 5)))
    assert set(rows(some.shuffled(10, 0, "some"))) == kept
    assert rows(data.shuffled(10, 0, 1, "pictures", 0)) == first, "the whole is as it was"
    with pytest.raises(UserError, match="no caption has 20 to 30 words"):
        data.of_lengths(20, 30)
    with pytest.raises(UserError, match="captions have 12 words"):
        TRAIN.of_lengths(1, 11)


def test_buckets_of_neighbouring_lengths_are_padded_to_one_width():
    lengths = np.random.default_rng(0).integers(1, 8, 110)
    captions = (np.arange(7) < lengths[:, None]) * np.arange(1, 111)[:, None]
    data = CaptionedImages(np.zeros((110, 1, 2, 2), np.uint8), captions, lengths, np.arange(110))
    batches = data.shuffled(10, 0, "bucket", bucket=4)
    seen = []
    for i in range(len(batches)):
        _, words, picture, own = batches[i]
        assert words.shape[1] == (4 if own.max() <= 4 else 8), "1 to 4 words, or 5 to 8"
        assert torch.equal(own, torch.from_numpy(lengths)[picture])
        assert torch.equal(words, (torch.arange(words.shape[1]) < own[:, None]) * (picture[:, None] + 1))
        seen += picture.tolist()
    assert sorted(seen) == list(range(110))


def test_gradients_of_the_words_that_occur_alone_train_as_those_of_all_words():
    """So does a run that goes on with dense gradients where it had sparse ones."""
    def trained(*sparse: bool) -> dict[str, torch.Tensor]:
        model = AlignDRAW(SMALL, 200).double()
        model.reset(seeds.torch_generator(1, "weights"))
        optimizer = RMSprop(model.parameters(), 0.003, 0.9, 1e-6)
        generator = seeds.torch_generator(2)
        for model.caption_encoder.sparse in sparse:
            words = torch.randint(1, 200, (5, 6), generator=generator)
            noise = torch.randn(SMALL.glimpses, 5, SMALL.latent, generator=generator, dtype=torch.double)
            optimizer.zero_grad()
            model.bound(torch.full((5, 1, 18, 18), 0.3, dtype=torch.double), words, noise).cost.mean().backward()
            assert model.caption_encoder.forward_lstm.table.grad.is_sparse == model.caption_encoder.sparse
            clip_gradients(model, "global", 10.0)
            optimizer.step()
        return model.state_dict()

    dense = trained(*[False] * 12)
    for other in (trained(*[True] * 12), trained(*[True] * 6, *[False] * 6), trained(*[False] * 6, *[True] * 6)):
        for name, value in dense.items():
            torch.testing.assert_close(other[name], value, rtol=1e-9, atol=1e-12, msg=name)


def test_two_processes_train_as_one_and_go_on_after_a_break(tmp_path):
    config = replace(CONFIG, epoch_size=201)  # the last batch has one picture: the second process has none
    alone = run(WorkInProgress(tmp_path, "alone", "f" * 64), config)
    multiprocessing.start_processes(_one_of_two, (tmp_path, config, 8, free_port()), nprocs=2, start_method="spawn")
    assert not (tmp_path / "0.pt").exists(), "broken off"
    multiprocessing.start_processes(_one_of_two, (tmp_path, config, 0, free_port()), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert equal(first["model"], second["model"])
    assert first["going_on"]
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
    going_on = []

    def report(report: training.Report) -> None:
        going_on.append(report.going_on)
        if report.step == stop_at:
            raise SystemExit(0)

    model = make()
    with together("cpu") as these, WorkInProgress(folder, "two", "f" * 64, follow=these.rank > 0) as work:
        history, _ = training.train(model, TRAIN, DEV, config, 1, work, these, report, save_every=0)
        torch.save({"model": model.state_dict(), "going_on": all(going_on),
                    "history": [(*row[:3], tuple(row.train), tuple(row.dev)) for row in history]}, folder / f"{rank}.pt")


def test_standard_errors_are_over_pictures():
    """Two captions of a picture that score alike tell no more than one."""
    scores, doubled = bounds.Scores(), bounds.Scores()
    values = torch.tensor([1.0, 4.0, 2.0, 9.0])
    scores.add(torch.arange(4), bound=values)
    doubled.add(torch.arange(8) // 2, bound=values.repeat_interleave(2))
    assert scores.summary()["bound"] == doubled.summary()["bound"] == {"mean": 4.0, "se": pytest.approx(1.7795, abs=1e-4)}
    assert (doubled.summary()["captions"], doubled.summary()["images"]) == (8, 4)


def test_the_bounds_of_a_model():
    """L has its two parts; one importance weight gives L on average, and more of them a higher bound."""
    model = make()
    config = EvaluateConfig(captions=300, importance_captions=300, importance_samples=1, batch_size=50, seed=0, device="cpu")
    one = bounds.evaluate(model, DEV, MEAN, config, "dev")
    assert one["bound"]["mean"] == pytest.approx(-(one["reconstruction"]["mean"] + one["kl"]["mean"]), abs=1e-3)
    assert one["captions"] == one["images"] == 300
    pairs = [bounds.evaluate(model, DEV, MEAN, replace(config, seed=seed), "dev") for seed in range(1, 4)]
    error = pairs[0]["importance_weighted"]["bound"]["se"] * math.sqrt(2 / 3)
    means = [np.mean([p["bound"]["mean"] for p in pairs]), np.mean([p["importance_weighted"]["bound"]["mean"] for p in pairs])]
    assert means[0] == pytest.approx(means[1], abs=4 * error)
    many = bounds.evaluate(model, DEV, MEAN, replace(config, importance_samples=20), "dev")
    assert many["importance_weighted"]["bound"]["mean"] > one["importance_weighted"]["bound"]["mean"]
    assert bounds.evaluate(model, DEV, MEAN, config, "dev") == one


def test_the_mean_picture_is_scored_by_its_pixels():
    batches = DEV.in_order(30, 100)
    mean = bounds.mean_picture(batches)
    pictures = torch.cat([batches[i].images for i in range(4)]).double()
    torch.testing.assert_close(mean, ((pictures.sum(0) + 0.5) / 101).float())
    lit = (pictures * mean.double().log() + (1 - pictures) * (1 - mean.double()).log()).sum((1, 2, 3))
    numbers = bounds.variational(make(), batches, mean, 0)
    assert numbers["mean_picture"]["mean"] == pytest.approx(lit.mean().item(), abs=1e-3)


def test_bound_of_real_mnist_rises(mirror, tmp_path):
    """At the paper's configuration, on the real archive: twelve steps of a hundred 60x60 pictures."""
    from benchmarks.step import MNIST
    from text2image import archives

    bank = archives.read_mnist_archive(mirror / "mnist")
    canvas = Canvas(60, top=Span(0, 2), bottom=Span(30, 32), left=Span(0, 4), right=Span(28, 32), middle=Span(16, 18))
    data = CaptionedDigits(bank.images[:50_000], bank.labels[:50_000], Grammar.draw(1), canvas)
    model = AlignDRAW(MNIST, 23)
    model.reset(seeds.torch_generator(1, "weights"))
    config = replace(CONFIG, epochs=2, epoch_size=600, batch_size=100, learning_rate=0.0003, final_learning_rate=0.0003, dev_size=100)
    with WorkInProgress(tmp_path, "mnist", "f" * 64) as work:
        history, _ = training.train(model, data, data, config, 1, work, ALONE, lambda report: None)
    assert history[1].dev.bound > history[0].dev.bound
    assert history[1].train.bound > history[0].train.bound
