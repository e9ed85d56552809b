"""A second device in PyTorch, for tests on a machine without a GPU: it computes on the CPU, and refuses what CUDA refuses.

Its tensors are of device type `simulated`, PyTorch's PrivateUse1, and hold a tensor of the CPU each. An operation on them
runs on what they hold, after the check that CUDA makes: all of its tensors lie on one device, but for single numbers
and indices. What is expensive on a GPU is counted:

    launches  operations that a GPU would start a kernel for, or several; views and new empty memory are none
    waits     the host waits until the device has come so far: a number is read, or a shape depends on numbers
    copies    from the host to the device, for which the host waits too: its memory was not pinned, or `non_blocking` is off

A kernel takes as long as it takes on the CPU: times say nothing. `record` stands in for a CUDA graph.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import library
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from text2image import devices, seeds

NAME = "simulated"
CPU = torch.device("cpu")
# The shape of what they give, or the answer itself, depends on numbers that lie on the device.
READS = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount",
         "is_nonzero", "_linalg_check_errors"}
STARTS_NOTHING = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "lift_fresh", "_unsafe_view",
                  "_reshape_alias", "alias", "is_same_size", "set_", "resize_", "_local_scalar_dense", "unbind", "split_with_sizes"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}  # by indices of the host too: they are copied


class Counts(NamedTuple):
    """What was asked of the device."""

    launches: int
    waits: int
    copies: int


class SimulatedTensor(torch.Tensor):
    """A tensor of the device; `held` lies on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "SimulatedTensor":
        self = torch.Tensor._make_wrapper_subclass(cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
                                                   dtype=held.dtype, device=the_device())
        self.held = held
        return self

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})

    def __reduce_ex__(self, protocol):
        """Saved as torch.load reads it with map_location="cpu"."""
        _happened.update(waits=1)
        return self.held.__reduce_ex__(protocol)

    def __getitem__(self, index):
        """A list of rows is a tensor of the host, as on a GPU; PyTorch makes none for tensors of a subclass."""
        return super().__getitem__(torch.as_tensor(index, dtype=torch.int64) if isinstance(index, list) else index)

    def tolist(self):
        """As of any tensor, which PyTorch refuses for subclasses."""
        return self.cpu().tolist()

    def __repr__(self, **_: object) -> str:
        return f"{NAME}({self.held!r})"


class Backend(_DummyBackendModule):
    """What PyTorch asks of a device's module; PyTorch's own for tests has no types for torch.autocast."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_happened: Counter[str] = Counter()
_by_operation: Counter[str] = Counter()
_tapes: list[list["Recorded"]] = []  # what is being recorded, if anything
_registered: list[library.Library] = []  # for as long as the process lasts


def the_device() -> torch.device:
    """The device, registered when it is first asked for: PyTorch allows that once a process, and before the first gradient.

    Where there is a GPU it would be taken for that in its place; tests/conftest.py registers it where there is none.
    """
    if not _registered:
        _setup_privateuseone_for_python_backend(NAME, Backend())
        _registered.extend(library.Library(namespace, "IMPL") for namespace in ("_", "aten"))
        _registered[0].fallback(lambda operation, *args, **kwargs: _run(operation, args, kwargs), "PrivateUse1")
        for overload in torch.ops.aten.arange.overloads():  # PyTorch's own makes an empty tensor, and changes its shape
            if overload in ("default", "start", "start_step"):
                _registered[1].impl(f"arange.{overload}".removesuffix(".default"), partial(_range, overload), "PrivateUse1")
    return torch.device(NAME, 0)


@contextmanager
def counting() -> Iterator[list[Counts]]:
    """Counts from here to the end of the block, put into the list then."""
    before, found = Counter(_happened), []
    yield found
    found.append(Counts(*(_happened[name] - before[name] for name in Counts._fields)))


@contextmanager
def by_operation() -> Iterator[Counter[str]]:
    """Launches from here to the end of the block, by the operation's name."""
    before, found = Counter(_by_operation), Counter()
    yield found
    found.update(_by_operation - before)


class Recorded(NamedTuple):
    """An operation, what it took and what it gave: tensors of the CPU, whose memory is the device's."""

    operation: Any
    args: Any
    kwargs: Any
    result: Any

    def again(self) -> None:
        """Compute it anew from what lies there now; the result goes to where it lay before."""
        found = self.operation(*self.args, **self.kwargs)
        memory = {tensor.untyped_storage().data_ptr() for tensor in _tensors((*self.args, *self.kwargs.values()))}
        for old, new in zip(_tensors([self.result]), _tensors([found]), strict=True):
            if old is not new and old.untyped_storage().data_ptr() not in memory:  # neither in place nor a view
                old.copy_(new)


def record(function: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """What a CUDA graph does, as text2image.training.step.GraphRecorder: the operations of the device that `function` starts,
    with what they took, are done again at each call; nothing of the host is.

    Raises RuntimeError where `function` waits for the device or copies to it. It computes while it is recorded: the first call
    does nothing.
    """
    _tapes.append([])
    try:
        result = function()
    finally:
        tape = _tapes.pop()
    calls: list[int] = []

    def replay() -> torch.Tensor:
        if calls:
            for step in tape:
                step.again()
        calls.append(1)
        return result

    return replay


def pinned(tensor: torch.Tensor) -> torch.Tensor:
    """In place of torch.Tensor.pin_memory: the tensor, which knows that it is pinned from now on."""
    tensor = tensor.clone()
    tensor.is_simulated_pinned = True
    return tensor


@pytest.fixture
def simulated(monkeypatch) -> torch.device:
    """The device; our code finds it wherever it looks for a GPU."""
    if torch.cuda.is_available():
        pytest.skip("tests/test_cuda.py does this on the GPU")
    device, tensor, stream = the_device(), torch.tensor, seeds.torch_generator

    def tensor_there(data, *, device=None, **named):
        made = tensor(data, device=CPU if device is not None and torch.device(device).type == NAME else device, **named)
        return made if device is None else made.to(device)

    # PyTorch has no generator, no pinned memory and no torch.tensor for a device of this kind.
    monkeypatch.setattr(seeds, "torch_generator", lambda *names, device="cpu": stream(*names))
    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch, "tensor", tensor_there)
    monkeypatch.setattr(devices, "choose", lambda wanted: CPU if wanted == "cpu" else device)
    return device


def _range(overload: str, *args: Any, **kwargs: Any) -> torch.Tensor:
    return _run(getattr(torch.ops.aten.arange, overload), args, kwargs)


def _held(value: Any) -> Any:
    """The same with what the tensors of the device hold, in lists and blocks too."""
    if isinstance(value, SimulatedTensor):
        return value.held
    if isinstance(value, list | tuple):
        return [_held(item) for item in value]
    return {name: _held(item) for name, item in value.items()} if isinstance(value, dict) else value


def _run(operation, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The operation on the CPU, checked and counted; its results on the device that CUDA would give them."""
    name = operation._schema.name.removeprefix("aten::")
    inputs = list(_tensors((*args, *kwargs.values())))
    of_device = [value for value in inputs if isinstance(value, SimulatedTensor)]
    if name in ("_to_copy", "copy_"):
        return _copy(operation, name, args, kwargs)
    to = kwargs.get("device")
    if to is not None:
        kwargs = kwargs | {"device": CPU}
    _check_devices(operation, name, args, inputs, of_device)
    _count(operation, name, args, inputs)
    held = _held(args), _held(kwargs)
    result = operation(*held[0], **held[1])
    if _tapes and name not in STARTS_NOTHING and not operation.is_view:
        _tapes[-1].append(Recorded(operation, *held, result))
    if to is not None and torch.device(to).type != NAME:
        return result
    known = {id(value.held): value for value in of_device}
    return _wrapped(result, known)


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Those among an operation's arguments, in lists too."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _wrapped(value: Any, known: dict[int, SimulatedTensor]) -> Any:
    """The tensor of the device that holds `value`: the one that was written to, or a new one; in lists too."""
    if isinstance(value, list | tuple):
        return type(value)(_wrapped(item, known) for item in value)
    if not isinstance(value, torch.Tensor):
        return value
    if id(value) not in known:
        return SimulatedTensor(value)
    assert known[id(value)].shape == value.shape, "an operation in place changed a shape: the simulation does not know that"
    return known[id(value)]


def _copy(operation, name: str, args: tuple, kwargs: dict[str, Any]) -> torch.Tensor:
    """`to` and `copy_`, the two operations that may go from device to device."""
    blocking = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
    source = args[1] if name == "copy_" else args[0]
    if name == "copy_":
        to_device = isinstance(args[0], SimulatedTensor)
    else:
        to = kwargs.get("device")
        to_device = isinstance(source, SimulatedTensor) if to is None else torch.device(to).type == NAME
        kwargs = kwargs | ({} if to is None else {"device": CPU})
    if isinstance(source, SimulatedTensor) and not to_device:
        _stopped("waits")
    elif isinstance(source, SimulatedTensor):
        _launched(name)
    elif blocking or not hasattr(source, "is_simulated_pinned"):
        _stopped("copies")
    held = operation(*_held(args), **kwargs)
    if _tapes:
        _tapes[-1].append(Recorded(operation, _held(args), kwargs, held))
    if name == "copy_":
        return args[0]
    if held is _held(source):
        held = held.clone()
    return SimulatedTensor(held) if to_device else held


def _check_devices(operation, name: str, args: tuple, inputs: list[torch.Tensor], of_device: list[torch.Tensor]) -> None:
    """Raise RuntimeError where CUDA does: tensors of the host among those of the device, unless they are single numbers."""
    if not of_device:
        return
    foreign = [value for value in inputs if not isinstance(value, SimulatedTensor)]
    if name in INDEXING and isinstance(args[0], SimulatedTensor):
        copied = [value for value in args[1] if value is not None and not isinstance(value, SimulatedTensor)]
        _stopped("copies", len(copied))
        foreign = [value for value in foreign if not any(value is index for index in copied)]
    in_lists = {id(item) for value in args if isinstance(value, list | tuple) and "foreach" not in name for item in value}
    bad = [value for value in foreign if value.dim() or id(value) in in_lists]
    if bad:
        raise RuntimeError(f"Expected all tensors to be on the same device, but {operation} found {NAME}:0 and cpu, "
                           f"{tuple(bad[0].shape)}")


def _count(operation, name: str, args: tuple, inputs: list[torch.Tensor]) -> None:
    masks = name in INDEXING and any(value is not None and value.dtype in (torch.bool, torch.uint8) for value in args[1])
    repeats = operation._schema.name == "aten::repeat_interleave" and operation._overloadname != "self_int"
    if name in READS or masks or repeats:
        _stopped("waits")
    if name not in STARTS_NOTHING and not operation.is_view:
        _launched(name, _kernels(name, args))


def _kernels(name: str, args: tuple) -> int:
    """One for a list of tensors (`_foreach`), but one for each where two lists differ in their shapes."""
    lists = [value for value in args if name.startswith("_foreach") and isinstance(value, list | tuple)
             and isinstance(value[0], torch.Tensor)]
    together = all([item.shape for item in other] == [item.shape for item in lists[0]] for other in lists[1:])
    return 1 if together else len(lists[0])


def _stopped(why: str, times: int = 1) -> None:
    """The host waits; while a graph is recorded it may not."""
    if _tapes and times:
        raise RuntimeError(f"operation not permitted while a graph is recorded: {why}")
    _happened.update({why: times})


def _launched(name: str, kernels: int = 1) -> None:
    _happened.update(launches=kernels)
    _by_operation.update({name: kernels})
