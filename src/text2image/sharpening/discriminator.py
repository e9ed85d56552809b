"""The discriminator: whether an image is real, given its caption (Denton et al., 2015)."""

import math

import torch
from torch import Tensor, nn


class Discriminator(nn.Module):
    """Two convolutions and a linear map."""

    def __init__(self, channels: int, height: int, width: int, language: int, filters: int):
        super().__init__()
        self.caption = nn.Linear(language, height * width)
        self.near = nn.Conv2d(channels + 1, filters, 5, padding=2)
        self.far = nn.Conv2d(filters, filters, 5, padding=2, stride=2)
        self.logit = nn.Linear(filters * math.ceil(height / 2) * math.ceil(width / 2), 1)

    @property
    def features(self) -> int:
        """What the last map takes of an image."""
        return self.logit.in_features

    def forward(self, images: Tensor, caption: Tensor, keep: Tensor) -> Tensor:
        """images (B, C, H, W), caption vectors (B, D), keep (B, features): dropout's mask, scaled. Returns logits (B,)."""
        plane = self.caption(caption).relu().unflatten(1, (1, *images.shape[2:]))  # (B, 1, H, W)
        x = self.far(self.near(torch.cat([images, plane], 1)).relu()).relu()
        return self.logit(x.flatten(1) * keep)[:, 0]
