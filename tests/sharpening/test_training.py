"""Sharpening: the authors' network as their code applies it, networks of our own, and files that are not what they should be."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.signal import convolve2d

from tests.sharpening import released_files as released
from text2image import seeds
from text2image.data.datasets import CaptionedImages
from text2image.errors import UserError
from text2image.files import safetensors_file
from text2image.models.align_draw import AlignDRAW, AlignDRAWConfig
from text2image.models.caption_encoder import CaptionEncoder
from text2image.sharpening import generator, h_lang, training
from text2image.sharpening.generator import SharpenerConfig
from text2image.sharpening.training import AdamConfig, SGDConfig, TrainSharpenerConfig
from text2image.sources import sharpening
from text2image.training.progress import StepReport
from text2image.training.resume import ResumableState

SGD = SGDConfig("sgd", lr_decay=1.01, momentum_growth=0.1, max_momentum=0.7)
ADAM = AdamConfig("adam", beta1=0.5, beta2=0.99)
CONFIG = TrainSharpenerConfig(factor=2, blend=0.5, filters=6, kernels=(5, 3), discriminator_filters=5, dropout=0.5, mse_weight=10.0,
                              epochs=2, epoch_size=20, batch_size=6, optimizer=ADAM, learning_rate=0.003,
                              discriminator_lr_scale=0.5, dev_size=6, device="cpu")


@pytest.fixture(autouse=True)
def _threads():
    """Pictures so small are sharpened by one thread sooner than by two."""
    torch.set_num_threads(1)


def by_theano(arrays: dict[str, np.ndarray], picture: np.ndarray, skip_thought: np.ndarray) -> np.ndarray:
    """sharpen.py and sample-captions.py, step by step in float64: filters turned when they are loaded, then truly convolved."""
    a = {name: array.astype(np.float64) for name, array in arrays.items()}
    side = picture.shape[-1]
    heard = np.maximum(skip_thought @ a["skipthought2image"] + a["skipthought2image-bias"], 0).reshape(1, side, side)
    x = np.concatenate([np.zeros((1, side, side)), heard, picture])
    for layer in range(3):
        filters = a[f"W_conv{layer}"][:, :, ::-1, ::-1]
        pad = filters.shape[-1] // 2
        padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        x = np.stack([sum(convolve2d(plane, f, "valid") for plane, f in zip(padded, of_one, strict=True)) + bias
                      for of_one, bias in zip(filters, a[f"b_conv{layer}"], strict=True)])
        if layer < 2:
            x = np.maximum(x, 0)
    return (picture + x).clip(0, 1)


def test_the_authors_network_computes_what_their_code_computes(tmp_path):
    rng = np.random.default_rng(3)
    arrays = {name: array * 0.5 for name, array in released.gan(rng, side=9).items()}
    released.write_gan(tmp_path / sharpening.GAN, arrays)
    network = released.read_gan(tmp_path / sharpening.GAN)
    pictures = rng.random((3, 3, 9, 9)).astype(np.float32)
    heard = rng.normal(size=(3, released.LANGUAGE)).astype(np.float32)
    ours = network.sharpen(torch.from_numpy(pictures), torch.from_numpy(heard)).numpy()
    theirs = np.stack([by_theano(arrays, *both) for both in zip(pictures, heard, strict=True)])
    assert np.allclose(ours, theirs, atol=1e-5)
    assert np.mean((theirs > 0) & (theirs < 1)) > 0.1, "not all of it is clipped"
    assert not np.allclose(ours, pictures, atol=0.05)
    turned = {name: array[..., ::-1, ::-1] if name.startswith("W_conv") else array for name, array in arrays.items()}
    assert not np.allclose(ours, np.stack([by_theano(turned, *both) for both in zip(pictures, heard, strict=True)]), atol=0.05)


def test_the_authors_network_at_its_size(tmp_path):
    released.write_gan(tmp_path / sharpening.GAN, released.gan(np.random.default_rng(0), 32, 4800, 128))
    network = released.read_gan(tmp_path / sharpening.GAN)
    assert network.config == SharpenerConfig(3, 32, 32, 4800, 128, (7, 7, 5), 2, "skip-thoughts")
    assert sum(weights.numel() for weights in network.parameters()) == 4801 * 1024 + 128 * (5 * 49 + 1) + 128 * (128 * 49 + 1) + 3 * (128 * 25 + 1)
    for shape in ((1, 32, 32), (3, 24, 24), (3, 32, 31)):
        with pytest.raises(UserError, match=r"gan sharpens images of \(C, H, W\) = \(3, 32, 32\), these are"):
            network.check(shape, "gan")


@pytest.mark.parametrize("shape", [(3, 24, 24), (1, 18, 18), (3, 7, 11), (1, 1, 2)])
def test_what_is_made_coarse_and_what_it_lacks(shape):
    pictures = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    for factor in (2, 3):
        coarse = generator.make_coarse(pictures, factor)
        assert coarse.shape == pictures.shape
        assert (coarse.min() >= 0) & (coarse.max() <= 1)
        plain = torch.full_like(pictures, 0.3)
        assert torch.allclose(generator.make_coarse(plain, factor), plain)
        assert torch.allclose(generator.energy(pictures, factor), ((pictures - coarse) ** 2).sum((1, 2, 3)))
    assert (generator.energy(pictures, 2) > 2 * generator.energy(generator.make_coarse(pictures, 2), 2)).all()


def test_a_pixel_of_the_smaller_picture_is_a_mean():
    picture = torch.zeros(1, 1, 4, 4)
    picture[0, 0, 0, 0] = 1
    coarse = generator.make_coarse(picture, 2)[0, 0]
    assert torch.allclose(coarse[:2, :2], torch.tensor([[1.0, 0.75], [0.75, 0.5625]]) / 4)


def encoder(channels: int, height: int, width: int, preset: str = "paper") -> CaptionEncoder:
    sizes = AlignDRAWConfig(channels=channels, height=height, width=width, glimpses=1, language_units=3, align_units=2, infer_units=2,
                            generate_units=2, latent=2, read_window=2, write_window=2, init_std=0.5, canvas_init=0.0, preset=preset)
    model = AlignDRAW(sizes, 9)
    model.reset(seeds.torch_generator(1, "weights"))
    return model.caption_encoder


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_the_vector_of_a_caption_hangs_on_itself_alone(preset):
    hears = encoder(1, 4, 4, preset)
    words = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 1]])
    vectors = h_lang.caption_vectors(hears, words)
    assert vectors.shape == (3, 6)
    for one, vector in zip(words, vectors, strict=True):
        assert torch.allclose(h_lang.caption_vectors(hears, one[None])[0], vector, atol=1e-6)
    assert torch.allclose(vectors[0], hears(words[:1]).mean(1)[0], atol=1e-6)


def data(shape: tuple[int, int, int], count: int) -> CaptionedImages:
    """Pictures of one filled rectangle each, two captions a picture, of two lengths."""
    rng = np.random.default_rng(count)
    images = np.zeros((count, *shape), np.uint8)
    for image in images:
        y, x = rng.integers(0, shape[1] - 2), rng.integers(0, shape[2] - 2)
        image[:, y:y + 3, x:x + 3] = rng.integers(150, 256, (shape[0], 1, 1))
    ids = rng.integers(1, 9, (2 * count, 4)).astype(np.int32)
    ids[::2, 3] = 0
    return CaptionedImages(images, ids, np.where(np.arange(2 * count) % 2, 4, 3), np.arange(2 * count) // 2)


def make(shape: tuple[int, int, int], config: TrainSharpenerConfig) -> tuple[generator.Sharpener, CaptionEncoder]:
    hears = encoder(*shape)
    sizes = SharpenerConfig(*shape, 6, config.filters, config.kernels, config.factor, h_lang.digest(hears))
    return seeds.network(lambda: generator.Sharpener(sizes), 1, "sharpener", "weights"), hears


def run(state: ResumableState, config: TrainSharpenerConfig = CONFIG, shape: tuple[int, int, int] = (3, 7, 9), stop_at: int = 0,
        save_every: float = 30.0):
    """Train to the end, or as far as step `stop_at`, where the power goes."""
    def report(report: StepReport) -> None:
        if report.step == stop_at and report.row is None:
            raise KeyboardInterrupt

    network, hears = make(shape, config)
    with state:
        history = training.train(network, hears, data(shape, 15), data(shape, 6), config, 1, state, report, save_every)
    return network, history


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("stop_at", [2, 4, 5])
def test_training_that_was_broken_off_ends_bit_for_bit_like_training_that_was_not(tmp_path, optimizer, stop_at):
    config = replace(CONFIG, optimizer=optimizer)
    whole, history = run(ResumableState(tmp_path, "whole", "f" * 64), config)
    assert history[-1].step == training.total_steps(data((3, 7, 9), 15), config) > stop_at
    with pytest.raises(KeyboardInterrupt):
        run(ResumableState(tmp_path, "broken", "f" * 64), config, stop_at=stop_at, save_every=0)
    broken, again = run(ResumableState(tmp_path, "broken", "f" * 64), config)
    assert all(torch.equal(value, broken.state_dict()[name]) for name, value in whole.state_dict().items())
    assert history == again


@pytest.mark.parametrize("shape", [(3, 7, 9), (1, 8, 8), (1, 5, 6)])
def test_training_makes_coarse_pictures_more_like_the_real_ones(tmp_path, shape):
    config = replace(CONFIG, epochs=8, epoch_size=0, blend=0.0, mse_weight=100.0, filters=12, learning_rate=0.01)
    network, history = run(ResumableState(tmp_path, "run", "f" * 64), config, shape)
    assert history[-1].sharpened_error < 0.8 * history[-1].coarse_error
    assert history[-1].sharpened_energy > 1.3 * history[-1].coarse_energy
    assert history[-1].coarse_error == pytest.approx(history[-1].real_energy)
    table = training.columns(history)
    assert [row["epoch"] for row in table] == list(range(1, 9))
    pictures, heard = torch.rand(2, *shape), torch.rand(2, 6)
    assert torch.equal(network.sharpen(pictures, heard), network.sharpen(pictures, heard)), "no noise is drawn"
    noise = torch.ones(2, 1, *shape[1:])
    assert not torch.equal(network(pictures, heard, noise), network(pictures, heard, 0 * noise)), "though there is a plane for it"
    assert not torch.equal(network.sharpen(pictures, heard), network.sharpen(pictures, heard + 1)), "the caption is heard"


def test_a_step_moves_each_network_the_way_it_wants(monkeypatch):
    """On one batch again and again, the adversarial cost alone: each network, while the other stands still, gets its way."""
    config = replace(CONFIG, mse_weight=0.0, dropout=0.0, blend=0.0, learning_rate=0.002, discriminator_lr_scale=1.0)
    batch = data((3, 7, 9), 15).sequential(12, 0)[0]
    for moves, better in (("discriminator", lambda first, last: last[0] < first[0] - 0.05 and last[2] > last[3] + 0.05),
                          ("sharpener", lambda first, last: last[1] < first[1] - 0.02)):
        trainer = training.GANTrainer(*make((3, 7, 9), config), data((3, 7, 9), 15), data((3, 7, 9), 6), config, 1)
        update = trainer._update
        monkeypatch.setattr(trainer, "_update", lambda name, *rest, moves=moves, update=update: update(name, *rest) if name == moves else None)
        costs = [trainer.update_both(batch, 0, 0.0, 0, 0).tolist() for _ in range(60)]
        assert better(costs[0], costs[-1]), moves


def test_the_rate_and_momentum_of_sgd_and_of_adam():
    assert SGD.group(0.02, 0, 0.0) == {"lr": 0.02, "momentum": 0.0}
    assert SGD.group(0.02, 3, 0.5) == {"lr": pytest.approx(0.02 / 1.01**3), "momentum": pytest.approx(0.3)}
    assert SGD.group(0.02, 50, 0.9)["momentum"] == 0.7
    assert [round(ADAM.group(0.02, 0, share)["lr"], 6) for share in (0, 0.5, 1)] == [0.02, 0.01, 0]


def test_a_cost_that_is_no_number_stops_training_with_advice(tmp_path):
    state = ResumableState(tmp_path, "run", "f" * 64)
    with pytest.raises(UserError, match=r"training the sharpener gives .* at epoch 1, step .*: lower train_sharpener\.learning_rate"):
        run(state, replace(CONFIG, optimizer=SGD, learning_rate=1e30))
    assert not state.path.exists(), "nothing that is no number is kept"


def test_a_sharpener_is_saved_and_loaded(tmp_path):
    network, _ = make((3, 7, 9), CONFIG)
    generator.save(tmp_path / generator.FILE, network)
    again = generator.load(tmp_path)
    assert again.config == network.config
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(("change", "words"), [
    (lambda b: b[:len(b) // 3], "not a readable sharpener"), (lambda b: b"", "not a readable sharpener"),
    (lambda b: b.replace(b"text2image sharpener", b"text2image something"), "its metadata has no entry"),
    (lambda b: b.replace(b'\\"version\\": 2', b'\\"version\\": 9'), "of version 9, newer than this code reads"),
    (lambda b: b.replace(b'\\"filters\\": 6', b'\\"filters\\": 5'), "weights and configuration differ at 'layers.0.bias'"),
    (lambda b: b.replace(b'\\"filters\\": 6', b'\\"filters\\": 0'), "config.filters' is 0"),
    (lambda b: b.replace(b'\\"kernels\\": [5, 3]', b'\\"kernels\\": [4, 3]'), "kernels must be odd"),
    (lambda b: b.replace(b'\\"config\\"', b'\\"konfig\\"'), "its metadata is damaged"),
    (lambda b: b[:-1] + bytes([b[-1] ^ 1]), "their digest differs")])
def test_a_sharpener_that_is_damaged(tmp_path, change, words):
    path = tmp_path / generator.FILE
    generator.save(path, make((3, 7, 9), CONFIG)[0])
    content = path.read_bytes()
    assert change(content) != content
    path.write_bytes(change(content))
    with pytest.raises(UserError) as error:
        generator.load(tmp_path)
    assert words in str(error.value)
    with pytest.raises(UserError, match="no such sharpener"):
        generator.load(tmp_path / "nowhere")


def test_a_sharpener_of_version_1_loads(tmp_path):
    """It had no digest, and called what conditions it `hears`."""
    sharpener, _ = make((3, 7, 9), CONFIG)
    config = asdict(sharpener.config)
    config["hears"] = config.pop("conditioning")
    save_file(sharpener.state_dict(), tmp_path / generator.FILE, {"text2image sharpener": json.dumps({"version": 1, "config": config})})
    assert generator.load(tmp_path).config == sharpener.config


def test_a_digest_tells_encoders_apart():
    assert h_lang.digest(encoder(1, 4, 4)) == h_lang.digest(encoder(3, 7, 9))
    other = encoder(1, 4, 4)
    with torch.no_grad():
        other.h0 += 1
    assert h_lang.digest(other) != h_lang.digest(encoder(1, 4, 4))


@pytest.mark.parametrize("size", [10**6, 2**31, 2**62, 2**63, 10**30, 10**400, 1e300, [1] * 100_000])
@pytest.mark.parametrize("name", ["channels", "height", "width", "language", "filters", "kernels"])
def test_no_metadata_asks_for_more_than_the_file_holds(tmp_path, monkeypatch, name, size):
    """Sizes are compared before a tensor is made, or a layer for each of a million kernels."""
    path = tmp_path / generator.FILE
    network = make((3, 7, 9), CONFIG)[0]
    asked = [size] if name == "kernels" and not isinstance(size, list) else size
    config = asdict(network.config) | {name: asked}
    safetensors_file.write(path, network.state_dict(), {"config": config}, generator.FORMAT)
    monkeypatch.setattr(safetensors_file.DescribedFile, "tensors", lambda file: pytest.fail("read"))
    with pytest.raises(UserError) as error:
        generator.load(tmp_path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("brackets", ["[]", "{}"])
@pytest.mark.parametrize("name", ["config", "version", "digest"])
def test_metadata_of_200_000_brackets(tmp_path, name, brackets):
    path = tmp_path / generator.FILE
    network = make((3, 7, 9), CONFIG)[0]
    one, other = brackets if brackets == "[]" else ('{"a":', "}")
    for depth in (900, 200_000):
        text = json.dumps({"config": asdict(network.config), "version": 2} | {name: "DEEP"}).replace('"DEEP"', one * depth + "1" + other * depth)
        save_file(network.state_dict(), path, {generator.FORMAT.key: text})
        with pytest.raises(UserError) as error:
            generator.load(tmp_path)
        assert str(path) in str(error.value)
        assert len(str(error.value)) < 1000
