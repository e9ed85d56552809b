"""Images that come a block of rows at a time: what does not fit into memory."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np


class ImageBlocks(Protocol):
    """N images of one shape and type. Iterate for blocks (n, C, H, W), in order."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""

    @property
    def dtype(self) -> np.dtype:
        """uint8, or float32 in [0, 1]."""

    def __iter__(self) -> Iterator[np.ndarray]: ...
