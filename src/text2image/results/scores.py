"""Means of scores over images, with their standard errors."""

import math
from typing import Any

import torch
from torch import Tensor


class Scores:
    """Values of captions, which image each caption is of, and, where somebody says so, which group it belongs to."""

    def __init__(self) -> None:
        self.image_indices: list[Tensor] = []
        self.groups: list[Tensor] = []
        self.values: dict[str, list[Tensor]] = {}

    def add(self, image_index: Tensor, group: Tensor | None = None, **values: Tensor) -> None:
        """Add a batch: image_index (B,) int64 on the CPU, named values (B,), or (B, n), and the captions' groups (B,)."""
        self.image_indices.append(image_index)
        if group is not None:
            self.groups.append(group)
        for name, value in values.items():
            self.values.setdefault(name, []).append(value.cpu().double())

    def summary(self, group: int | None = None) -> dict[str, Any]:
        """Counts, and of each value the mean and its standard error over images, where an image's value is the mean of its
        captions': two captions of one image are no two independent draws. `group`: of its captions alone.

        A value of n numbers has a list of n means and no errors. Where there are no captions there are counts alone.
        """
        image_index = torch.cat(self.image_indices)
        rows = torch.arange(len(image_index)) if group is None else (torch.cat(self.groups) == group).nonzero()[:, 0]
        _, row, captions = image_index[rows].unique(return_inverse=True, return_counts=True)
        numbers: dict[str, Any] = {"captions": len(row), "images": len(captions)}
        if not len(rows):
            return numbers
        for name, parts in self.values.items():
            values = torch.cat(parts)[rows]
            sums = values.new_zeros(len(captions), *values.shape[1:]).index_add_(0, row, values)
            means = sums / captions.view(-1, *(1 for _ in values.shape[1:]))
            if means.ndim > 1:
                numbers[name] = [round(mean, 4) for mean in means.mean(0).tolist()]
                continue
            error = means.std().item() / math.sqrt(len(means)) if len(means) > 1 else 0.0
            numbers[name] = {"mean": round(means.mean().item(), 4), "se": round(error, 4)}
        return numbers
