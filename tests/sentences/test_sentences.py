"""Where sentence encoders come from: another run's captions, published skip-thoughts, a package; and the stage that lays one
beside prepared data."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline import add_sentence_encoder as stage
from tests.models.small import PRIMES, fill
from tests.sharpening import released_files as released
from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError
from text2image.lookup import lookup, names
from text2image.models import checkpoints, noalign
from text2image.models.align_draw import AlignDRAW
from text2image.models.checkpoints import Checkpoint
from text2image.models.draw import DRAW, UnconditionalConfig
from text2image.models.sentence_encoders import FILE, CaptionEncoderConfig, SkipThoughtsConfig
from text2image.sentences import caption_encoder, skip_thoughts, word_llama
from text2image.sharpening import h_lang
from text2image.sharpening.skip_thoughts import SkipThoughts
from text2image.sources import sharpening

WORDS = Vocabulary(["<pad>", "UNK", "a", "red", "dog", "unheard-of", "."])
CAPTIONS = [["a", "red", "dog", "."], ["dog"], ["UNK", "a", "unheard-of", "dog", "a", "."]]
NOT_OF_DRAW = ("language_units", "align_units")


def trained(folder: Path, model: torch.nn.Module, vocabulary: Vocabulary = WORDS) -> Path:
    checkpoints.save(folder / "model.safetensors", Checkpoint(fill(model), vocabulary, None))
    return folder


def vectors(encoder, together: bool) -> torch.Tensor:
    """Of CAPTIONS, padded in one batch or one after the other."""
    ids = [WORDS.known(caption) for caption in CAPTIONS]
    if not together:
        return torch.cat([encoder(torch.tensor([caption])) for caption in ids])
    lengths = torch.tensor([len(caption) for caption in ids])
    return encoder(torch.tensor([[*caption, *[0] * (6 - len(caption))] for caption in ids]), lengths)


def test_the_encoders_there_are():
    assert names("sentences", "sentence_encoder") == ["caption_encoder", "skip_thoughts", "word_llama"]
    with pytest.raises(UserError, match=r"encoder is 'skip-thoughts'; it takes one of .*did you mean 'skip_thoughts'"):
        lookup("sentences", "skip-thoughts", "sentence_encoder", "the encoder")


@pytest.mark.parametrize("kind", ["align_draw", "noalign"])
def test_the_caption_encoder_of_a_run_gives_the_vectors_that_condition_its_sharpener(tmp_path, kind):
    sizes = {name: getattr(PRIMES, name) for name in PRIMES.__dataclass_fields__}
    model = AlignDRAW(PRIMES, len(WORDS)) if kind == "align_draw" else noalign.Model(
        noalign.Config(**{name: value for name, value in sizes.items() if name != "align_units"}), len(WORDS))
    encoder = caption_encoder.sentence_encoder(trained(tmp_path, model), WORDS)
    assert encoder.config == CaptionEncoderConfig("caption_encoder", PRIMES.language_units)
    expected = torch.cat([h_lang.caption_vectors(model.caption_encoder, torch.tensor([WORDS.known(caption)])) for caption in CAPTIONS])
    torch.testing.assert_close(vectors(encoder, together=False), expected)
    torch.testing.assert_close(vectors(encoder, together=True), expected)


@pytest.mark.parametrize(("make", "said"), [
    (lambda: DRAW(UnconditionalConfig(**{name: getattr(PRIMES, name) for name in PRIMES.__dataclass_fields__ if name not in NOT_OF_DRAW},
                                      prior="learned"), len(WORDS)), "a model of kind draw has no caption encoder of its own: name a run of align_draw"),
    (lambda: AlignDRAW(replace(PRIMES, preset="released"), len(WORDS)), "its backward_words is released")], ids=["draw", "released"])
def test_a_run_without_a_caption_encoder_of_use_is_refused(tmp_path, make, said):
    with pytest.raises(UserError, match=said):
        caption_encoder.sentence_encoder(trained(tmp_path, make()), WORDS)


def test_a_run_of_other_words_is_refused(tmp_path):
    other = Vocabulary([*WORDS.words[:-1], "!"])
    with pytest.raises(UserError, match="its vocabulary is not that of the dataset"):
        caption_encoder.sentence_encoder(trained(tmp_path, AlignDRAW(PRIMES, len(WORDS)), other), WORDS)
    with pytest.raises(UserError, match="no such checkpoint"):
        caption_encoder.sentence_encoder(tmp_path / "none", WORDS)


def test_skip_thoughts_are_the_published_ones_for_the_words_of_a_vocabulary(tmp_path):
    released.write(tmp_path)
    (tmp_path / "converted").mkdir()
    sharpening.convert(tmp_path / sharpening.FOLDER, tmp_path / "converted")
    encoder = skip_thoughts.sentence_encoder(tmp_path / "converted", WORDS)
    assert encoder.config == SkipThoughtsConfig("skip_thoughts", released.DIMENSION, released.UNI, released.BI)
    assert encoder.tables["uni"].shape == (len(WORDS), released.DIMENSION)
    assert not encoder.tables["bi"][0].any()
    expected = SkipThoughts(tmp_path / "converted").encode(CAPTIONS)
    torch.testing.assert_close(vectors(encoder, together=False), expected)
    torch.testing.assert_close(vectors(encoder, together=True), expected)
    with pytest.raises(UserError, match="not readable as converted skip-thoughts"):
        skip_thoughts.sentence_encoder(tmp_path, WORDS)


def package(folder: Path, monkeypatch) -> tuple[Path, np.ndarray]:
    """A package wordllama with a few pieces, each a letter, and a `tokenizers` that splits by letters."""
    pieces = np.random.default_rng(0).normal(size=(256, 5)).astype(np.float32)
    root = folder / "wordllama"
    for name in (word_llama.WEIGHTS, word_llama.TOKENIZER, "__init__.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    save_file({"embedding.weight": torch.from_numpy(pieces).half()}, root / word_llama.WEIGHTS)
    (root / word_llama.TOKENIZER).write_text("{}")
    (root / "__init__.py").write_text("raise ImportError('its weights are read, it is not run')")
    (folder / "tokenizers.py").write_text(
        "class Tokenizer:\n    @staticmethod\n    def from_file(path):\n        open(path).close()\n        return Tokenizer()\n"
        "    def encode(self, word, add_special_tokens):\n        assert not add_special_tokens\n"
        "        self.ids = [ord(letter) for letter in word]\n        return self\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(__import__("sys").modules, "tokenizers", raising=False)
    return root, pieces.astype(np.float16).astype(np.float32)


def test_word_llama_is_the_mean_over_the_pieces_of_a_caption(tmp_path, monkeypatch):
    root, pieces = package(tmp_path, monkeypatch)
    encoder = word_llama.sentence_encoder(tmp_path, WORDS)
    expected = torch.from_numpy(np.stack([np.mean([pieces[ord(letter)] for letter in "".join(caption)], 0) for caption in CAPTIONS]))
    torch.testing.assert_close(vectors(encoder, together=False), expected)
    torch.testing.assert_close(vectors(encoder, together=True), expected)
    (root / word_llama.WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(UserError, match="not readable as WordLlama"):
        word_llama.sentence_encoder(tmp_path, WORDS)


def test_without_the_package_there_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(word_llama, "PACKAGE", "no_such_package_as_this")
    with pytest.raises(UserError, match=r"wordllama, which is not installed: `pip install -c constraints.txt wordllama`"):
        word_llama.sentence_encoder(Path("constraints.txt"), WORDS)


@pytest.fixture
def prepared(tmp_path, monkeypatch) -> Path:
    """The folder of a dataset, in the current directory."""
    monkeypatch.chdir(tmp_path)
    folder = Path("data/prepared/dogs")
    folder.mkdir(parents=True)
    (folder / "train.h5").write_bytes(b"images and captions")
    WORDS.save(folder / "vocabulary.json")
    trained(tmp_path / "models/dogs", AlignDRAW(PRIMES, len(WORDS)))
    return folder


def test_the_stage_lays_an_encoder_beside_a_copy_of_the_data(prepared):
    stage.add_sentence_encoder({}, "dogs_sentences", "dogs", "caption_encoder", "models/dogs")
    out = prepared.with_name("dogs_sentences")
    assert {path.name for path in out.iterdir()} == {"train.h5", "vocabulary.json", FILE}
    assert all((out / path.name).read_bytes() == path.read_bytes() for path in prepared.iterdir())
    (out / "train.h5").write_bytes(b"")
    assert (prepared / "train.h5").read_bytes(), "a file of its own"
    first = (out / FILE).read_bytes()
    stage.add_sentence_encoder({}, "dogs_sentences", "dogs", "caption_encoder", "models/dogs")
    assert (out / FILE).read_bytes() == first
    assert not any(path.name.startswith(".") for path in prepared.parent.iterdir())


def test_where_the_encoder_does_not_fit_nothing_is_written(prepared):
    (prepared / "vocabulary.json").write_text(json.dumps([*WORDS.words, "more"]))
    with pytest.raises(UserError, match="its vocabulary is not that of the dataset"):
        stage.add_sentence_encoder({}, "dogs_sentences", "dogs", "caption_encoder", "models/dogs")
    with pytest.raises(UserError, match=r"'pipeline\.sentences\.dogs_sentences\.encoder' is 'caption'"):
        stage.add_sentence_encoder({}, "dogs_sentences", "dogs", "caption", "models/dogs")
    assert [path.name for path in prepared.parent.iterdir()] == ["dogs"]
