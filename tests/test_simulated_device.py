"""Everything that a GPU does, on a device that PyTorch takes for one (tests.simulated_device): what mixes devices fails here, and
what a step asks of a GPU is counted."""

from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch

from tests.models.configurations import COCO, MNIST
from tests.sharpening.test_training import ADAM, SGD
from tests.sharpening.test_training import CONFIG as SHARPENER
from tests.simulated_device import CPU, SimulatedTensor, counting, record, simulated  # noqa: F401 (a fixture)
from tests.small import ADAMW, ALONE, CONFIG, DEV, RMSPROP, SMALL, TRAIN
from text2image import seeds
from text2image.data.datasets import CaptionedDigits, CaptionedImages, Dataset
from text2image.data.mnist_captions import VOCABULARY, Layout, Span
from text2image.lookup import lookup, names
from text2image.models import checkpoints
from text2image.models.align_draw import AlignDRAW
from text2image.models.base import ImageModel
from text2image.models.checkpoints import Checkpoint
from text2image.results import bounds, sampling
from text2image.sharpening import training
from text2image.sharpening.generator import Sharpener, SharpenerConfig
from text2image.training import elbo, loop
from text2image.training.distributed import DistributedContext
from text2image.training.progress import StepReport
from text2image.training.resume import ResumableState
from text2image.training.step import CapturedStep

KINDS = names("models", "Model")
WORDS = 23
# Of a step, its batch and noise included: 5,624 and 5,613 with torch 2.13, after 6,374 and 6,367 when this test was written.
LAUNCHES = {"mnist": 5650, "coco": 5650}
LAUNCHES_BESIDE_A_GRAPH = 60  # of the batch, its noise, and the copies of them to where the graph reads
SCORES = bounds.Config(captions=20, iwae_captions=6, iwae_samples=3, batch_size=10, seed=0, device="auto")


def captioned(images: int, channels: int, side: int, longest: int, device: torch.device) -> CaptionedImages:
    """Images with two captions each, of 3 words and more."""
    rng = np.random.default_rng(images)
    lengths = rng.integers(3, longest + 1, 2 * images).astype(np.int32)
    captions = rng.integers(1, WORDS, (2 * images, longest)) * (np.arange(longest) < lengths[:, None])
    return CaptionedImages(rng.integers(0, 256, (images, channels, side, side), dtype=np.uint8), captions.astype(np.int32), lengths,
                           np.repeat(np.arange(images), 2).astype(np.int32), device)


def digits(data: CaptionedDigits, device: torch.device) -> CaptionedDigits:
    return CaptionedDigits(data.digits.numpy(), data.labels, data.grammar, data.layout, device)


DATASETS = {
    "digits": lambda device: (digits(TRAIN, device), digits(DEV, device)),
    "images": lambda device: (captioned(20, 3, 14, 5, device), captioned(6, 3, 14, 5, device))}


def small(kind: str, shape: tuple[int, int, int], device: torch.device) -> ImageModel:
    """A small model of any kind for images of `shape`: what its configuration shares with alignDRAW's as in tests.small."""
    module = lookup("models", kind, "Model", "a test")
    known = {field.name: getattr(SMALL, field.name) for field in fields(SMALL)} | {"glimpses": 2} | dict(zip(("channels", "height", "width"), shape,
                                                                                         strict=True))
    model = module.Model(built(module.Config, known), WORDS)
    model.reset(seeds.torch_generator(1, "weights"))
    return model.to(device)


def built(cls: type, known: dict[str, Any]) -> Any:
    """A configuration with what is known of it, and for all else some value."""
    types = get_type_hints(cls)
    return cls(**{field.name: known[field.name] if field.name in known else some(types[field.name], field) for field in fields(cls)})


def some(kind: Any, field: Any) -> Any:
    """A value of a parameter that alignDRAW has not; an odd number, since some must be odd."""
    if field.default is not MISSING:
        return field.default
    if get_origin(kind) is tuple:
        return (some(get_args(kind)[0], field),) * 2
    if get_args(kind):  # of a Literal the first word, of blocks with a kind the first
        return some(get_args(kind)[0], field) if isinstance(get_args(kind)[0], type) else get_args(kind)[0]
    if is_dataclass(kind):
        return built(kind, {})
    return kind(min(max(7, field.metadata["ge"]), field.metadata["le"])) if kind in (int, float) else kind()


@pytest.fixture
def device(simulated) -> torch.device:  # noqa: F811
    return simulated


def config(name: str, **changes: Any):
    """Small training: ragged last batches, widths that occur once, and padding where there are images."""
    return replace(CONFIG, epochs=2, epoch_size=26, batch_size=10, dev_size=10, device="auto", **changes)


def test_it_refuses_what_cuda_refuses(device):
    here, there = torch.ones(3), torch.ones(3).to(device)
    assert isinstance(there, SimulatedTensor)
    assert there.device.type == "simulated"
    for mixed in (lambda: here + there, lambda: torch.cat([there, here]), lambda: there @ here, lambda: there.add_(here),
                  lambda: torch.stack([there[0], here[0]]), lambda: torch._foreach_mul_([there], [here])):
        with pytest.raises(RuntimeError, match="on the same device"):
            mixed()
    assert (there * torch.tensor(2.0)).tolist() == [2.0, 2.0, 2.0], "a single number of the host may be anywhere"


def test_it_counts_launches_waits_and_copies(device):
    def counted(work) -> tuple[int, int, int]:
        with counting() as found:
            work()
        return tuple(found[0])

    here, there = torch.arange(4.0), torch.arange(4.0).to(device)
    index, mask, one = torch.tensor([1, 2]), there > 1, torch.ones(()).to(device)
    for work, expected in ((lambda: there + there, (1, 0, 0)), (lambda: there.view(2, 2).mT[0], (0, 0, 0)),
                           (lambda: there.sum().item(), (1, 1, 0)), (lambda: bool(there[0]), (0, 1, 0)), (lambda: there.tolist(), (0, 1, 0)),
                           (lambda: there.cpu(), (0, 1, 0)), (lambda: there[mask], (1, 1, 0)), (lambda: there[index], (1, 0, 1)),
                           (lambda: here.to(device), (0, 0, 1)), (lambda: there.copy_(here), (0, 0, 1)),
                           (lambda: here.to(device, non_blocking=True), (0, 0, 1)),
                           (lambda: here.pin_memory().to(device, non_blocking=True), (0, 0, 0)),
                           (lambda: torch.zeros(3, device=device), (1, 0, 0)), (lambda: torch.empty(3, device=device), (0, 0, 0)),
                           (lambda: torch._foreach_mul_([there, there], 2.0), (1, 0, 0)),
                           (lambda: torch._foreach_mul_([there, there], [one, one]), (2, 0, 0))):
        assert counted(work) == expected


@pytest.mark.parametrize(("name", "optimizer", "bucket"), [("digits", RMSPROP, 1), ("images", ADAMW, 2)], ids=DATASETS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_trains_with_a_break_is_scored_and_draws(tmp_path, monkeypatch, device, kind, name, optimizer, bucket):
    """The numbers are those of the CPU, but for what is summed in another order."""
    monkeypatch.setattr(loop, "STEPS_BETWEEN_READS", 1)
    data, dev = DATASETS[name](device)
    context = DistributedContext(0, 1, device)
    padded = small(kind, data.shape, device).supports_padding
    wanted = config(name, optimizer=optimizer, bucket=bucket if padded else 1)

    def run(where: str, stop_at: int = 0):
        def report(report: StepReport) -> None:
            if report.step == stop_at and report.row is None:
                raise KeyboardInterrupt

        model = small(kind, data.shape, device)
        with ResumableState(tmp_path, where, "f" * 64) as state:
            return model, *elbo.train(model, data, dev, wanted, 1, state, context, report, 0 if stop_at else None)

    whole, history, _ = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("broken", history[0].step + 2)
    resumed, again, best = run("broken")
    assert repr(history) == repr(again)
    for key, value in whole.state_dict().items():
        assert torch.equal(value.cpu(), resumed.state_dict()[key].cpu()), key
        assert best[key].device.type == device.type
    with ResumableState(tmp_path, "here", "f" * 64) as state:
        here, _ = elbo.train(small(kind, data.shape, CPU), *DATASETS[name](CPU), wanted, 1, state, ALONE, lambda report: None)
    assert history[-1].dev.elbo == pytest.approx(here[-1].dev.elbo, rel=1e-4)
    mean = bounds.mean_image(data.sequential(10, 20))
    assert bounds.of_split(whole, dev, mean, SCORES, "dev")["elbo"]["mean"] == pytest.approx(history[-1].dev.elbo, rel=0.5)
    drawn = sampling.draw(whole, [[1, 2, 3], [4, 5, 6, 7]], 2, 0, device)
    assert drawn.images.shape == (2, 2, *data.shape)
    assert 0 <= drawn.images.min() <= drawn.images.max() <= 1


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_neither_waits_nor_copies(device, kind, name):
    """The fetching of its batch and noise included."""
    data, dev = DATASETS[name](device)
    trainer = elbo.ELBOTrainer(small(kind, data.shape, device), data, dev, config(name), 1, DistributedContext(0, 1, device))
    batches = trainer.batches(0)
    trainer.step(batches, 0, 0)
    for i in (1, 2):
        with counting() as found:
            trainer.step(batches, 0, i)
        assert found[0].launches > 0
        assert (found[0].waits, found[0].copies) == (0, 0)


@pytest.mark.parametrize("configuration", LAUNCHES)
def test_what_a_step_of_the_paper_asks_of_a_gpu(device, configuration):
    """The number of launches depends on the glimpses and the words, not on the batch or the sizes of layers."""
    if configuration == "mnist":
        canvas = Layout(60, top=Span(0, 2), bottom=Span(30, 32), left=Span(0, 4), right=Span(28, 32), middle=Span(16, 18))
        bank = np.zeros((40, 28, 28), np.uint8)
        data: Dataset = CaptionedDigits(bank, np.arange(40) % 10, TRAIN.grammar, canvas, device)
    else:
        data = captioned(60, 3, 32, 12, device).filter_by_length(12, 12)
    few = {"language_units": 4, "align_units": 4, "infer_units": 4, "generate_units": 4, "latent": 4}  # units start no kernels
    model = AlignDRAW(replace(MNIST if configuration == "mnist" else COCO, **few), WORDS).to(device)
    wanted = replace(CONFIG, epochs=1, epoch_size=0, batch_size=1, clip="per_tensor", device="auto")
    trainer = elbo.ELBOTrainer(model, data, data, wanted, 1, DistributedContext(0, 1, device))
    batches = trainer.batches(0)
    trainer.step(batches, 0, 0)
    with counting() as found:
        trainer.step(batches, 0, 1)
    trainer.train_step = CapturedStep(model, wanted, trainer.context, record)
    for i in range(2, 6):
        with counting() as captured:
            trainer.step(batches, 0, i)
    for what, counts, most in (("eager", found[0], LAUNCHES[configuration]), ("captured", captured[0], LAUNCHES_BESIDE_A_GRAPH)):
        print(f"{configuration}, a step {what}: {counts.launches:,} launches, {counts.waits} waits, {counts.copies} copies")
        assert (counts.waits, counts.copies) == (0, 0)
        assert counts.launches <= most


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_a_sharpener_trains_and_its_step_neither_waits_nor_copies(tmp_path, device, optimizer):
    data, dev = DATASETS["images"](device)
    encoder = small("align_draw", data.shape, device).caption_encoder
    sizes = SharpenerConfig(*data.shape, encoder.features, SHARPENER.filters, SHARPENER.kernels, SHARPENER.factor, "a test")
    wanted = replace(SHARPENER, optimizer=optimizer, device="auto")

    def sharpener() -> Sharpener:
        return seeds.network(lambda: Sharpener(sizes), 1, "sharpener", "weights")

    def stop(report: StepReport) -> None:
        raise KeyboardInterrupt

    with ResumableState(tmp_path, "whole", "f" * 64) as state:
        history = training.train(sharpener(), encoder, data, dev, wanted, 1, state, lambda report: None)
    with pytest.raises(KeyboardInterrupt), ResumableState(tmp_path, "broken", "f" * 64) as state:
        training.train(sharpener(), encoder, data, dev, wanted, 1, state, stop, save_every=0)
    with ResumableState(tmp_path, "broken", "f" * 64) as state:
        assert training.train(sharpener(), encoder, data, dev, wanted, 1, state, lambda report: None) == history
    trainer = training.GANTrainer(sharpener(), encoder, data, dev, wanted, 1)
    batches = trainer.batches(0)
    trainer.step(batches, 0, 0)
    with counting() as found:
        trainer.step(batches, 0, 1)
    assert (found[0].waits, found[0].copies) == (0, 0)


def test_a_checkpoint_of_a_model_on_the_device_loads_on_the_cpu(tmp_path, device):
    model = small("align_draw", (1, 18, 18), device)
    checkpoints.save(tmp_path / "model.safetensors", Checkpoint(model, VOCABULARY, None))
    again = checkpoints.load(tmp_path / "model.safetensors").model
    for name, value in model.state_dict().items():
        assert torch.equal(value.cpu(), again.state_dict()[name])
