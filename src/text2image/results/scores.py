"""Means of scores over images, with their standard errors."""

import math
from typing import Any

import torch
from torch import Tensor


class Scores:
    """Values of captions, and which image each caption is of."""

    def __init__(self) -> None:
        self.image_indices: list[Tensor] = []
        self.values: dict[str, list[Tensor]] = {}

    def add(self, image_index: Tensor, **values: Tensor) -> None:
        """Add a batch: image_index (B,) int64 on the CPU, and named values (B,)."""
        self.image_indices.append(image_index)
        for name, value in values.items():
            self.values.setdefault(name, []).append(value.cpu().double())

    def summary(self) -> dict[str, Any]:
        """Counts, and of each value the mean and its standard error over images, where an image's value is the mean of its
        captions': two captions of one image are no two independent draws."""
        _, row, captions = torch.cat(self.image_indices).unique(return_inverse=True, return_counts=True)
        numbers: dict[str, Any] = {"captions": len(row), "images": len(captions)}
        for name, parts in self.values.items():
            means = torch.zeros(len(captions), dtype=torch.double).index_add_(0, row, torch.cat(parts)) / captions
            error = means.std().item() / math.sqrt(len(means)) if len(means) > 1 else 0.0
            numbers[name] = {"mean": round(means.mean().item(), 4), "se": round(error, 4)}
        return numbers
