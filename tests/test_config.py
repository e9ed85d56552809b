"""Blocks of parameters: what is read and what is refused."""

import copy
import dataclasses
import importlib
import math
import pkgutil
import re
import sys
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from dvc.utils.serialize import load_yaml

import text2image
from tests.conftest import ROOT
from tests.small import TRAIN
from text2image.classifiers.training import TrainClassifierConfig
from text2image.config import MAX_SEED, from_mapping, parameter, shown
from text2image.data.vocabulary import Vocabulary
from text2image.errors import UserError
from text2image.lookup import lookup
from text2image.models.align_draw import AlignDRAW, AlignDRAWConfig
from text2image.models.base import require_memory_to_train
from text2image.results.sampling import SampleConfig
from text2image.sharpening.comparison import SharpenConfig
from text2image.sharpening.training import TrainSharpenerConfig
from text2image.sources import shapes
from text2image.training.train_config import TrainConfig


@dataclass(frozen=True)
class Inner:
    rate: float = parameter(gt=0, lt=1)


@dataclass(frozen=True)
class Outer:
    size: int = parameter(ge=1, le=100)
    kind: Literal["left", "right"]
    names: tuple[str, ...]
    inner: Inner


@dataclass(frozen=True)
class Signed:
    value: float = parameter(ge=-1, le=1)
    count: int = parameter(ge=0, le=9)
    choice: Literal[1, 3]


@dataclass(frozen=True)
class Left:
    kind: Literal["left"]


@dataclass(frozen=True)
class Right:
    kind: Literal["right"]


@dataclass(frozen=True)
class WithKinds:
    optimizer: Left | Right


GOOD = {"size": 3, "kind": "left", "names": ["a"], "inner": {"rate": 0.5}}


def test_a_block_of_parameters():
    assert from_mapping(Outer, GOOD, "block") == Outer(3, "left", ("a",), Inner(0.5))
    assert from_mapping(Outer, GOOD | {"size": 3.0}, "block") == Outer(3, "left", ("a",), Inner(0.5))


@pytest.mark.parametrize(("change", "words"), [
    ({"sise": 1}, "unknown parameter 'block.sise': did you mean 'size'?"),
    ({"size": 0}, "parameter 'block.size' is 0; it must be at least 1"),
    ({"size": "3"}, "parameter 'block.size' must be int, not '3'"),
    ({"size": True}, "parameter 'block.size' must be int, not True"),
    ({"size": 2.5}, "parameter 'block.size' must be int, not 2.5"),
    ({"kind": "lift"}, "parameter 'block.kind' is 'lift'; it takes one of left, right: did you mean 'left'?"),
    ({"names": "a"}, "parameter 'block.names' must be a list, not 'a'"),
    ({"names": ["a", 1]}, r"parameter 'block.names[1]' must be str, not 1"),
    ({"inner": {"rate": 0}}, "parameter 'block.inner.rate' is 0.0; it must be more than 0"),
    ({"inner": {"rate": 1}}, "parameter 'block.inner.rate' is 1.0; it must be less than 1"),
    ({"kind": ["left"]}, "parameter 'block.kind' is ['left']; it takes one of left, right: did you mean 'left'?"),
    ({"inner": {"rate": float("nan")}}, "parameter 'block.inner.rate' is nan; it must be finite"),
    ({"inner": 3}, "parameter 'block.inner' must be a block of parameters, not 3"),
])
def test_what_is_wrong_with_a_block_is_said(change, words):
    with pytest.raises(UserError) as error:
        from_mapping(Outer, GOOD | change, "block")
    assert str(error.value) == words


def test_a_missing_parameter_is_named():
    with pytest.raises(UserError, match=r"missing parameter 'block\.size'"):
        from_mapping(Outer, {name: value for name, value in GOOD.items() if name != "size"}, "block")


# Values as YAML, JSON and the command line give them.
HUGE = [10**30, 1e30, 2**63, 1e308, 10**400, 10**5000, float("inf"), "9" * 10**6]


@pytest.mark.parametrize("value", HUGE, ids=lambda value: f"{type(value).__name__} of {len(shown(value))} characters")
@pytest.mark.parametrize("name", ["size", "rate"])
def test_a_huge_number_is_one_short_line(name, value):
    mapping = GOOD | ({"size": value} if name == "size" else {"inner": {"rate": value}})
    with pytest.raises(UserError) as error:
        from_mapping(Outer, mapping, "block")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("change", [{"size" * 10**5: 1}, {"kind": "left" * 10**6}, {"kind": [["left"]] * 10**5}, {"names": "a" * 10**6},
                                    {"names": ["a", {"b": "c" * 10**6}]}, {"inner": ["x"] * 10**6}, {7: 1}, {None: 1}, {10**5000: 1}])
def test_what_is_long_is_cut_in_a_message(change):
    with pytest.raises(UserError) as error:
        from_mapping(Outer, GOOD | change, "block")
    assert len(str(error.value)) < 600


def test_numbers_as_yaml_may_give_them():
    """1e-7 is a number in YAML 1.2, which DVC reads, and text in YAML 1.1; -0 is 0; a bool is no number."""
    for given, rate in ((0.25, 0.25), ("1e-07", 1e-7), ("2.5E-1", 0.25)):
        found = from_mapping(Inner, {"rate": given}, "block")
        assert found.rate == rate and type(found.rate) is float
    assert math.copysign(1, from_mapping(Signed, {"value": -0.0, "count": -0.0, "choice": 1}, "block").value) == 1
    assert repr(from_mapping(Signed, {"value": 0, "count": 2.0, "choice": 3.0}, "block")) == "Signed(value=0.0, count=2, choice=3)"
    for wrong in ({"value": True}, {"count": False}, {"choice": True}, {"value": "0.5"}, {"value": "nan"}, {"value": "1e400"}, {"value": ""},
                  {"count": "1e2"}, {"count": 1e-300}, {"count": None}, {"value": float("nan")}, {"value": [1]}, {"choice": 2}, {"choice": {}}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            from_mapping(Signed, {"value": 1, "count": 1, "choice": 1} | wrong, "block")


def test_text_that_no_file_can_be_called():
    for text in ("a\0b", "\ud800", "caf\u00e9 \udcff"):
        with pytest.raises(UserError, match="which is no text"):
            from_mapping(Outer, GOOD | {"names": [text]}, "block")
    assert from_mapping(Outer, GOOD | {"names": ["caf\u00e9 \U0001f600"]}, "block").names == ("caf\u00e9 \U0001f600",)


def test_a_kind_of_no_kind():
    for kind in (["left"], {}, None, 3, "x" * 10**6):
        with pytest.raises(UserError, match=r"'block\.optimizer\.kind'"):
            from_mapping(WithKinds, {"optimizer": {"kind": kind}}, "block")


def config_classes() -> list[type]:
    """Every dataclass of the package that a block of parameters, or a file's metadata, becomes."""
    for module in pkgutil.walk_packages(text2image.__path__, "text2image."):
        importlib.import_module(module.name)
    found, todo = [], [cls for name, module in list(sys.modules.items()) if name.startswith("text2image")
                       for key, cls in vars(module).items() if isinstance(cls, type) and dataclasses.is_dataclass(cls)
                       and cls.__module__ == name and (key.endswith("Config") or key == "Config")]
    while todo:
        cls = todo.pop()
        if cls not in found:
            found.append(cls)
            for kind in get_type_hints(cls).values():
                todo += [part for part in (kind, *get_args(kind)) if isinstance(part, type) and dataclasses.is_dataclass(part)]
    return found


def numbers(kind: object) -> set[type]:
    """The types of numbers that a field may hold."""
    return {part for part in (kind, *(get_args(kind) if get_origin(kind) is tuple else ())) if part in (int, float)}


def test_every_number_of_every_configuration_has_a_lower_and_an_upper_bound():
    fields = [(cls, field, get_type_hints(cls)[field.name]) for cls in config_classes() for field in dataclasses.fields(cls)]
    checked = 0
    for cls, field, kind in fields:
        if not numbers(kind):
            continue
        bounds = {rule: limit for rule, limit in field.metadata.items() if limit is not None}
        assert bounds.keys() & {"ge", "gt"} and bounds.keys() & {"le", "lt"}, f"{cls.__module__}.{cls.__name__}.{field.name}"
        low, high = (next(bounds[rule] for rule in rules if rule in bounds) for rules in (("ge", "gt"), ("le", "lt")))
        assert -100 <= low < high <= MAX_SEED, field.name
        assert high < 2**31 or "seed" in field.name, field.name
        checked += 1
    assert checked > 60
    assert {cls.__name__ for cls, *_ in fields} >= {"AlignDRAWConfig", "TrainConfig", "RMSpropConfig", "AdamWConfig", "DropSchedule", "Span",
                                                    "CosineSchedule", "SGDConfig", "AdamConfig", "SharpenerConfig", "SampleConfig", "Layout",
                                                    "SceneConfig", "ImageFormat", "Shares", "ConvertConfig", "BankSizes", "ImageCounts"}


def test_every_block_of_params_yaml_is_in_range():
    """And a number of it that is made huge, or nonsense, is one line and nothing else."""
    parameters = load_yaml(str(ROOT / "params.yaml"))
    blocks = [(lookup("sources", dataset_source(parameters, name), door, "").__dict__[door], block[stage], f"datasets.{name}.{stage}")
              for name, block in parameters["datasets"].items()
              for door, stage in (("FetchConfig", "fetch"), ("PrepareConfig", "preprocess"))]
    for name, block in parameters["datasets"].items():
        if classifier := block.get("train_classifier"):
            settings = lookup("classifiers", "words", "Settings", "").Settings if classifier["labels"] else None
            blocks += [(settings, classifier["labels"], f"datasets.{name}.labels")] if settings else []
            blocks.append((TrainClassifierConfig, classifier | {"labels": {}}, f"datasets.{name}.train_classifier"))
    of_runs = {"train": TrainConfig, "sample": SampleConfig, "train_sharpener": TrainSharpenerConfig, "sharpen": SharpenConfig}
    for name, run in parameters["runs"].items():
        kind = lookup("models", model_kind(name), "Model", "").Config
        blocks += [(kind if stage == "model" else of_runs.get(stage) or lookup("results", stage, "Config", "").Config, block, f"runs.{name}.{stage}")
                   for stage, block in run.items()]
    tried = 0
    for cls, block, where in blocks:
        from_mapping(cls, block, where)
        for path in number_paths(block):
            for value in (1e30, 2**63, 1e308, -1, -1e308, float("nan"), 1e-320, True):
                changed = copy.deepcopy(block)
                inner = changed
                for key in path[:-1]:
                    inner = inner[key]
                inner[path[-1]] = value
                if value == 1e-320 and path[-1] in ("canvas_init", "weight_decay", "beta1", "beta2", "decay", "dropout", "blend", "mse_weight",
                                                    "momentum_growth", "max_momentum", "train", "dev", "test", "kl_warmup",
                                                    "noise", "blur", "brightness", "rotate", "resize", "shear"):
                    continue  # as good as 0, which they may be
                if value in (-1, -1e308) and path[-1] == "canvas_init" and value == -1:
                    continue
                with pytest.raises(UserError) as error:
                    from_mapping(cls, changed, where)
                assert "\n" not in str(error.value) and len(str(error.value)) < 400
                tried += 1
    assert tried > 1000


def dataset_source(parameters: dict, name: str) -> str:
    """The source of a dataset, from the comments where it is switched off."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    return re.search(rf"^    (?:# )?{name}: {{source: (\w+)", text, re.MULTILINE)[1]


def model_kind(name: str) -> str:
    """The kind of a run's model, likewise."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    return re.search(rf"^    (?:# )?{name}: {{dataset: \w+, model: (\w+)", text, re.MULTILINE)[1]


def number_paths(block: dict, before: tuple = ()):
    for key, value in block.items():
        if isinstance(value, dict):
            yield from number_paths(value, (*before, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*before, key)


def test_values_that_do_not_fit_together():
    run = load_yaml(str(ROOT / "params.yaml"))["runs"]["coco"]
    schedule = run["train"]["schedule"]
    with pytest.raises(UserError, match=r"'train\.schedule\.final_learning_rate' is 0\.01, above 'train\.learning_rate', 0\.001"):
        from_mapping(TrainConfig, run["train"] | {"schedule": schedule | {"final_learning_rate": 0.01}}, "train")
    with pytest.raises(UserError, match=r"'train\.min_words' is 30, above max_words, 29"):
        from_mapping(TrainConfig, run["train"] | {"min_words": 30}, "train")
    sharpener = run["train_sharpener"]
    with pytest.raises(UserError, match=r"'lr_decay' is 100|optimizer\.lr_decay' is 100\.0: after 50 epochs the rate would be divided"):
        from_mapping(TrainSharpenerConfig, sharpener | {"optimizer": sharpener["optimizer"] | {"lr_decay": 100}}, "block")
    with pytest.raises(UserError, match=r"'block\.kernels' has 65 layers; it may have 64"):
        from_mapping(TrainSharpenerConfig, sharpener | {"kernels": [3] * 65}, "block")
    with pytest.raises(UserError, match=r"'block\.kernels\[1\]' is 10000000000; it must be at most 99"):
        from_mapping(TrainSharpenerConfig, sharpener | {"kernels": [3, 10**10]}, "block")


def test_more_than_the_machine_has_is_not_asked_for(tmp_path):
    """Before anything is taken: each of these would end the process, or the machine's patience."""
    model = load_yaml(str(ROOT / "params.yaml"))["runs"]["digits"]["model"]

    def train(batch: int = 1, **sizes: int) -> None:
        require_memory_to_train(AlignDRAW, from_mapping(AlignDRAWConfig, model | sizes, "model"), 23, batch, "digits")

    train(40)
    for sizes in (dict.fromkeys(("generate_units", "infer_units", "language_units", "align_units"), 10**5),
                  {"channels": 64, "read_window": 1024, "infer_units": 10**5}):
        with pytest.raises(UserError, match=r"weights that 'runs\.digits\.model' asks for take [\d,.]+ GiB at least, and this machine has"):
            train(**sizes)
    with pytest.raises(UserError, match=r"the noise and images of a batch, by 'runs\.digits\.train\.batch_size', take"):
        train(10**6, glimpses=10**4, latent=10**4)
    images = {"size": 512, "train": 10**9, "dev": 1, "test": 1, "captions": 1, "seed": 1}
    with pytest.raises(UserError, match=r"the 1,000,000,002 images that 'fetch\.images' asks for take"):
        shapes.fetch(from_mapping(shapes.FetchConfig, {"images": images}, "fetch"), tmp_path, tmp_path, "fetch")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"1,000,000,000,000 composed images take"):
        TRAIN.compose(10**12, False, 1)
    with pytest.raises(UserError, match=r"the scenes of 1,000,000,000,000 images take"):
        TRAIN.shuffled(10, 10**12, 1)


def test_a_vocabulary_of_unk_alone_is_no_vocabulary():
    words = [["a", "dog"], ["a", "cat"]]
    assert Vocabulary.count(words, 2).words[2:] == ("a",)
    with pytest.raises(UserError, match=r"min_count is 3, and no word of training occurs so often \(the most frequent one 2 times\): lower"):
        Vocabulary.count(words, 3)


TRAIN_BLOCK = load_yaml(str(ROOT / "params.yaml"))["runs"]["digits"]["train"]


@pytest.mark.parametrize(("change", "words"), [
    ({"second_decay": 0.9}, "unknown parameter 'runs.x.train.second_decay': it is called 'optimizer.beta2' now"),
    ({"least_words": 1}, "unknown parameter 'runs.x.train.least_words': it is called 'min_words' now"),
    ({"lerning_rate": 1}, "unknown parameter 'runs.x.train.lerning_rate': did you mean 'learning_rate'?"),
    ({"optimizer": {"kind": "adamv"}}, "'runs.x.train.optimizer.kind' is 'adamv'; it takes one of rmsprop, adamw: did you mean 'adamw'?"),
    ({"optimizer": {"kind": "adamw", "beta3": 0.9}}, "unknown parameter 'runs.x.train.optimizer.beta3': did you mean 'beta2'?"),
    ({"optimizer": {"kind": "rmsprop", "decay": 0.9}}, "missing parameter 'runs.x.train.optimizer.eps': it must be given"),
    ({"optimizer": "adamw"}, "'runs.x.train.optimizer' must be a block with a kind, one of rmsprop, adamw, not 'adamw'")])
def test_old_and_mistyped_keys_get_the_nearest_known_name(change, words):
    with pytest.raises(UserError) as error:
        from_mapping(TrainConfig, TRAIN_BLOCK | change, "runs.x.train")
    assert words in str(error.value)


def test_the_switches_have_a_map_of_their_own():
    model = load_yaml(str(ROOT / "params.yaml"))["runs"]["digits"]["model"]
    with pytest.raises(UserError, match=r"'runs\.x\.model\.filter_grid': it is called 'switches\.filter_grid' now"):
        from_mapping(AlignDRAWConfig, model | {"filter_grid": "paper"}, "runs.x.model")
    assert from_mapping(AlignDRAWConfig, model | {"switches": {"filter_grid": "released"}}, "x").released("filter_grid")
