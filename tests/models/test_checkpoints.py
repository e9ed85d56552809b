"""Checkpoints: a model is rebuilt from the file alone, of this version and the one before; anything else is refused."""

import json
import struct
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.models.small import PRIMES
from text2image.data.mnist_captions import VOCABULARY, Grammar
from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError
from text2image.files import safetensors_file
from text2image.models import checkpoints
from text2image.models.align_draw import AlignDRAW, AlignDRAWConfig
from text2image.models.checkpoints import SWITCHES_OF_VERSION_1, Checkpoint
from text2image.models.conditional_draw import Switches

KEY = checkpoints.FORMAT.key
PRETRAINED = Path(__file__).parents[2] / "pretrained" / "mnist" / "model.safetensors"


def make(config: AlignDRAWConfig = PRIMES) -> Checkpoint:
    model = AlignDRAW(config, len(VOCABULARY))
    model.reset(torch.Generator().manual_seed(3))
    return Checkpoint(model, VOCABULARY, Grammar.from_seed(5))


@pytest.fixture
def saved(tmp_path):
    checkpoints.save(tmp_path / "model.safetensors", make())
    return tmp_path / "model.safetensors"


def described(path: Path) -> dict:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()[KEY])


def rewrite(path: Path, metadata) -> None:
    """The file's tensors with what `metadata` makes of its own."""
    text = metadata(described(path))
    save_file(load_file(path), path, {KEY: text if isinstance(text, str) else json.dumps(text)})


def as_version_1(metadata: dict) -> dict:
    """As the code before wrote it: no kind, no digest, the six switches among the sizes."""
    config = {name: value for name, value in metadata["config"].items() if name != "switches"} | metadata["config"]["switches"]
    return {"version": 1, "config": config, "vocabulary": metadata["vocabulary"], "grammar": metadata["grammar"]}


def same(one: AlignDRAW, other: AlignDRAW) -> bool:
    weights = other.state_dict()
    return all(torch.equal(value, weights[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("config", [PRIMES, replace(PRIMES, preset="released", switches=Switches(filter_sum="paper"))])
def test_a_checkpoint_is_all_that_is_needed(tmp_path, config):
    ours, path = make(config), tmp_path / "model.safetensors"
    checkpoints.save(path, ours)
    again = checkpoints.load(path)
    assert isinstance(again.model, AlignDRAW)
    assert again.model.config == config
    assert (again.vocabulary.words, again.grammar) == (VOCABULARY.words, ours.grammar)
    assert same(again.model, ours.model)
    assert described(path).keys() == {"version", "kind", "config", "vocabulary", "grammar", "digest"}
    assert (described(path)["version"], described(path)["kind"]) == (2, "align_draw")
    checkpoints.save(tmp_path / "again.safetensors", again)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes(), "equal checkpoints are equal files"


@pytest.mark.parametrize("switches", [Switches(), Switches(filter_sum="released", prior_bias="released")])
def test_version_1_still_loads(tmp_path, switches):
    path = tmp_path / "model.safetensors"
    ours = make(replace(PRIMES, switches=switches))
    checkpoints.save(path, ours)
    rewrite(path, as_version_1)
    assert set(SWITCHES_OF_VERSION_1) < described(path)["config"].keys()
    again = checkpoints.load(path)
    assert again.model.config == ours.model.config
    assert again.grammar == ours.grammar
    assert same(again.model, ours.model)


def test_the_pretrained_model_loads_and_its_tensors_stay_when_it_is_saved_anew(tmp_path):
    if not PRETRAINED.exists():
        pytest.skip("`dvc pull pretrained/mnist` fetches it")
    checkpoint = checkpoints.load(PRETRAINED)
    assert checkpoint.model.config.glimpses == 32
    checkpoints.save(tmp_path / "anew.safetensors", checkpoint)
    before, after = load_file(PRETRAINED), load_file(tmp_path / "anew.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert same(checkpoints.load(tmp_path / "anew.safetensors").model, checkpoint.model)


@pytest.mark.parametrize(("change", "said"), [
    (lambda m: m | {"version": 3}, "of version 3, newer than this code reads (2); update text2image"),
    (lambda m: m | {"kind": "align_drow"}, "kind is 'align_drow'; it takes one of align_draw"),
    (lambda m: m | {"kind": "checkpoints"}, "kind is 'checkpoints'; it takes one of align_draw"),
    (lambda m: m | {"kind": ["align_draw"]}, "kind is ['align_draw']; it takes one of"),
    (lambda m: m | {"kind": "../align_draw"}, "kind is '../align_draw'; it takes one of"),
    (lambda m: {name: m[name] for name in m if name != "kind"}, "its metadata is damaged (KeyError('kind')"),
    (lambda m: m | {"config": m["config"] | {"latent": 19}}, "weights and configuration differ at 'generate.weight_input'"),
    (lambda m: m | {"config": m["config"] | {"height": 31, "width": 29}}, "weights and configuration differ at 'c0'"),
    (lambda m: m | {"config": m["config"] | {"latten": 17}}, "config.latten': did you mean 'latent'?"),
    (lambda m: m | {"config": m["config"] | {"preset": "released"}}, "weights and configuration differ at 'prior.bias'"),
    (lambda m: m | {"config": [1]}, "config' must be a block of parameters"),
    (lambda m: {"version": 2}, "its metadata is damaged (KeyError('kind'))"),
    (lambda m: {"version": 1}, "its metadata is damaged (KeyError('config'))"),
    (lambda m: {"version": 1, "config": {}}, "its metadata is damaged (KeyError('backward_words'))"),
    (lambda m: {"version": 1, "config": 3}, "its metadata is damaged"),
    (lambda m: m | {"vocabulary": None}, "its vocabulary is no list of words"),
    (lambda m: m | {"vocabulary": ["<pad>", 3]}, "its vocabulary is no list of words"),
    (lambda m: m | {"vocabulary": ["a"]}, "a vocabulary starts with"),
    (lambda m: m | {"vocabulary": [*m["vocabulary"], "dog"]}, "weights and configuration differ at 'caption_encoder.backward_lstm.table'"),
    (lambda m: m | {"grammar": 3}, "grammar' must be a block of parameters"),
    (lambda m: m | {"grammar": {"held_out": [1, 2]}}, "held_out must be twelve numbers"),
    (lambda m: m | {"config": m["config"] | {"canvas_init": 1e300}}, "must be at most 100"),
    (lambda m: [m], "its metadata is damaged"),
    (lambda m: json.dumps(m) + "}", "its metadata is damaged"),
    (lambda m: json.dumps(m | {"config": "DEEP"}).replace('"DEEP"', "[" * 50_000 + "]" * 50_000), "its metadata is damaged"),
    (lambda m: json.dumps(m | {"config": m["config"] | {"switches": "DEEP"}}).replace('"DEEP"', "[" * 900 + "]" * 900), ""),
])
def test_a_checkpoint_that_is_none_is_refused_in_one_line(saved, change, said):
    rewrite(saved, change)
    with pytest.raises(UserError) as error:
        checkpoints.load(saved)
    assert said in str(error.value)
    assert str(saved) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("size", [10**6, 10**9, 2**31, 10**12, 2**62, 2**63, 10**30, 10**400])
@pytest.mark.parametrize("name", ["channels", "height", "glimpses", "language_units", "align_units", "infer_units", "generate_units",
                                  "latent", "read_window", "write_window"])
def test_no_metadata_asks_for_more_than_the_file_holds(saved, name, size):
    """Sizes are compared before a tensor is made: else a small file could ask for terabytes."""
    rewrite(saved, lambda m: m | {"config": m["config"] | {name: size}})
    with pytest.raises(UserError) as error:
        checkpoints.load(saved)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_no_weight_is_drawn_to_compare_shapes(monkeypatch):
    """To draw nothing on the device without memory, PyTorch would load its compiler: seconds, at every start."""
    monkeypatch.setattr(torch.Tensor, "normal_", lambda *_, **__: pytest.fail("drawn"))
    with torch.device("meta"):
        assert AlignDRAW(PRIMES, 5).c0.is_meta


def test_nothing_is_read_before_shapes_are_compared(saved, monkeypatch):
    rewrite(saved, lambda m: m | {"config": m["config"] | {"latent": 19}})
    monkeypatch.setattr(safetensors_file.DescribedFile, "tensors", lambda file: pytest.fail("read"))
    with pytest.raises(UserError, match="weights and configuration differ"):
        checkpoints.load(saved)


@pytest.mark.parametrize(("tensors", "said"), [
    (lambda t: {name: value for name, value in t.items() if name != "c0"}, "weights and configuration differ at 'c0'"),
    (lambda t: t | {"more": torch.zeros(2)}, "weights and configuration differ at 'more'"),
    (lambda t: t | {"c0": t["c0"].transpose(1, 3).contiguous()}, "weights and configuration differ at 'c0'"),
    (lambda t: t | {"c0": t["c0"].double()}, "'c0' is of type F64; a checkpoint holds float32"),
    (lambda t: t | {"c0": t["c0"].half()}, "'c0' is of type F16; a checkpoint holds float32"),
    (lambda t: t | {"c0": t["c0"] * float("nan")}, "'c0' holds values that are not finite numbers"),
    (lambda t: t | {"c0": t["c0"] + 1e-3}, "its tensors are not those that were saved (their digest differs); fetch it again with"),
    (lambda t: t | {"read.bias": t["write.bias"] + 1, "write.bias": t["read.bias"]}, "digest differs")])
def test_other_weights_than_those_saved_are_refused(saved, tensors, said):
    text = json.dumps(described(saved))
    save_file(tensors(load_file(saved)), saved, {KEY: text})
    with pytest.raises(UserError) as error:
        checkpoints.load(saved)
    assert str(error.value).startswith(f"{saved}: {said}") or said in str(error.value)


def test_every_bit_of_the_weights_is_under_the_digest(saved):
    content = saved.read_bytes()
    start = 8 + struct.unpack("<Q", content[:8])[0]
    for at in range(start, len(content), len(content) // 20):
        saved.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1:])
        with pytest.raises(UserError, match=r"digest differs|not finite"):
            checkpoints.load(saved)


def test_no_such_checkpoint_only_where_there_is_none(tmp_path):
    with pytest.raises(UserError, match=r"none: no such checkpoint; `dvc pull` fetches it, `dvc repro` trains it"):
        checkpoints.load(tmp_path / "none")
    with pytest.raises(UserError, match=r"not a readable checkpoint \(it is no file\)"):
        checkpoints.load(tmp_path)


def test_words_with_accents_and_no_grammar(tmp_path):
    vocabulary = Vocabulary(["<pad>", "UNK", "café", "naïve"])
    checkpoints.save(tmp_path / "m.safetensors", Checkpoint(AlignDRAW(PRIMES, 4), vocabulary, None))
    again = checkpoints.load(tmp_path / "m.safetensors")
    assert again.vocabulary.words == vocabulary.words
    assert again.grammar is None
    assert asdict(again.model.config) == asdict(PRIMES)
