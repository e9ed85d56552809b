"""Golden files for the page's JavaScript: small models, and what Python computes with them in float64.

    PYTHONPATH=src python -m tests.web.golden FOLDER

writes <name>.safetensors and <name>.json of every model of `MODELS`, and text.json: captions, noise and grammar.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch

from tests.models.small import PRIMES
from text2image import seeds
from text2image.data.mnist_captions import TEMPLATES, TWO_DIGITS, VOCABULARY, Grammar, caption
from text2image.data.vocabulary import Vocabulary
from text2image.models import align_draw, checkpoints, draw, noalign
from text2image.models.base import Glimpse, ImageModel
from text2image.models.conditional_draw import Switches

WORDS = Vocabulary(["<pad>", "UNK", *ascii_lowercase, "don't", "dog", "black-and-white",
                    ".", "<name>", "Ärger", "ärger", "'s"])
OBLONG = replace(PRIMES, channels=1, height=13, width=37, latent=11, write_window=4)
SHARED = {key: value for key, value in asdict(PRIMES).items() if key not in ("language_units", "align_units", "switches")}
NOALIGN, DRAW = noalign.Config(**SHARED, language_units=19), draw.Config(**SHARED, prior="learned")
MODELS: dict[str, tuple[type[ImageModel], Any]] = {
    "align_draw": (align_draw.Model, PRIMES),
    "released": (align_draw.Model, replace(PRIMES, preset="released")),
    "colour": (align_draw.Model, replace(PRIMES, channels=3, height=24, width=24, write_window=8)),
    "oblong": (align_draw.Model, OBLONG),
    "oblong_released_even_window": (align_draw.Model, replace(OBLONG, height=31, width=19, preset="released")),
    "one_filter_one_glimpse": (align_draw.Model, replace(PRIMES, write_window=1, glimpses=1)),
    "switches": (align_draw.Model, replace(PRIMES, switches=Switches(backward_words="released", filter_sum="released",
                                                                     prior_bias="released"))),
    "noalign": (noalign.Model, NOALIGN),
    "noalign_released": (noalign.Model, replace(NOALIGN, preset="released")),
    "draw": (draw.Model, DRAW),
    "draw_released_fixed_prior": (draw.Model, replace(DRAW, channels=1, width=23, preset="released", prior="fixed")),
}
CAPTION = [5, 9, 2, 30, 28, 5, 31]
IMAGES = (1, 3)
CAPTIONS = ["a dog .", "A Dog.", "the dog", "don\u2019t", "don`t", "black-and-white dog", "black\u2010and\u2010white a", "'dog'", "dog's", "dog 's",
            "<pad> a", "<name>", "\u00c4rger", "A\u0308RGER", "UNK", "unk", "a,b;c", "x!y?", "  a   b ", "\"a\" (b)", "dog' 'n' a"]


def build(kind: type[ImageModel], config: Any) -> ImageModel:
    """A model with float32 weights that are all other than 0, of an order at which every part matters."""
    model = kind(config, len(WORDS))
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            if value.requires_grad:
                value.normal_(0, 0.2, generator=seeds.torch_generator("golden", name))
    return model


def drawn(model: ImageModel, images: int) -> dict[str, Any]:
    """What a model draws for CAPTION, in float64, and what at each glimpse."""
    generator = seeds.torch_generator("golden noise")
    noise = torch.randn(model.noise_shape(images), generator=generator)
    steps: list[dict[str, Any]] = []

    def on_step(_: int, glimpse: Glimpse) -> None:
        assert glimpse.write_window is not None
        steps.append({"canvas": glimpse.canvas.tolist(), "outputs": glimpse.write_window.tolist(),
                      "boxes": model.write_box(glimpse.write_window).tolist(),
                      "alpha": None if glimpse.alpha is None else glimpse.alpha.tolist()})

    captions = torch.tensor([CAPTION] * images)
    result = model.generate(captions, noise.double(), on_step=on_step)
    return {"noise": noise.tolist(), "images": result.tolist(), "steps": steps}


def text() -> dict[str, Any]:
    """Captions as ids, noise of seeds, and what the grammar says of captions."""
    noise = {f"{seed} {glimpses} {latent}": seeds.noise((glimpses, latent), seed, "sample", device="cpu").flatten().tolist()
             for seed, glimpses, latent in ((0, 32, 150), (7, 6, 24), (3, 7, 17), (1, 1, 5), (2, 3, 5), (2**63 - 1, 2, 8))}
    ids = {each: [token if token in WORDS.words else None for part in each.split() for token in WORDS._words(part)]
           for each in CAPTIONS}
    grammar = Grammar.from_seed(1)
    rows = [(k, a, b) for k in range(len(TEMPLATES)) for a in range(10) for b in range(10 if k < TWO_DIGITS else 1)]
    held_out = [caption(*row) for row in rows if grammar.is_held_out(*row)]
    other = [caption(*row) for row in rows if grammar.is_held_out(*row) and row[0] < TWO_DIGITS
             and not grammar.is_held_out(row[0] ^ 1, *row[1:])]
    return {"vocabulary": WORDS.words, "captions": ids, "noise": noise, "grammar": grammar.as_dict(),
            "mnist words": VOCABULARY.words, "every caption": [caption(*row) for row in rows], "held out": held_out,
            "held out, trained on in other words": other}


def write(folder: Path) -> None:
    """All of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (kind, config) in MODELS.items():
        model = build(kind, config)
        checkpoints.save(folder / f"{name}.safetensors", checkpoints.Checkpoint(model, WORDS, None))
        model.double()
        content = {"ids": CAPTION, "drawn": {str(images): drawn(model, images) for images in IMAGES}}
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "text.json").write_text(json.dumps(text()), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
