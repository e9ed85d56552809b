"""The same code on a GPU, where there is one: a short training with a break, a bound, an image, at each precision; steps captured
as CUDA graphs against eager ones, none of which waits.

Fused operations are tests/models/test_fusing.py's, in a process without the checks of shapes: no compiler reads those."""

from dataclasses import replace

import pytest
import torch

from tests import small
from tests.small import ADAMW, DEV, MEAN, RMSPROP, SMALL, TRAIN
from text2image import devices, seeds
from text2image.data import datasets
from text2image.data.mnist_captions import VOCABULARY
from text2image.models.align_draw import AlignDRAW
from text2image.results import bounds, sampling
from text2image.training import elbo
from text2image.training.distributed import DistributedContext
from text2image.training.progress import StepReport
from text2image.training.resume import ResumableState
from text2image.training.step import CapturedStep, EagerStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")
GPU = torch.device("cuda")
CONFIG = replace(small.CONFIG, device="cuda", compile="off")


def on_gpu(data: datasets.CaptionedDigits) -> datasets.CaptionedDigits:
    return datasets.CaptionedDigits(data.digits.numpy(), data.labels, data.grammar, data.layout, GPU)


def make(precision: devices.Precision = "float32") -> AlignDRAW:
    model = AlignDRAW(SMALL, len(VOCABULARY))
    model.reset(seeds.torch_generator(1, "weights"))
    model.precision = devices.product_type(precision)
    return model.to(GPU)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("optimizer", [RMSPROP, ADAMW], ids=["rmsprop", "adamw"])
@pytest.mark.parametrize("capture", ["auto", "off"])
def test_training_with_a_break_scoring_and_sampling(tmp_path, precision, optimizer, capture):
    config = replace(CONFIG, precision=precision, optimizer=optimizer, epoch_size=2000, epochs=2, capture=capture)

    def stop(report: StepReport) -> None:
        if report.step == 80:  # of 80; a GPU's steps are reported, and saved after it, every 20th: it is resumed at step 60
            raise KeyboardInterrupt

    def run(report) -> tuple[AlignDRAW, list]:
        model = make(precision)
        with ResumableState(tmp_path, "run", "f" * 64) as state:
            return model, elbo.train(model, on_gpu(TRAIN), on_gpu(DEV), config, 1, state, DistributedContext(0, 1, GPU), report,
                                     save_every=0)[0]

    with pytest.raises(KeyboardInterrupt):
        run(stop)
    model, history = run(lambda report: None)
    assert history[-1].train.elbo > history[0].train.elbo
    scores = bounds.Config(captions=100, iwae_captions=20, iwae_samples=3, batch_size=50, seed=0, device="cuda")
    assert bounds.of_split(model, on_gpu(DEV), MEAN.to(GPU), scores, "dev")["elbo"]["mean"] == pytest.approx(history[-1].dev.elbo, rel=0.2)
    drawn = sampling.draw(model, [VOCABULARY.encode("the digit 1 .")], 2, 0, GPU)
    assert drawn.images.shape == (1, 2, 1, 18, 18)


def test_the_bound_on_a_gpu_is_that_on_a_cpu():
    model = make()
    images, words, *_ = TRAIN.sequential(50, 50)[0]
    noise = torch.randn(SMALL.glimpses, 50, SMALL.latent, generator=torch.Generator().manual_seed(1))
    there = model.elbo(images.to(GPU), words.to(GPU), noise.to(GPU)).negative_elbo.mean().item()
    here = model.cpu().elbo(images, words, noise).negative_elbo.mean().item()
    assert there == pytest.approx(here, rel=1e-5)


def test_bounds_on_a_gpu_are_those_on_a_cpu():
    """Their noise comes from the CPU: no number differs by more than rounding."""
    scores = bounds.Config(captions=100, iwae_captions=50, iwae_samples=5, batch_size=50, seed=0, device="cuda")
    model = make()
    there = bounds.of_split(model, on_gpu(DEV), MEAN.to(GPU), scores, "dev")
    here = bounds.of_split(model.cpu(), DEV, MEAN, scores, "dev")
    for name in ("elbo", "kl"):
        assert there[name]["mean"] == pytest.approx(here[name]["mean"], rel=1e-4)
    assert there["iwae"]["bound"]["mean"] == pytest.approx(here["iwae"]["bound"]["mean"], rel=1e-4)
    assert there["other_captions"]["difference"]["mean"] == pytest.approx(here["other_captions"]["difference"]["mean"], rel=1e-2)


def test_images_are_the_same_on_every_device():
    here, there = TRAIN.shuffled(50, 200, "pictures"), on_gpu(TRAIN).shuffled(50, 200, "pictures")
    for i in range(len(here)):
        torch.testing.assert_close(there[i].images.cpu(), here[i].images, rtol=1e-6, atol=0)  # each divides its own way
        assert torch.equal((there[i].images.cpu() * 255).round(), (here[i].images * 255).round())
        assert torch.equal(here[i].words, there[i].words.cpu())


def trained(config, data: datasets.Dataset) -> tuple[elbo.ELBOTrainer, list[torch.Tensor]]:
    """A trainer after an epoch, and the sums of its steps."""
    trainer = elbo.ELBOTrainer(make(config.precision), data, data, config, 1, DistributedContext(0, 1, GPU))
    batches = trainer.batches(0)
    return trainer, [trainer.step(batches, 0, i) for i in range(len(batches))]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", [RMSPROP, ADAMW], ids=["rmsprop", "adamw"])
@pytest.mark.parametrize(("clip", "checkpoint_every"), [("global", 0), ("per_tensor", 2)])
def test_captured_steps_are_eager_ones_up_to_rounding(optimizer, precision, clip, checkpoint_every):
    """Where capture fails there is a warning, which is an error here."""
    config = replace(CONFIG, precision=precision, optimizer=optimizer, epoch_size=1020, clip=clip, checkpoint_every=checkpoint_every)
    captured, sums = trained(config, on_gpu(TRAIN))
    assert isinstance(captured.train_step, CapturedStep)
    assert len(captured.train_step.replays) == 1
    eager, expected = trained(replace(config, capture="off"), on_gpu(TRAIN))
    assert type(eager.train_step) is EagerStep
    tolerance = 1e-3 if precision == "float32" else 2e-2
    torch.testing.assert_close(torch.stack(sums), torch.stack(expected), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("capture", ["auto", "off"])
def test_no_step_waits_for_the_gpu(capture):
    trainer, _ = trained(replace(CONFIG, capture=capture), on_gpu(TRAIN))  # nothing is done for the first time below
    batches = trainer.batches(1)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for i in range(len(batches)):
            trainer.step(batches, 1, i)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_memory_of_graphs_is_that_of_the_largest():
    """Widths share a pool: four of them take little more than one."""
    def taken(widths: int) -> int:
        trainer, _ = trained(replace(CONFIG, epoch_size=500), on_gpu(TRAIN))
        batch, noise = trainer.batches(0)[0], torch.randn(trainer.model.noise_shape(50), device=GPU)
        for width in range(12, 12 + widths):
            for _ in range(4):
                words = torch.nn.functional.pad(batch.words, (0, width - 12), value=1)
                trainer.train_step(batch._replace(words=words), noise, 0.001)
        assert len(trainer.train_step.replays) == widths
        del trainer
        torch.cuda.empty_cache()
        return torch.cuda.max_memory_reserved()

    torch.cuda.reset_peak_memory_stats()
    assert taken(4) < 2 * taken(1)

