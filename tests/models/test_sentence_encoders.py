"""Sentence encoders: what they compute, that they are not trained, and files that are none."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.models import sentences
from tests.models.sentences import (
    CAPTION_ENCODER,
    CONV,
    ENCODERS,
    FC,
    SENTENCE,
    SKIP_THOUGHTS,
    WORD_PIECES,
    make_encoder,
    values,
)
from text2image.config import from_mapping
from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError
from text2image.models import checkpoints, sentence_encoders
from text2image.models.base import count_parameters
from text2image.models.checkpoints import Checkpoint
from text2image.models.sentence_encoders import FILE, FORMAT
from text2image.training.optimizers import AdamWConfig, RMSpropConfig, clip_gradients

WORDS = Vocabulary(["<pad>", *(f"word{n}" for n in range(1, 43))])
ALL = (*(replace(SENTENCE, encoder=encoder) for encoder in ENCODERS), FC, CONV)
CAPTIONS = torch.tensor([[5, 3, 41, 7, 7], [1, 2, 0, 0, 0], [42, 0, 0, 0, 0]])
LENGTHS = torch.tensor([5, 2, 1])


def test_the_mean_of_states_is_that_over_each_captions_own_words():
    encoder = make_encoder(CAPTION_ENCODER)
    alone = torch.cat([encoder.caption_encoder(words[None, :n]).mean(1) for words, n in zip(CAPTIONS, LENGTHS.tolist(), strict=True)])
    assert alone.shape == (3, encoder.features)
    torch.testing.assert_close(encoder(CAPTIONS, LENGTHS), alone, rtol=1e-12, atol=0)


def test_skip_thoughts_have_two_halves_of_length_1():
    encoder = make_encoder(SKIP_THOUGHTS)
    vectors = encoder(CAPTIONS, LENGTHS)
    assert vectors.shape == (3, 59 + 2 * 61) == (3, encoder.features)
    for half in vectors.split([59, 122], 1):
        torch.testing.assert_close(half.norm(dim=1), torch.ones(3, dtype=torch.double))
    for row, n in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(encoder(CAPTIONS[row:row + 1, :n])[0], vectors[row], rtol=1e-12, atol=1e-15)


def test_word_pieces_are_a_mean_over_pieces_not_over_words():
    encoder = make_encoder(WORD_PIECES)
    with torch.no_grad():
        encoder.pieces[5], encoder.pieces[3] = 3.0, 1.0
    expected = (encoder.table[5] + encoder.table[3]) / 4
    torch.testing.assert_close(encoder(torch.tensor([[5, 3, 9]]), torch.tensor([2]))[0], expected)


@pytest.mark.parametrize("optimizer", [AdamWConfig("adamw", 0.9, 0.99, 1e-8, 0.1), RMSpropConfig("rmsprop", 0.9, 1e-6)], ids=lambda o: o.kind)
@pytest.mark.parametrize("config", ALL, ids=lambda c: f"{type(c).__name__}-{c.encoder.kind}")
def test_training_moves_every_weight_but_the_encoders(config, optimizer):
    model = sentences.make(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = optimizer.make(model.parameters(), 0.01)
    for _ in range(3):  # the first gradient of a deep layer may be 0
        made.zero_grad()
        model.elbo(*values(model)).negative_elbo.mean().backward()
        clip_gradients(model, "global", 10.0)
        made.step()
    still = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    frozen = {name for name in before if name.startswith("sentence_encoder.")}
    assert still == frozen != set()
    learned = sum(value.numel() for name, value in before.items() if name not in frozen)
    assert count_parameters(model) == learned


@pytest.mark.parametrize("config", ALL, ids=lambda c: f"{type(c).__name__}-{c.encoder.kind}")
def test_weights_are_drawn_anew_and_the_encoder_stays(config):
    model = sentences.make(config)
    frozen = {name: value.clone() for name, value in model.sentence_encoder.state_dict().items()}
    model.reset(torch.Generator().manual_seed(3))
    first = {name: value.clone() for name, value in model.state_dict().items()}
    model.reset(torch.Generator().manual_seed(3))
    assert all(torch.equal(value, first[name]) for name, value in model.state_dict().items()), "the same from the same seed"
    assert all(torch.equal(value, frozen[name]) for name, value in model.sentence_encoder.state_dict().items())
    assert all((value == 0).all() for name, value in first.items() if name.endswith("bias") and "sentence_encoder" not in name)


@pytest.mark.parametrize("config", ALL, ids=lambda c: f"{type(c).__name__}-{c.encoder.kind}")
def test_a_checkpoint_holds_the_encoder(tmp_path, config):
    model = sentences.make(config).float()
    checkpoints.save(tmp_path / "m.safetensors", Checkpoint(model, WORDS, None))
    again = checkpoints.load(tmp_path / "m.safetensors").model
    assert (again.kind, again.config) == (model.kind, config)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    images, captions, noise = values(model)
    given = images.float(), captions, noise.float()
    assert torch.equal(again.elbo(*given).negative_elbo, model.elbo(*given).negative_elbo)
    assert not any(value.requires_grad for value in again.sentence_encoder.parameters())


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda e: e.kind)
def test_an_encoder_is_read_from_beside_the_data(tmp_path, encoder):
    made = sentences.filled(encoder.make(43))
    sentence_encoders.save(tmp_path, made)
    content = (tmp_path / FILE).read_bytes()
    model = sentences.MODULES[type(SENTENCE)].Model(replace(SENTENCE, encoder=encoder), 43)
    assert not any(value.any() for value in model.sentence_encoder.parameters()), "0 until it is read"
    model.load_frozen(tmp_path)
    assert all(torch.equal(value, model.sentence_encoder.state_dict()[name]) for name, value in made.state_dict().items())
    sentence_encoders.save(tmp_path, model.sentence_encoder)
    assert (tmp_path / FILE).read_bytes() == content, "equal encoders are equal files"


def changed(path, config=None, tensors=None) -> None:
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()[FORMAT.key])
    text = config(metadata) if config else metadata
    stored = load_file(path)
    save_file(tensors(stored) if tensors else stored, path, {FORMAT.key: text if isinstance(text, str) else json.dumps(text)})


@pytest.mark.parametrize(("change", "said"), [
    ({"config": lambda m: m | {"config": m["config"] | {"units": 23}}}, "is {kind: caption_encoder, units: 23}, the model asks for {kind: caption_encoder, units: 19}: set the run's model.encoder"),
    ({"config": lambda m: m | {"config": asdict(SKIP_THOUGHTS)}}, "is {kind: skip_thoughts, word_features: 53, uni_units: 59, bi_units: 61}, the model asks for"),
    ({"config": lambda m: m | {"config": 3}}, "its sentence encoder is none, the model asks"),
    ({"config": lambda m: m | {"config": {"kind": ["x"] * 10**5}}}, "its sentence encoder is none"),
    ({"config": lambda m: m | {"config": {"kind": "x\x1b[2J\n" * 10**4}}}, "its sentence encoder is {kind: x"),
    ({"config": lambda m: {"version": 1}}, "its sentence encoder is none"),
    ({"config": lambda m: m | {"version": 2}}, "of version 2, newer than this code reads (1)"),
    ({"config": lambda m: [m]}, "its metadata is damaged"),
    ({"config": lambda m: json.dumps(m | {"config": "DEEP"}).replace('"DEEP"', "[" * 50_000 + "]" * 50_000)}, "its metadata is damaged"),
    ({"tensors": lambda t: {name: value for name, value in t.items() if "h0" not in name}}, "weights and configuration differ at 'caption_encoder.h0'"),
    ({"tensors": lambda t: t | {"caption_encoder.h0": torch.zeros(1, 23)}}, "weights and configuration differ at 'caption_encoder.h0'"),
    ({"tensors": lambda t: t | {"caption_encoder.h0": t["caption_encoder.h0"].double()}}, "is of type F64"),
    ({"tensors": lambda t: t | {"caption_encoder.h0": t["caption_encoder.h0"] + 1}}, "digest differ"),
    ({"tensors": lambda t: t | {"caption_encoder.h0": t["caption_encoder.h0"] * torch.inf}}, "not finite")], ids=lambda value: value if isinstance(value, str) else "change")
def test_a_file_that_is_no_encoder_of_the_model_is_refused_in_one_line(tmp_path, change, said):
    sentence_encoders.save(tmp_path, sentences.filled(CAPTION_ENCODER.make(43)))
    changed(tmp_path / FILE, **change)
    model = sentences.MODULES[type(SENTENCE)].Model(SENTENCE, 43)
    with pytest.raises(UserError) as error:
        model.load_frozen(tmp_path)
    assert said in str(error.value)
    assert str(error.value).startswith(str(tmp_path / FILE))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000
    assert not any(value.any() for value in model.sentence_encoder.parameters())


def test_another_vocabulary_no_file_and_data_without_an_encoder(tmp_path):
    model = sentences.MODULES[type(SENTENCE)].Model(SENTENCE, 43)
    with pytest.raises(UserError, match=r"no such sentence encoder; .* set the run's dataset to one of pipeline\.sentences"):
        model.load_frozen(tmp_path)
    sentence_encoders.save(tmp_path, sentences.filled(CAPTION_ENCODER.make(47)))
    with pytest.raises(UserError, match=r"weights and configuration differ at 'caption_encoder\.backward_lstm\.table'"):
        model.load_frozen(tmp_path)


def test_the_kind_of_encoder_is_a_known_one():
    plain = asdict(SENTENCE)
    with pytest.raises(UserError, match=r"'model\.encoder\.kind' is 'skip_thought'.*did you mean 'skip_thoughts'"):
        from_mapping(type(SENTENCE), plain | {"encoder": {"kind": "skip_thought"}}, "model")
    with pytest.raises(UserError, match=r"missing parameter 'model\.encoder\.units'"):
        from_mapping(type(SENTENCE), plain | {"encoder": {"kind": "caption_encoder"}}, "model")
