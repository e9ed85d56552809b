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


def cluster_shares(hits: Tensor, cluster: Tensor) -> Tensor:
    """The share of hits of each cluster (clusters,), of draws (n,) of 0 and 1 whose clusters are numbered in cluster (n,)."""
    _, row, sizes = cluster.unique(return_inverse=True, return_counts=True)
    return torch.zeros(len(sizes), dtype=torch.double).index_add_(0, row, hits.double()) / sizes


def effective_count(shares: Tensor, draws: int) -> float:
    """To how many independent draws those amount, `draws` in all, of which clusters have the shares (clusters,).

    It is p (1 - p) divided by the variance of p, the mean of the shares, by how they differ; not more than `draws`. Where all
    hit, or none, it is the number of clusters.
    """
    share, clusters = shares.mean().item(), len(shares)
    if clusters < 2 or share in (0, 1):
        return float(clusters)
    variance = shares.var().item() / clusters
    return min(float(draws), share * (1 - share) / variance) if variance else float(draws)


def proportion(hits: Tensor, cluster: Tensor) -> dict[str, Any]:
    """The share of hits, each cluster counting alike; Wilson's interval for the effective count; and the counts. Empty where
    there is no draw. hits and cluster (n,) as for `cluster_shares`."""
    if not len(hits):
        return {}
    shares = cluster_shares(hits, cluster)
    share, effective = shares.mean().item(), effective_count(shares, len(hits))
    low, high = wilson(share, effective)
    return {"mean": round(share, 4), "low": round(low, 4), "high": round(high, 4), "images": len(hits), "captions": len(shares),
            "effective_images": round(effective, 1)}
