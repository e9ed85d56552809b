"""Diagonal Gaussians: posterior Q(Z_t) and prior P(Z_t) of every glimpse.

Letter code: T glimpses, B batch, D latent.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def mean_and_log_sigma(parameters: Float[Tensor, "*batch two_D"],
                       ) -> tuple[Float[Tensor, "*batch D"], Float[Tensor, "*batch D"]]:
    """Mean and log sigma, the halves of a Gaussian's parameters."""
    mean, log_sigma = parameters.chunk(2, -1)
    return mean, log_sigma


def divergence(posterior: Float[Tensor, "T B two_D"], prior: Float[Tensor, "T B two_D"], noise: Float[Tensor, "T B D"],
               ) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Sums over all glimpses of KL(Q || P) (paper, the second term of L), and of log P(z) - log Q(z), in nats.

    `noise` is what z = mu_Q + sigma_Q noise was drawn with (reparameterisation).
    """
    mean, log_sigma = mean_and_log_sigma(posterior)
    prior_mean, prior_log_sigma = mean_and_log_sigma(prior)
    log_sigma_ratio = log_sigma - prior_log_sigma                               # log sigma_Q / sigma_P
    sigma_ratio = log_sigma_ratio.exp()
    distance = (mean - prior_mean) * (-prior_log_sigma).exp()                   # of the means, in sigma_P
    kl = 0.5 * (sigma_ratio.square() + distance.square() - 1) - log_sigma_ratio
    z = torch.addcmul(distance, sigma_ratio, noise)                             # z - mu_P, in sigma_P
    log_weight = 0.5 * (noise.square() - z.square()) + log_sigma_ratio
    return kl.sum((0, 2)), log_weight.sum((0, 2))


def divergence_of_glimpses(posterior: Float[Tensor, "T B two_D"], prior: Float[Tensor, "T B two_D"]) -> Float[Tensor, "T B"]:
    """KL(Q(Z_t) || P(Z_t)) of every glimpse t, in nats."""
    mean, log_sigma = mean_and_log_sigma(posterior)
    prior_mean, prior_log_sigma = mean_and_log_sigma(prior)
    log_sigma_ratio = log_sigma - prior_log_sigma
    distance = (mean - prior_mean) * (-prior_log_sigma).exp()
    return (0.5 * (log_sigma_ratio.exp().square() + distance.square() - 1) - log_sigma_ratio).sum(2)
