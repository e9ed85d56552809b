"""alignDRAW's bound written out glimpse by glimpse from the equations, in eager PyTorch: the benchmark's yardstick.

It takes its weights from a model of the package, uses nothing else of it, and hoists, fuses and gathers nothing.
"""

import torch
from torch.nn import functional as F


def lstm(x, h, cell, weight_input, weight_hidden, bias):
    gates = x @ weight_input.T + h @ weight_hidden.T + bias
    i, f, g, o = gates.chunk(4, dim=1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def encode(words, weights, encoder):
    h = weights["caption_encoder.h0"].expand(len(words), -1)
    cell = torch.zeros_like(h)
    states = []
    for y in words.T:
        table, hidden, bias = (weights[f"caption_encoder.{encoder}.{n}"] for n in ("table", "weight_hidden", "bias"))
        gates = F.embedding(y, table) + h @ hidden.T + bias
        i, f, g, o = gates.chunk(4, dim=1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(cell)
        states.append(h)
    return states


def banks(p, height, width, n):
    """DRAW, equations 22 to 26, pixels and filters counted from 1."""
    g_x = (width + 1) / 2 * (p[:, 0] + 1)
    g_y = (height + 1) / 2 * (p[:, 1] + 1)
    delta = (max(height, width) - 1) / (n - 1) * torch.exp(p[:, 2])
    variance = torch.exp(p[:, 3])
    gamma = torch.exp(p[:, 4])
    i = torch.arange(1, n + 1, dtype=p.dtype, device=p.device)
    offset = (i - n / 2 - 0.5) * delta[:, None]

    def bank(g, extent):
        a = torch.arange(1, extent + 1, dtype=p.dtype, device=p.device)
        f = torch.exp(-(a - (g[:, None] + offset)[:, :, None]) ** 2 / (2 * variance[:, None, None]))
        return f / (f.sum(dim=2, keepdim=True) + 1e-8)

    return bank(g_y, height), bank(g_x, width), gamma


def bound(model, images, words, noise):
    """The mean over the batch of -L, in nats; images (B, C, H, W), words (B, L), noise (T, B, D)."""
    c, w = model.config, dict(model.named_parameters())
    batch, channels, height, width = images.shape
    n, p = c.read_window, c.write_window
    onward = encode(words, w, "forward_lstm")
    back = encode(words.flip(1), w, "backward_lstm")[::-1]
    h_lang = torch.stack([torch.cat(both, dim=1) for both in zip(onward, back, strict=True)], dim=1)

    h_gen, h_infer = w["h0_generate"].expand(batch, -1), w["h0_infer"].expand(batch, -1)
    cell_gen, cell_infer = torch.zeros_like(h_gen), torch.zeros_like(h_infer)
    canvas = w["c0"].transpose(1, 2).expand(batch, -1, -1, -1)
    kl = 0
    for t in range(len(noise)):
        # align
        scores = torch.tanh(h_lang @ w["align.language"].T + (h_gen @ w["align.generate.weight"].T
                            + w["align.generate.bias"])[:, None]) @ w["align.v"]
        alpha = torch.softmax(scores, dim=1)
        s = (alpha[:, :, None] * h_lang).sum(dim=1)
        # read
        error = images - torch.sigmoid(canvas)
        f_y, f_x, gamma = banks(h_gen @ w["read.weight"].T + w["read.bias"], height, width, n)
        seen = [gamma[:, None] * (f_y[:, None] @ picture @ f_x[:, None].mT).transpose(1, 2).flatten(1)
                for picture in (images, error)]
        # infer
        h_infer, cell_infer = lstm(torch.cat([*seen, h_gen], dim=1), h_infer, cell_infer,
                                   w["infer.weight_input"], w["infer.weight_hidden"], w["infer.bias"])
        mean, log_sigma = (h_infer @ w["posterior.weight"].T + w["posterior.bias"]).chunk(2, dim=1)
        z = mean + torch.exp(log_sigma) * noise[t]
        if t == 0:
            prior_mean = prior_log_sigma = torch.zeros_like(mean)
        else:
            prior_mean, prior_log_sigma = torch.tanh(h_gen @ w["prior.weight"].T).chunk(2, dim=1)
        kl = kl + (prior_log_sigma - log_sigma - 0.5
                   + (torch.exp(2 * log_sigma) + (mean - prior_mean) ** 2) / (2 * torch.exp(2 * prior_log_sigma))).sum(dim=1)
        # generate
        h_gen, cell_gen = lstm(torch.cat([z, s], dim=1), h_gen, cell_gen,
                               w["generate.weight_input"], w["generate.weight_hidden"], w["generate.bias"])
        # write
        f_y, f_x, gamma = banks(h_gen @ w["write.weight"].T + w["write.bias"], height, width, p)
        patch = (h_gen @ w["patch.weight"].T + w["patch.bias"]).view(batch, p, channels, p).transpose(1, 2)
        canvas = canvas + (f_y.mT[:, None] @ patch @ f_x[:, None]) / gamma[:, None, None, None]
    likelihood = F.binary_cross_entropy_with_logits(canvas, images, reduction="none").flatten(1).sum(dim=1)
    return (likelihood + kl).mean()
