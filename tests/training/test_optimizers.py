"""RMSprop as the released code has it, sparse gradients, clipping."""

import pytest
import torch

from tests.small import SMALL
from text2image import seeds
from text2image.models.align_draw import AlignDRAW
from text2image.training.optimizers import RMSprop, clip_gradients


def test_rmsprop_is_the_released_one():
    """h = 0.9 h + 0.1 g^2; w -= rate g / sqrt(h + 1e-6), coco/alignDraw.py:422; the first step is 3.16 rates long."""
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.double))
    optimizer = RMSprop([weight], 0.01, 0.9, 1e-6)
    expected, square = weight.detach().clone(), torch.zeros(2, dtype=torch.double)
    for gradient in (torch.tensor([3.0, 1e-4]), torch.tensor([-1.0, 2e-4]), torch.tensor([0.0, 0.0])):
        weight.grad = gradient.double()
        optimizer.step()
        square = 0.9 * square + 0.1 * gradient.double() ** 2
        expected -= 0.01 * gradient.double() / (square + 1e-6).sqrt()
        torch.testing.assert_close(weight.detach(), expected)
    assert optimizer.state[weight]["mean_square"].tolist() == pytest.approx(square.tolist())


def test_clipping():
    def gradients(how: str, scale: float) -> list[list[float]]:
        model = torch.nn.Linear(2, 1)
        model.weight.grad, model.bias.grad = scale * torch.tensor([[3.0, 4.0]]), scale * torch.tensor([12.0])
        clip_gradients(model, how, 10.0)
        return [model.weight.grad.flatten().tolist(), model.bias.grad.tolist()]

    assert gradients("per_tensor", 1.0) == [[3.0, 4.0], [pytest.approx(10.0)]]
    assert gradients("per_tensor", 4.0) == [pytest.approx([6.0, 8.0]), pytest.approx([10.0])]
    assert gradients("global", 1.0) == [pytest.approx([30 / 13, 40 / 13]), pytest.approx([120 / 13])]
    assert gradients("global", 0.5) == [[1.5, 2.0], [6.0]]


def test_gradients_of_the_words_that_occur_alone_train_as_those_of_all_words():
    """So does a run that goes on with dense gradients where it had sparse ones."""
    def trained(*sparse: bool) -> dict[str, torch.Tensor]:
        model = AlignDRAW(SMALL, 200).double()
        model.reset(seeds.torch_generator(1, "weights"))
        optimizer = RMSprop(model.parameters(), 0.003, 0.9, 1e-6)
        generator = seeds.torch_generator(2)
        for model.sparse_gradients in sparse:
            words = torch.randint(1, 200, (5, 6), generator=generator)
            noise = torch.randn(SMALL.glimpses, 5, SMALL.latent, generator=generator, dtype=torch.double)
            optimizer.zero_grad()
            model.elbo(torch.full((5, 1, 18, 18), 0.3, dtype=torch.double), words, noise).negative_elbo.mean().backward()
            assert model.caption_encoder.forward_lstm.table.grad.is_sparse == model.sparse_gradients
            clip_gradients(model, "global", 10.0)
            optimizer.step()
        return model.state_dict()

    dense = trained(*[False] * 12)
    for other in (trained(*[True] * 12), trained(*[True] * 6, *[False] * 6), trained(*[False] * 6, *[True] * 6)):
        for name, value in dense.items():
            torch.testing.assert_close(other[name], value, rtol=1e-9, atol=1e-12, msg=name)


def test_a_step_where_every_gradient_is_sparse_moves_the_rows_that_occur():
    table = torch.nn.Embedding(5, 3, sparse=True)
    before = table.weight.detach().clone()
    optimizer = RMSprop(table.parameters(), 0.01, 0.9, 1e-6)
    table(torch.tensor([1, 3])).sum().backward()
    clip_gradients(table, "global", 10.0)
    optimizer.step()
    moved = (table.weight != before).any(1)
    assert moved.tolist() == [False, True, False, True, False]


def test_a_saved_state_keeps_the_step_numbers_of_sparse_rows_whole():
    """As floats they would be wrong from step 2^24 on."""
    def make() -> tuple[torch.nn.Embedding, RMSprop]:
        torch.manual_seed(0)
        table = torch.nn.Embedding(7, 3, sparse=True)
        return table, RMSprop(table.parameters(), 0.01, 0.9, 1e-6)

    def step(table: torch.nn.Embedding, optimizer: RMSprop, *rows: int) -> None:
        optimizer.zero_grad()
        (table(torch.tensor(rows)) ** 2).sum().backward()
        optimizer.step()

    whole, broken = make(), make()
    step(*whole, 1, 2)
    step(*broken, 1, 2)
    saved = broken[1].state_dict()
    saved["state"][0] |= {"step": 2**24 + 3, "last": saved["state"][0]["last"] + 2**24 + 1}
    resumed = make()
    resumed[0].load_state_dict(broken[0].state_dict())
    resumed[1].load_state_dict(saved)
    last = resumed[1].state[resumed[0].weight]["last"]
    assert last.dtype == torch.int64
    assert last.tolist() == [2**24 + 1, 2**24 + 2, 2**24 + 2, *[2**24 + 1] * 4]
    step(*resumed, 2, 5)
    assert saved["state"][0]["last"].tolist()[2] == 2**24 + 2, "the saved state is not written to"
