"""Networks of torchvision by their names, and weights from a file; nothing is ever downloaded."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from trainables import backbones
from trainables.benchmarks import Data, DataError
from trainables.resnet import ReplicatedResNet18

#: settings that a module of torchvision's needs for inputs of ``size`` pixels and one output, by the module's name
_SETTINGS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "vision_transformer": lambda size: {"image_size": size},
    "maxvit": lambda size: {"input_size": (size, size)},
    "googlenet": lambda size: {"aux_logits": False, "init_weights": True},
    "inception": lambda size: {"aux_logits": False, "init_weights": True},
}
#: where a checkpoint keeps its weights, beside other things
_WITHIN = ("state_dict", "model_state_dict", "model")


class Network(nn.Module):
    """A network of torchvision: images (B, 3, H, H) to what goes into its classifier (B, d), and logits (B, classes).

    ``body`` has torchvision's own names. Raises ``ValueError`` for a network whose classifier is no linear layer.
    """

    def __init__(self, name: str, size: int, data: Data) -> None:
        super().__init__()
        builder: Any = torchvision.models.get_model_builder(name)
        kind = builder.__module__.rpartition(".")[2]
        settings = _SETTINGS[kind](size) if kind in _SETTINGS else {}
        self.body: nn.Module = builder(weights=None, num_classes=data.classes, **settings)
        linear = [name for name, module in self.body.named_modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ValueError(f"the classifier of {name} is no linear layer: name another network")
        self.classifier = self.body.get_submodule(linear[-1])
        self.body.set_submodule(linear[-1], nn.Identity())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        return features, self.classifier(features)


def check(name: str) -> None:
    """``name`` is a network of torchvision's, or one's own; ``ValueError`` with one sentence and the nearest names."""
    if ":" in name:
        backbones.find(name)
        return
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = get_close_matches(name.lower(), known, n=3) or ["resnet50", "convnext_tiny", "vit_b_16"]
        raise ValueError(
            f"backbone must be a network of torchvision, such as {', '.join(near)}, or one of your own as "
            f"package.module:name, not {name!r}"
        )


def factory(name: str, size: int) -> Callable[[Data], nn.Module]:
    """What makes one network, of inputs of ``size`` pixels, from the data: see `check` for ``name``."""
    return backbones.find(name) if ":" in name else partial(Network, name, size)


def check_file(weights: str, backbone: str | None) -> None:
    """``weights`` is no name of torchvision's; ``ValueError`` says where to fetch what is meant."""
    if Path(weights).suffix or backbone is None or ":" in backbone:
        return
    known = torchvision.models.get_model_weights(backbone)
    if Path(weights).name in known.__members__:
        url = known[Path(weights).name].url
        raise ValueError(f"weights must be a file, and nothing is downloaded: fetch {url} and give its path")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in ``path``; `DataError` where there is none."""
    try:
        read = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path} is not there; weights must be a file with a network's state dict") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise DataError(
            f"{path} is no file of weights ({str(error).splitlines()[0] if str(error) else type(error).__name__}): "
            "save a state dict by torch.save(network.state_dict(), path)"
        ) from None
    for key in _WITHIN:
        if isinstance(read, Mapping) and isinstance(read.get(key), Mapping):
            read = read[key]
    if not isinstance(read, Mapping) or not read or not all(isinstance(value, Tensor) for value in read.values()):
        raise DataError(f"{path} holds no state dict: save one by torch.save(network.state_dict(), path)")
    # of networks that were trained on several devices
    return {str(name).removeprefix("module."): value for name, value in read.items()}


def load_weights(network: nn.Module, path: Path, classes: int) -> None:
    """Give each replica of ``network`` the weights in ``path``, save those of its layer of ``classes`` outputs.

    That layer stays as it was drawn where the file has none, or one of another size. `DataError` names the first
    weight that the file lacks, or that is of another shape there.
    """
    given = read_weights(path)
    with torch.no_grad():
        for replica in _weights(network):
            for name, weight in replica.items():
                value = given.get(name)
                if value is not None and value.shape == weight.shape:
                    weight.copy_(value)
                elif (weight.dim() and len(weight) == classes) or name.endswith("num_batches_tracked"):
                    continue
                elif value is None:
                    raise DataError(
                        f"{path} has no weights {name!r}, which the network needs; it has {_first(given)}: give the "
                        "weights of this very network, or name theirs by backbone"
                    )
                else:
                    raise DataError(
                        f"{path}: {name!r} is of shape {tuple(value.shape)}, and {tuple(weight.shape)} in the network: "
                        "give the backbone and the width that it was trained with"
                    )


def _weights(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Weights and buffers of each replica by name, in its own memory."""
    if isinstance(network, ReplicatedResNet18):
        state = network.trunk.state_dict()
        yield from ({name: values[replica] for name, values in state.items()} for replica in range(network.replicas))
        return
    assert isinstance(network, backbones.Looped)
    for replica in network.replicas:
        yield (replica.body if isinstance(replica, Network) else replica).state_dict()


def _first(given: Mapping[str, Tensor]) -> str:
    names = [repr(name) for name in given]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
