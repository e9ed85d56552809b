"""Shares of images with their 95 % confidence intervals, where images of one caption are no independent draws."""

import math
from typing import Any

import torch
from torch import Tensor

Z = 1.959964  # of a normal distribution 95 % lies within so many standard deviations


def wilson(share: float, count: float) -> tuple[float, float]:
    """Wilson's interval (1927) of a share among `count` independent draws."""
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def effective_count(hits: Tensor, cluster: Tensor) -> float:
    """To how many independent draws the draws amount: their number divided by the design effect, which is the cluster-robust
    variance of their mean as a multiple of that of independent ones, at least 1. Where all hit, or none: the number of
    clusters.

    hits (n,) of 0 and 1, cluster (n,) int64: draws of one cluster may depend on each other.
    """
    hits = hits.double()
    _, row = cluster.unique(return_inverse=True)
    count, clusters = len(hits), int(row.max()) + 1
    share = hits.mean()
    if clusters < 2 or share in (0, 1):
        return float(clusters)
    residuals = torch.zeros(clusters, dtype=torch.double).index_add_(0, row, hits - share)
    variance = clusters / (clusters - 1) * residuals.square().sum() / count**2
    return count / max(1.0, (variance / (share * (1 - share) / count)).item())


def proportion(hits: Tensor, cluster: Tensor) -> dict[str, Any]:
    """The share of hits, Wilson's interval for the effective count, and the counts; empty where there is no draw."""
    if not len(hits):
        return {}
    share, effective = hits.double().mean().item(), effective_count(hits, cluster)
    low, high = wilson(share, effective)
    return {"mean": round(share, 4), "low": round(low, 4), "high": round(high, 4), "images": len(hits),
            "captions": len(cluster.unique()), "effective_images": round(effective, 1)}
