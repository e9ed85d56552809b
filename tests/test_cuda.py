"""The same code on a GPU, where there is one: a short training with a break, a bound, an image, at each precision."""

from dataclasses import replace

import pytest
import torch

from tests.small import ADAMW, CONFIG, DEV, MEAN, RMSPROP, SMALL, TRAIN
from text2image import devices, seeds
from text2image.data import datasets
from text2image.data.mnist_captions import VOCABULARY
from text2image.models.align_draw import AlignDRAW
from text2image.results import bounds, sampling
from text2image.training import elbo
from text2image.training.distributed import DistributedContext
from text2image.training.progress import StepReport
from text2image.training.resume import ResumableState

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")
GPU = torch.device("cuda")


def on_gpu(data: datasets.CaptionedDigits) -> datasets.CaptionedDigits:
    return datasets.CaptionedDigits(data.digits.numpy(), data.labels, data.grammar, data.layout, GPU)


def make(precision: devices.Precision = "float32") -> AlignDRAW:
    model = AlignDRAW(SMALL, len(VOCABULARY))
    model.reset(seeds.torch_generator(1, "weights"))
    model.precision = devices.product_type(precision)
    return model.to(GPU)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("optimizer", [RMSPROP, ADAMW], ids=["rmsprop", "adamw"])
def test_training_with_a_break_scoring_and_sampling(tmp_path, precision, optimizer):
    config = replace(CONFIG, device="cuda", precision=precision, optimizer=optimizer, epoch_size=2000, epochs=2)

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


def test_images_are_the_same_on_every_device():
    here, there = TRAIN.shuffled(50, 200, "pictures"), on_gpu(TRAIN).shuffled(50, 200, "pictures")
    for i in range(len(here)):
        torch.testing.assert_close(there[i].images.cpu(), here[i].images, rtol=1e-6, atol=0)  # each divides its own way
        assert torch.equal((there[i].images.cpu() * 255).round(), (here[i].images * 255).round())
        assert torch.equal(here[i].words, there[i].words.cpu())
