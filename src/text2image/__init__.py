"""text2image: *Generating Images from Captions with Attention* (alignDRAW, ICLR 2016), reproduced.

    model = text2image.load("pretrained/mnist")
    images = model.generate(["the digit 3 is at the top left of the image ."])

`load` is imported when it is asked for: a stage of the pipeline imports the modules that it needs, and no others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from text2image.pretrained import PretrainedModel, load

__all__ = ["PretrainedModel", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("text2image.pretrained"), name)
    raise AttributeError(f"module 'text2image' has no attribute {name!r}")
