"""The training step: forward, backward, clip, update. One object, so that it can be replaced: eager, distributed, captured."""

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from text2image.data.datasets import Batch
from text2image.errors import UserWarningLine, printable
from text2image.models import fusing
from text2image.models.base import Bound, ImageModel
from text2image.training.distributed import DistributedContext
from text2image.training.optimizers import clip_gradients
from text2image.training.train_config import TrainConfig

EAGER_FIRST = 2   # steps of a caption width before it is captured: they fill caches, and odd widths have no more
MOST_GRAPHS = 32  # caption widths that are captured; a graph of six thousand kernels takes some megabytes of each memory

Replay = Callable[[], Tensor]


class EagerStep:
    """One step at a time, operation by operation, in one process."""

    capturable = False  # whether the optimizer's numbers all lie on the device

    def __init__(self, model: ImageModel, config: TrainConfig, context: DistributedContext):
        self.model, self.config, self.context = model, config, context
        # On a GPU and between processes a dense gradient is faster, and its shape is always the same.
        model.sparse_gradients = (config.optimizer.takes_sparse and context.device.type == "cpu" and context.world_size == 1)
        model.checkpoint_every = config.checkpoint_every
        fusing.allow(config.compile == "always" or (config.compile == "auto" and context.device.type == "cuda"))
        self.learning_rate = config.learning_rate
        self.kl_weight: float | Tensor = 1.0
        self.optimizer = config.optimizer.make(model.parameters(), config.learning_rate, self.capturable)
        self.forward: nn.Module = model

    def __call__(self, batch: Batch, noise: Tensor, learning_rate: float, kl_weight: float = 1.0) -> Tensor:
        """Update the weights by the mean negative ELBO of a batch, its KL weighted; noise as `model.noise_shape` says.

        Returns the sums of reconstruction and KL over this process's shard, (2,) float64, without waiting for a GPU.
        """
        self._set(learning_rate, kl_weight)
        return self._update(batch, noise)

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state; the same of every kind of step."""
        state = self.optimizer.state_dict()
        return state | {"param_groups": [group | {"lr": self.learning_rate} for group in state["param_groups"]]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, also that of another kind of step or on another device."""
        groups = [{**own, "params": saved["params"]}
                  for saved, own in zip(state["param_groups"], self.optimizer.param_groups, strict=True)]
        self.optimizer.load_state_dict(state | {"param_groups": groups})

    def _set(self, learning_rate: float, kl_weight: float) -> None:
        self.learning_rate, self.kl_weight = learning_rate, kl_weight
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def _update(self, batch: Batch, noise: Tensor) -> Tensor:
        captions = len(batch.words)
        noise, batch = noise[:, self.context.shard], batch.shard(self.context.shard)
        bound = self.forward(batch.images, batch.words, noise, batch.lengths)
        self.optimizer.zero_grad()
        # Gradients of several processes are means over them.
        cost = bound.reconstruction + self.kl_weight * bound.kl if self.config.kl_warmup else bound.negative_elbo
        (cost.sum() * (self.context.world_size / captions)).backward()
        clip_gradients(self.model, self.config.clip, self.config.clip_norm)
        self.optimizer.step()
        return sums(bound)


class DistributedStep(EagerStep):
    """As `EagerStep`, in each of several processes; gradients are averaged over them by DistributedDataParallel."""

    def __init__(self, model: ImageModel, config: TrainConfig, context: DistributedContext):
        super().__init__(model, config, context)
        self.forward = DistributedDataParallel(model)


class CapturedStep(EagerStep):
    """As `EagerStep`, but the operations of a full batch are recorded once for each caption width, and then replayed at once:
    on a GPU as a CUDA graph, which starts all kernels without the host (`GraphRecorder`).

    What a recording reads lies at fixed places, into which each batch is copied; the learning rate and the weight of the KL
    are numbers on the device. Batches that are not full, the first steps of a width, and widths beyond `MOST_GRAPHS` are
    eager. Recordings share one pool of memory, that of the largest, beside what eager steps take. Where recording fails, one
    line says so and all steps are eager.

    `record` gives what does again what a function does, and returns its result at the same place each time.
    """

    def __init__(self, model: ImageModel, config: TrainConfig, context: DistributedContext,
                 record: Callable[[Replay], Replay] | None = None):
        self.capturable = context.device.type != "cpu"  # PyTorch's AdamW is that on GPUs alone
        super().__init__(model, config, context)
        self.record = GraphRecorder() if record is None else record
        self.rate, self.weight_of_kl = (torch.zeros((), device=context.device) for _ in range(2))
        self.places: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self.replays: dict[tuple[int, bool], Replay] = {}
        self.seen: Counter[tuple[int, bool]] = Counter()
        self.failed = False

    def __call__(self, batch: Batch, noise: Tensor, learning_rate: float, kl_weight: float = 1.0) -> Tensor:
        """As `EagerStep`."""
        self._set(learning_rate, kl_weight)
        width = batch.words.shape[1], batch.lengths is not None
        if len(batch.words) != self.config.batch_size or self.failed:
            return self._update(batch, noise)
        if width not in self.replays:
            self.seen[width] += 1
            if self.seen[width] <= EAGER_FIRST or len(self.replays) == MOST_GRAPHS:
                return self._update(batch, noise)
        placed, placed_noise = self._place(batch, noise)
        if width not in self.replays:
            self.optimizer.zero_grad()
            try:
                self.replays[width] = self.record(lambda: self._update(placed, placed_noise))
            except RuntimeError as error:  # all of PyTorch's and CUDA's: no memory, an operation that cannot be captured
                self._give_up(error)
                return self._update(batch, noise)
        return self.replays[width]().clone()  # the next replay overwrites it

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `EagerStep`. What was recorded writes to the state before: it is recorded anew."""
        super().load_state_dict(state)
        self.replays.clear()
        self.seen.clear()

    def _set(self, learning_rate: float, kl_weight: float) -> None:
        super()._set(learning_rate, kl_weight)
        self.kl_weight = self.weight_of_kl.fill_(kl_weight)
        if self.capturable:
            self.rate.fill_(learning_rate)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate

    def _place(self, batch: Batch, noise: Tensor) -> tuple[Batch, Tensor]:
        """The batch and its noise, copied to where recordings read them; all widths share what is of one shape."""
        def at_its_place(name: str, value: Tensor) -> Tensor:
            key = name, tuple(value.shape)
            if key not in self.places:
                self.places[key] = torch.empty_like(value)
            return self.places[key].copy_(value)

        lengths = None if batch.lengths is None else at_its_place("lengths", batch.lengths)
        placed = Batch(at_its_place("images", batch.images), at_its_place("words", batch.words), batch.image_index, lengths)
        return placed, at_its_place("noise", noise)

    def _give_up(self, error: RuntimeError) -> None:
        self.failed = True
        self.replays.clear()
        warnings.warn(f"the training step could not be captured, and goes on operation by operation, which takes longer: "
                      f"{printable(str(error), 300)}; train.capture: off does so from the start", UserWarningLine, stacklevel=3)


class GraphRecorder:
    """Records functions as CUDA graphs, which share a pool of memory: one is replayed at a time, and none reads what another
    left there."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Replay) -> Replay:
        """What replays `function`, which is run once to record it and computes nothing then."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            result = function()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


def make_step(model: ImageModel, config: TrainConfig, context: DistributedContext) -> EagerStep:
    """The step for this world: captured on one GPU unless `config.capture` is off, eager on one CPU, else distributed."""
    if context.world_size > 1:
        return DistributedStep(model, config, context)
    captured = config.capture == "auto" and context.device.type == "cuda"
    return (CapturedStep if captured else EagerStep)(model, config, context)


def sums(bound: Bound) -> Tensor:
    """Summed reconstruction and KL of a batch, (2,) float64."""
    return torch.stack([bound.reconstruction.detach().sum(), bound.kl.detach().sum()]).double()
