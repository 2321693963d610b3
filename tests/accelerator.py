"""An accelerator that is none: tensors on the device `DEVICE` compute on the CPU, and what a GPU minds is noted.

As on a GPU, an operation takes tensors of its own device alone. Unlike a fake tensor each has its values, so that
whole trainings and evaluations run on it, and give the CPU's own numbers. `Watch` notes each time that the host waits
for the device, and each operation that would be a kernel.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import optimizer as optimizers
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

#: a device that every build of torch knows, that nothing uses, and whose backward pass stays in the caller's thread
NAME = "lazy"
DEVICE = torch.device(NAME, 0)
#: operations whose result the host has to see, or whose shape depends on values
WAITING = {
    *("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "unique_consecutive"),
    *("unique_dim_consecutive", "repeat_interleave", "bincount", "is_nonzero"),
}
#: what takes tensors of several devices on a GPU as well
MIXING = {"_to_copy", "copy_", "set_", "_pin_memory", "is_pinned"}
#: what starts no kernel: another look at the same memory, or memory that is not written to
SILENT = {
    "detach",
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "is_pinned",
    "_pin_memory",
}


class Remote(Tensor):
    """A tensor of the pretended device; ``held`` is the CPU's with its values."""

    held: Tensor

    @staticmethod
    def __new__(cls: type[Remote], held: Tensor) -> Remote:
        remote: Remote = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
            requires_grad=False,
        )
        remote.held = held
        return remote

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self) -> Any:
        return self.to("cpu").tolist()

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, **options).to(self.device)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} outside of `on_the_accelerator`")


class Watch(TorchDispatchMode):
    """Carries out what is asked of the pretended device; what ``counted`` says of a call's place is counted.

    ``counted`` is given the frame that called torch, and returns a place, or None for calls that are of no interest.
    """

    def __init__(self, counted: Callable[[Any], str | None] = lambda frame: None) -> None:
        super().__init__()
        self.counted = counted
        #: (place, operation) -> how often the host waited there
        self.waits: Counter[tuple[str, str]] = Counter()
        #: operation -> how often it was started, counting places alone
        self.kernels: Counter[str] = Counter()
        self._pinned: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        leaves = pytree.arg_tree_leaves(*args, **kwargs)
        name = func.overloadpacket.__name__
        here, there = _of(leaves, Remote), [leaf for leaf in leaves if type(leaf) is not Remote and _is_plain(leaf)]
        asked = kwargs.get("device")
        target = torch.device(asked) if asked is not None else None
        is_remote = target.type == NAME if target is not None else bool(here)
        if name == "copy_":
            is_remote = isinstance(args[0], Remote)
        if kwargs.pop("pin_memory", None):
            made = func(*args, **kwargs)
            self._pinned.add(made.untyped_storage().data_ptr())
            return made
        if not here and not is_remote:
            return func(*args, **kwargs)
        if here and name not in MIXING and any(leaf.dim() for leaf in there):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found {NAME} and cpu")
        self._note(func, name, args, kwargs, bool(here), is_remote)
        if target is not None and target.type == NAME:
            kwargs["device"] = torch.device("cpu")
        plain_args, plain_kwargs = pytree.tree_map_only(Remote, lambda leaf: leaf.held, (args, kwargs))
        out = func(*plain_args, **plain_kwargs)
        if not is_remote:
            # a copy, as one of another device's memory is
            return out.clone() if name == "_to_copy" and out is plain_args[0] else out
        if (
            name == "_to_copy"
            and not here
            and out.untyped_storage().data_ptr() == plain_args[0].untyped_storage().data_ptr()
        ):
            out = out.clone()
        wrapped = pytree.tree_map_only(Tensor, Remote, out)
        if name == "copy_" and not here:
            return args[0]
        return return_and_correct_aliasing(func, args, kwargs, wrapped)

    def _note(self, func: Any, name: str, args: Any, kwargs: Any, here: bool, is_remote: bool) -> None:
        place = self.counted(sys._getframe(2))
        if place is None:
            return
        if name not in SILENT and not func.is_view:
            self.kernels[name] += 1
        waits = name in WAITING
        if name in ("_to_copy", "copy_"):
            source = args[1] if name == "copy_" else args[0]
            crosses = isinstance(source, Remote) != is_remote
            pinned = not isinstance(source, Remote) and source.untyped_storage().data_ptr() in self._pinned
            # from pageable memory a copy waits whatever it is told
            waits = crosses and not (pinned and (kwargs.get("non_blocking") or True in args[2:]))
        if name in ("index", "index_put_", "index_put"):
            indices = [index for index in args[1] if index is not None]
            # a mask's true places have to be counted first, save where a single value is put there
            waits = any(index.dtype is torch.bool for index in indices) and (name == "index" or args[2].dim() > 0)
        if waits:
            self.waits[place, name] += 1


def _of(leaves: Any, kind: type) -> list[Any]:
    return [leaf for leaf in leaves if isinstance(leaf, kind)]


def _is_plain(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and not isinstance(leaf, Remote)


@contextmanager
def on_the_accelerator(counted: Callable[[Any], str | None] = lambda frame: None) -> Iterator[Watch]:
    """The pretended device, for as long as the context lasts."""
    autocast, fused = torch.autocast, optimizers._get_fused_kernels_supported_devices
    is_autocast_enabled = torch.is_autocast_enabled

    def no_autocast(kind: str, *arguments: Any, **options: Any) -> Any:
        return nullcontext() if kind == NAME else autocast(kind, *arguments, **options)

    def through_the_host(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        # torch's own makes the values on the device, which this one cannot
        def made(*arguments: Any, device: Any = None, **options: Any) -> Tensor:
            if device is None or torch.device(device).type != NAME:
                return make(*arguments, device=device, **options)
            values = pytree.tree_map_only(Remote, lambda value: value.to("cpu"), arguments)
            return make(*values, **options).to(device)

        return made

    with pytest.MonkeyPatch.context() as patch, Watch(counted) as watch:
        for name in ("tensor", "as_tensor"):
            patch.setattr(torch, name, through_the_host(getattr(torch, name)))
        # what a GPU has, and torch knows not of this device
        patch.setattr(torch, "autocast", no_autocast)
        patch.setattr(torch, "is_autocast_enabled", lambda *kind: NAME not in kind and is_autocast_enabled(*kind))
        patch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: [*fused(), NAME])
        yield watch


def within(function: str, file: str) -> Callable[[Any], str | None]:
    """Of a call below ``function`` of ``file``: the innermost line of the project's own trainables."""

    def place(frame: Any) -> str | None:
        innermost = None
        while frame is not None:
            path = frame.f_code.co_filename
            if innermost is None and "/trainables/" in path and "/tests/" not in path:
                innermost = f"{path.rpartition('/trainables/')[2]}:{frame.f_lineno}"
            if frame.f_code.co_name == function and path.endswith(file):
                return innermost
            frame = frame.f_back
        return None

    return place
