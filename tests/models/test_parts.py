"""LSTM cell, caption encoder and Gaussians, each by itself."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tests.models.small import BATCH, LENGTH, PRIMES, WORDS_KNOWN, inputs, make
from text2image.models import gaussian
from text2image.models.caption_encoder import from_end
from text2image.models.lstm import LSTMCellFunction, lstm


def draw(*shape: int, seed: int = 4) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def test_the_gradient_of_an_lstm_cell():
    gates, cell = draw(3, 28).requires_grad_(), draw(3, 7, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(LSTMCellFunction.apply, (gates, cell))


def test_an_lstm_cell_is_torchs():
    theirs = torch.nn.LSTMCell(5, 7, dtype=torch.double)
    x, h, cell = draw(3, 5), draw(3, 7, seed=5), draw(3, 7, seed=6)
    gates = x @ theirs.weight_ih.T + theirs.bias_ih + h @ theirs.weight_hh.T + theirs.bias_hh
    out = torch.empty(3, 7, dtype=torch.double)
    with torch.no_grad():
        ours, cell_after, _ = lstm(gates, cell, out=out)
        torch.testing.assert_close((ours, cell_after), theirs(x, (h, cell)))
    assert ours.data_ptr() == out.data_ptr()


def test_captions_are_encoded_apart_and_both_ways():
    """In the paper's encoder a caption's states depend on that caption alone, and each on all its words."""
    model, captions = make(), inputs()[1]
    states = model.caption_encoder(captions)
    assert states.shape == (BATCH, LENGTH, 2 * PRIMES.language_units)
    torch.testing.assert_close(model.caption_encoder(captions[:1]), states[:1])
    changed = captions.clone()
    changed[0, 0] = captions[0, 0] % (WORDS_KNOWN - 1) + 1
    other = model.caption_encoder(changed)
    assert (other[0] != states[0]).any(-1).all()
    units = PRIMES.language_units
    assert (other[0, 1:, units:] == states[0, 1:, units:]).all(), "the backward state of word 2 has not read word 1"


def test_sequences_from_their_end():
    words = torch.tensor([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]])
    assert from_end(words, None).tolist() == [[0, 0, 3, 2, 1], [8, 7, 6, 5, 4]]
    assert from_end(words, torch.tensor([3, 5])).tolist() == [[3, 2, 1, 0, 0], [8, 7, 6, 5, 4]]


def test_divergence_is_that_of_gaussians():
    posterior, prior, noise = draw(3, 5, 14), draw(3, 5, 14, seed=5), draw(3, 5, 7, seed=6)
    q, p = (Normal(mean, log_sigma.exp()) for mean, log_sigma in map(gaussian.mean_and_log_sigma, (posterior, prior)))
    kl, log_weight = gaussian.divergence(posterior, prior, noise)
    z = q.mean + q.stddev * noise
    torch.testing.assert_close(kl, kl_divergence(q, p).sum((0, 2)))
    torch.testing.assert_close(log_weight, (p.log_prob(z) - q.log_prob(z)).sum((0, 2)))
    assert log_weight.mean().item() != pytest.approx(-kl.mean().item())
