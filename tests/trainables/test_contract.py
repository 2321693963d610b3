"""What a benchmark of one's own may get wrong: one sentence before any training, and NaN for outputs that are none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from study.file.spec import StudySpec
from study.launch.preflight import check_data
from tests.tiny import Tiny, TinyOptions
from trainables import backbones, criteria
from trainables.benchmarks import Data, DataError, Split
from trainables.evaluators import Evaluator, Snapshot, classification, entropy
from trainables.training import Training
from trainables.trial import Trial


@dataclass(frozen=True)
class Options(TinyOptions):
    #: what goes wrong, see the tables below
    fault: str = ""
    backbone: str = f"{__name__}:Net"


class Odd(Tiny):
    """`Tiny`, with the fault that its options name."""

    Options: ClassVar[type] = Options

    def load(self, options: Any) -> Data:
        data = super().load(options)
        return DATA[options.fault][0](data) if options.fault in DATA else data

    def split(self, data: Data, options: Any, generator: torch.Generator) -> Split:
        split = super().split(data, options, generator)
        return SPLITS[options.fault][0](split, generator) if options.fault in SPLITS else split

    def batch(self, inputs: Tensor, options: Any, train: bool, generators: Sequence[torch.Generator]) -> Tensor:
        return BATCHES[options.fault][0](inputs) if options.fault in BATCHES else inputs

    def backbone(self, data: Data, options: Any, generators: Sequence[torch.Generator]) -> nn.Module:
        if options.fault in REPLICATED:
            return REPLICATED[options.fault][0](data, generators)
        return backbones.own(options.backbone, data, generators)

    def evaluators(self, data: Data, options: Any) -> Sequence[Evaluator]:
        return METRICS[options.fault][0] if options.fault in METRICS else super().evaluators(data, options)


def trial(seeds: tuple[int, ...] = (0, 1), training: Mapping[str, Any] | None = None, **options: Any) -> Trial:
    return Trial(f"{__name__}:Odd", "ce", seeds, training={"epochs": 1, **(training or {})}, options=options)


def spec(seeds: Sequence[int] = (0, 1), training: Mapping[str, Any] | None = None, **options: Any) -> StudySpec:
    values = {"name": "q", "criteria": ["ce"], "seeds": list(seeds), "training": {"epochs": 1, **(training or {})}}
    return StudySpec.model_validate({**values, "benchmark": {"name": f"{__name__}:Odd", **options}})


def test_what_is_right_passes() -> None:
    check_data(spec())
    assert len(list(Training(trial()).run())) == 1


def _put(name: str, place: Any, value: float) -> Callable[[Data], Data]:
    def change(data: Data) -> Data:
        getattr(data, name)[place] = value
        return data

    return change


def _have(**fields: Any) -> Callable[[Data], Data]:
    return lambda data: replace(data, **fields)


LABELS = torch.arange(200) % 2
DATA: dict[str, tuple[Callable[[Data], Any], str]] = {
    "a missing cell": (
        _put("inputs", (3, 1), math.nan),
        r"Odd.load: inputs in row 3, column 1 \(from 0\) is nan; 1 of",
    ),
    "an infinite cell": (_put("inputs", (7, 0), -math.inf), "inputs in row 7, column 0 .* is -inf"),
    "a named column": (
        lambda data: replace(_put("inputs", (3, 1), math.nan)(data), extra={"columns": list("abcdefgh")}),
        "row 3, column 'b'",
    ),
    "a pixel": (
        lambda data: replace(data, inputs=_put("inputs", (5, 1, 0, 1), math.nan)(_images(data)).inputs),
        r"row 5, at \(1, 0, 1\)",
    ),
    "too large": (
        lambda data: _put("inputs", (2, 4), 1e300)(replace(data, inputs=data.inputs.double())),
        r"row 2, column 4 .* is 1e\+300, too large for torch.float32",
    ),
    "not data": (lambda data: (data.inputs, data.coarse), "Odd.load must return trainables.benchmarks.Data, not tuple"),
    "no labels": (_have(coarse=None), "coarse must be a tensor, not None"),
    "a list": (_have(coarse=[0] * 200), "coarse must be a tensor, not list"),
    "empty labels": (_have(coarse=torch.empty(0)), r"coarse is \(0,\), but inputs are \(200, 8\)"),
    "too few labels": (_have(fine=torch.arange(199)), r"fine is \(199,\), but inputs"),
    "one-hot labels": (_have(coarse=torch.eye(200, dtype=torch.int64)), r"coarse is \(200, 200\)"),
    "float labels": (_have(coarse=LABELS.float()), "coarse must be class indices of type int64, not torch.float32"),
    "NaN labels": (_have(coarse=LABELS / 0), "coarse must be class indices of type int64"),
    "negative labels": (_put("coarse", 9, -2), "coarse of row 9 .* is -2"),
    "labels from 1": (_have(coarse=LABELS + 1), "coarse of row 1 .* is 2, but the 2 coarse_names number .* 0 to 1"),
    "one class": (_have(coarse=LABELS * 0), "coarse holds fewer than two classes"),
    "one name": (_have(coarse=LABELS * 0, coarse_names=("low",)), "coarse_names has 1 class"),
    "a name for all": (_have(coarse_names="low high"), "coarse_names must be a tuple of text"),
    "numbers for names": (_have(coarse_names=(0, 1)), "coarse_names must be a tuple of text"),
    "a missing label": (_put("coarse", 5, -1), "Odd.split, seed .: part .* has row 5 .* no coarse label"),
    "a missing fine label": (_put("fine", 5, -1), "fine of row 5 .* is -1"),
    "a missing fine label in 8 bits": (
        lambda data: replace(_put("fine", 5, -1)(data), fine=data.fine.to(torch.int8)),
        "fine of row 5 .* is -1",
    ),
    "a NaN fine label": (
        lambda data: _put("fine", 4, math.nan)(replace(data, fine=data.fine.float())),
        "fine in row 4 .* is nan",
    ),
    "fine labels in a cube": (_have(fine=torch.zeros(200, 2, 2)), r"fine is \(200, 2, 2\)"),
    "no samples": (lambda data: replace(data, **{k: getattr(data, k)[:0] for k in FIELDS}), "there are no samples"),
    "no values": (_have(inputs=torch.empty(200, 0)), "a sample holds no value"),
    "complex": (_have(inputs=torch.zeros(200, 8, dtype=torch.complex64)), "inputs must be real"),
    "provenance": (_have(provenance="measured"), "provenance must be one of real, semi-synthetic, simulated"),
    "fingerprint": (_have(fingerprint=None), "fingerprint must be text, not None"),
}
FIELDS = ("inputs", "coarse", "fine")


def _images(data: Data) -> Data:
    return replace(data, inputs=data.inputs.reshape(-1, 2, 2, 2))


def _replaced(part: str, indices: Callable[[Tensor], Any]) -> Callable[[Split, torch.Generator], Split]:
    return lambda split, generator: {**split, part: indices(split[part])}


SPLITS: dict[str, tuple[Callable[[Split, torch.Generator], Any], str]] = {
    "not a dict": (lambda split, g: tuple(split.values()), "Odd.split must return a dict"),
    "a mask": (_replaced("train", lambda i: i > 5), r"part 'train' of seed 0 must be .* int64 \(n,\), not torch.bool"),
    "indices in a list": (_replaced("train", Tensor.tolist), "part 'train' of seed 0 must be .*, not list of 120"),
    "out of range": (_replaced("heldout", lambda i: i + 1000), "part 'heldout' .* the samples are 0 to 199"),
    "below zero": (_replaced("heldout", lambda i: i - 200), "part 'heldout' of seed 0 has indices -"),
    "trained and held out": (
        lambda split, g: {**split, "heldout": torch.cat([split["heldout"], split["train"][:3]])},
        "parts 'train' and 'heldout' share 3 samples",
    ),
    "a sample twice": (
        _replaced("heldout", lambda i: torch.cat([i, i[:1]])),
        "part 'heldout' has row .* more than once",
    ),
    "nothing to train on": (_replaced("train", lambda i: i[:0]), "no training samples"),
    "one class to train on": (_replaced("train", lambda i: i[i % 4 < 2][:30]), "'train' holds one coarse class alone"),
    "other sizes": (
        lambda split, g: {**split, "train": split["train"][: 100 + int(torch.randint(9, (), generator=g))]},
        "part 'train' of the split has .* samples, by seed",
    ),
    "other parts": (
        lambda split, g: {**split, f"own-{int(torch.randint(999, (), generator=g))}": split["train"]},
        "the parts of seed 1 are",
    ),
}


@pytest.mark.parametrize(("fault", "sentence"), [(key, value[1]) for key, value in {**DATA, **SPLITS}.items()])
def test_data_and_splits_are_refused_before_any_trial_and_in_each(fault: str, sentence: str) -> None:
    for begin in (lambda: check_data(spec(fault=fault)), lambda: Training(trial(fault=fault))):
        with pytest.raises(DataError, match=sentence) as error:
            begin()
        assert "\n" not in str(error.value)


def test_parts_of_ones_own_may_overlap() -> None:
    SPLITS["subset"] = (lambda split, g: {**split, "sample": split["train"][:5]}, "")
    check_data(spec(fault="subset"))


class Net(nn.Module):
    """Two-dimensional features of two classes, so that shapes alone tell nothing."""

    width = 2

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, self.width), nn.ReLU())
        self.head = nn.Linear(self.width, data.classes)

    def forward(self, x: Tensor) -> Any:
        return (features := self.body(x)), self.head(features)


class SwappedAlike(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)[::-1]


class Swapped(SwappedAlike):
    width = 5


class Wide(Net):
    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.head = nn.Linear(2, 10)


class Alone(Net):
    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(x))


class Maps(Net):
    def forward(self, x: Tensor) -> Any:
        features, logits = super().forward(x)
        return features.reshape(-1, 1, 2), logits


class Lazy(Net):
    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.head = nn.LazyLinear(data.classes)


class Frozen(Net):
    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.requires_grad_(False)


class Broken(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x[:, :3])


class Unmade(Net):
    def __init__(self, data: Data) -> None:
        super().__init__(data)
        raise KeyError("weights")


class Infinite(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x / 0)


class Normalised(Net):
    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.body = nn.Sequential(nn.Linear(8, 2), nn.BatchNorm1d(2))


class Leaking(Net):
    """Each network has its own layers, and a buffer that is a view of one memory."""

    memory = torch.zeros(4)

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.register_buffer("mean", Leaking.memory[:2])


class Centred(Net):
    """Keeps a running mean where all instances of its class find it."""

    mean = torch.zeros(2)

    def forward(self, x: Tensor) -> Any:
        features = self.body(x)
        if self.training:
            self.mean.lerp_(features.detach().mean(0) + 1, 0.1)
        return features - self.mean, self.head(features)


_MEANS: list[Tensor] = []


class Remembering(Net):
    """Keeps what it saw in a list of its module."""

    def forward(self, x: Tensor) -> Any:
        features = self.body(x)
        if self.training:
            _MEANS.append(features.detach().mean(0) + 1)
        return features - sum(_MEANS), self.head(features)


class Flat(Net):
    """Drops the batch's dimension where it holds one sample."""

    def forward(self, x: Tensor) -> Any:
        features, logits = super().forward(x)
        return features.squeeze(0), logits.squeeze(0)


_KEPT: dict[str, Any] = {}
_HEAD = nn.Linear(2, 2)


def cached(data: Data) -> nn.Module:
    return _KEPT.setdefault("network", Net(data))


def with_one_head(data: Data) -> nn.Module:
    network = Net(data)
    network.head = _HEAD
    return network


def with_views(data: Data) -> nn.Module:
    """Every head is a view of the same memory."""
    network = Net(data)
    network.head.weight = nn.Parameter(_HEAD.weight.detach().view(4)[:4].view(2, 2))
    return network


class Counting(nn.Module):
    """A layer without parameters that keeps something."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        return x


_COUNTING = Counting()


def with_one_layer(data: Data) -> nn.Module:
    network = Net(data)
    network.body.append(_COUNTING)
    return network


def with_one_activation(data: Data, activation: nn.Module = nn.Tanh()) -> nn.Module:  # noqa: B008
    network = Net(data)
    network.body.append(activation)
    return network


def features_are_logits(data: Data) -> nn.Module:
    class Same(Net):
        def forward(self, x: Tensor) -> Any:
            logits = super().forward(x)[1]
            return logits.softmax(-1), logits

    return Same(data)


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ("Swapped", r"Swapped.forward returns \(2, 2, 2\) and \(2, 2, 5\).*C = 2 classes: the two are swapped"),
        ("SwappedAlike", "SwappedAlike.forward: the first output is computed from the second .* swapped"),
        ("Wide", r"Wide.forward returns \(2, 2, 2\) and \(2, 2, 10\)"),
        ("Alone", "Alone must return two tensors"),
        ("Maps", r"Maps.forward returns \(2, 2, 1, 2\)"),
        ("Lazy", r"Lazy has a layer without a size, LazyLinear \(head\)"),
        ("Frozen", "Frozen.forward: no parameter acts on the logits"),
        ("Broken", "Broken.forward fails: RuntimeError: mat1 and mat2"),
        ("Unmade", "Odd.backbone fails: KeyError: 'weights'"),
        ("Infinite", "Infinite.forward: features of the first samples are not finite before any training"),
        ("cached", "Odd.backbone: Net: seed number 0 and seed number 1 get the same network"),
        ("with_one_head", "head.* of seed number . shares its memory with head"),
        ("with_views", "head.weight of seed number 1 shares its memory with head.weight of seed number 0"),
        ("Leaking", "mean of seed number 1 shares its memory with mean"),
        ("Centred", "Centred: training one seed changes another's outputs"),
        ("Remembering", "Remembering: training one seed changes another's outputs"),
        ("with_one_layer", "a module Counting is in the networks of seed number 0 and seed number 1"),
    ],
)
def test_networks_are_refused_before_any_trial(network: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as error:
        check_data(spec(backbone=f"{__name__}:{network}"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("network", ["with_one_activation", "features_are_logits", "Normalised"])
def test_networks_that_are_right_though_they_look_odd(network: str) -> None:
    check_data(spec(backbone=f"{__name__}:{network}"))
    list(Training(trial(backbone=f"{__name__}:{network}")).run())


@pytest.mark.parametrize("network", ["cached", "with_one_head", "with_views", "Leaking", "with_one_layer", "Lazy"])
def test_a_trial_refuses_them_too(network: str) -> None:
    with pytest.raises(DataError, match=r"shares its memory|get the same network|is in the networks of|without a size"):
        Training(trial(backbone=f"{__name__}:{network}"))


@pytest.mark.parametrize("network", ["Swapped", "Wide", "Maps"])
def test_a_trial_refuses_wrong_outputs(network: str) -> None:
    with pytest.raises(DataError, match=f"{network}.forward returns"):
        Training(trial(backbone=f"{__name__}:{network}"))


def test_a_network_that_is_kept_for_the_next_trial() -> None:
    """With one seed there is nothing to share it with but the next trial of the process."""
    with pytest.raises(DataError, match="Net: one call and the next get the same network"):
        check_data(spec(seeds=(0,), backbone=f"{__name__}:cached"))


def test_a_last_batch_of_one_sample() -> None:
    # 120 samples: 119 and one
    settings = {"batch_size": 119}
    with pytest.raises(DataError, match=r"training.batch_size: batches of 119 leave one .* Normalised cannot .* alone"):
        check_data(spec(training=settings, backbone=f"{__name__}:Normalised"))
    with pytest.raises(DataError, match=r"batches of 119 leave one .* Flat cannot be trained on one alone"):
        check_data(spec(training=settings, backbone=f"{__name__}:Flat"))
    check_data(spec(training=settings, backbone=f"{__name__}:Net"))
    check_data(spec(training={"batch_size": 40}, backbone=f"{__name__}:Normalised"))


def test_grid_anchors_need_a_line() -> None:
    with pytest.raises(DataError, match=r"training.anchors: grid lies on a line, .* of Net have 2 dimensions"):
        check_data(spec(training={"anchors": "grid"}))


class Shared(nn.Module):
    """One weight for all seeds, behind the replicated interface."""

    def __init__(self, data: Data, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.body = nn.Linear(8, 5)
        self.own = nn.Parameter(torch.ones(len(generators), 1, 5))
        with torch.no_grad():
            self.body.weight.copy_(torch.rand(5, 8, generator=torch.Generator().manual_seed(0)))
            self.body.bias.zero_()

    def forward(self, x: Tensor) -> Any:
        features = self.body(x) * self.own
        return features, features[..., :2]


class Mixed(Shared):
    """Weights of its own for each seed, and a normalisation over all of them."""

    def __init__(self, data: Data, generators: Sequence[torch.Generator]) -> None:
        super().__init__(data, generators)
        self.body.requires_grad_(False)
        self.norm = nn.BatchNorm1d(5, affine=False)

    def forward(self, x: Tensor) -> Any:
        features = self.norm((self.body(x) * self.own).flatten(0, 1)).unflatten(0, x.shape[:2])
        return features, features[..., :2]


class Undrawn(nn.Module):
    """Drawn from torch's global stream, so that no seed repeats."""

    def __init__(self, data: Data, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(len(generators), 8, 5))

    def forward(self, x: Tensor) -> Any:
        features = x @ self.weight
        return features, features[..., :2]


REPLICATED: dict[str, tuple[Callable[[Data, Sequence[torch.Generator]], Any], str]] = {
    "one weight": (Shared, "Shared: parameter body.weight is shared between seeds"),
    "one normalisation": (Mixed, "Mixed: the outputs of one seed depend on another's samples"),
    "no generator": (Undrawn, "Odd.backbone: the network of a seed differs when it is made again"),
    "no module": (lambda data, generators: None, "Odd.backbone must return a torch module, not None"),
    "no seeds": (
        lambda data, generators: backbones.ReplicatedMLP((8, 4), 2, generators[:1]),
        "ReplicatedMLP.forward",
    ),
}
BATCHES: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "flattened": (lambda inputs: inputs.flatten(0, 1), r"Odd.batch returns \(4, 8\); 2 seeds × 2 samples"),
    "an array": (lambda inputs: inputs.numpy(), "Odd.batch must return a tensor, not ndarray"),
    "divided by zero": (lambda inputs: (inputs - inputs) / 0, "Odd.batch makes values that are not finite"),
    "broken": (lambda inputs: inputs.reshape(3, 5), "Odd.batch fails: RuntimeError: shape"),
}


@pytest.mark.parametrize(("fault", "sentence"), [(key, value[1]) for key, value in {**REPLICATED, **BATCHES}.items()])
def test_replicated_networks_and_batches(fault: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as error:
        check_data(spec(fault=fault))
    assert "\n" not in str(error.value)


def test_a_split_that_is_not_the_seeds_own() -> None:
    def shuffled(split: Split, generator: torch.Generator) -> Split:
        order = torch.randperm(160)
        return {"train": order[:120], "heldout": order[120:]}

    SPLITS["global stream"] = (shuffled, "")
    with pytest.raises(DataError, match=r"Odd.split parts the data otherwise when asked again"):
        check_data(spec(fault="global stream"))


def _measuring(*metrics: Any) -> tuple[Evaluator, ...]:
    return tuple(Evaluator(f"own-{k}", lambda snapshot, m=m: m) for k, m in enumerate(metrics))


METRICS: dict[str, tuple[Any, str]] = {
    "one evaluator": (Evaluator("a"), "Odd.evaluators must return a sequence of .*Evaluator"),
    "names": ((Evaluator("a"), Evaluator("a")), "two evaluators are called 'a'"),
    "cadence": ((Evaluator("a", every=-1),), "every of evaluator 'a'"),
    "a number": (
        _measuring({"a": 0.5}),
        r"'own-0': metric 'a' must be a tensor of one value a seed, \(2,\), not float",
    ),
    "a scalar": (_measuring({"a": torch.ones(())}), r"not \(\)"),
    "too many": (_measuring({"a": torch.ones(2, 3)}), r"not \(2, 3\)"),
    "nothing": (_measuring(None), "'own-0' must give a dict"),
    "twice": (_measuring({"a": torch.ones(2)}, {"a": torch.ones(2)}), "'own-1': metric 'a' is measured twice"),
    "the training's": (_measuring({"loss/train": torch.ones(2)}), "'loss/train' is measured twice"),
    "a name": (_measuring({"top@1": torch.ones(2)}), "metric 'top@1' must be named by letters"),
    "a name that is a folder": (_measuring({"../a": torch.ones(2)}), "metric '../a' must be named by letters"),
    "a long name": (_measuring({"a" * 251: torch.ones(2)}), "metric 'a{40}…' has 251 letters; at most 250"),
    "no such part": (
        (Evaluator("own", lambda snapshot: {"a": snapshot.outputs("test").logits[:, 0, 0]}),),
        "Odd.evaluators read part 'test', which is empty or not in the split; it has train, validation, heldout",
    ),
}


@pytest.mark.parametrize(("fault", "sentence"), [(key, value[1]) for key, value in METRICS.items()])
def test_evaluators(fault: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        list(Training(trial(fault=fault)).run())


def test_arrays() -> None:
    kept = ({"features": torch.ones(3, 4)}, {"features": 1.0}, {"features": np.ones((2, 4))})
    for arrays, right in zip(kept, (False, False, True), strict=True):
        METRICS["kept"] = ((Evaluator("own", arrays=lambda snapshot, a=arrays: a),), "")
        training = Training(trial(fault="kept"))
        if right:
            assert training.arrays()["features"].shape == (2, 4)
        else:
            with pytest.raises(DataError, match="'own': array 'features' must have the 2 seeds as its first dimension"):
                training.arrays()


def _counting(snapshot: Snapshot) -> dict[str, Tensor]:
    """What turns NaN into a number: by argmax, by ``nan_to_num``, by a histogram of one's own."""
    outputs = snapshot.outputs("heldout")
    return {
        "own/argmax": (outputs.logits.argmax(-1) == outputs.coarse).double().mean(1),
        "own/filled": outputs.features.nan_to_num(0).flatten(1).mean(1),
        "own/count": (outputs.features > 0).flatten(1).sum(1),
        "accuracy": classification.accuracy(outputs.logits, outputs.coarse),
        "entropy": entropy.anchor_entropy(outputs.features, snapshot.anchors, snapshot.similarity),
    }


METRICS["diverging"] = ((Evaluator("own", _counting),), "")


class Replicated(backbones.ReplicatedMLP):
    """The second seed's weights are not finite from the start."""

    def __init__(self, data: Data, generators: Sequence[torch.Generator]) -> None:
        super().__init__((8, 6), 2, generators)
        if SPOILT:
            with torch.no_grad():
                self.hidden[0].weight[1, 0, 0] = SPOILT[0]  # type: ignore[index]


SPOILT: list[float] = []


class Diverging(Odd):
    def backbone(self, data: Data, options: Any, generators: Sequence[torch.Generator]) -> nn.Module:
        return Replicated(data, generators)


@pytest.mark.slow
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("criterion", criteria.names())
def test_all_metrics_of_a_diverged_replica_are_nan_and_no_others(
    criterion: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Trial(f"{__name__}:Diverging", criterion, (0, 1, 2), training={"epochs": 2}, options={"fault": "diverging"})
    healthy = list(Training(study).run())
    monkeypatch.setattr(f"{__name__}.SPOILT", [value])
    training = Training(study)
    spoilt = list(training.run())
    # what is read of raw inputs does not hang on the network
    floors = {metric.name for metric in training.metrics if metric.floor_of and metric.group == "raw inputs"}
    for before, after in zip(healthy, spoilt, strict=True):
        assert before.metrics.keys() == after.metrics.keys() >= {"loss/train", "accuracy/train", "own/argmax"}
        for name, values in after.metrics.items():
            assert math.isnan(values[1]) == (name not in floors), name
            assert not math.isnan(before.metrics[name][1]), name
            assert (values[0], values[2]) == (before.metrics[name][0], before.metrics[name][2]), name


@pytest.mark.parametrize("benchmark", ["hyperspectral", "age", "cifar10-few-shot", "cifar10"])
def test_a_diverged_training_of_the_benchmarks_reports_nothing(benchmark: str) -> None:
    options: dict[str, Any] = {
        "hyperspectral": {"pixels": 200, "probe_epochs": 2},
        "age": {"samples": 60, "size": 16, "width": 2},
        "cifar10-few-shot": {"size": 16, "width": 2, "runs": 20, "samples": 30, "heldout": 0.2},
        "cifar10": {"size": 16, "width": 2, "samples": 20, "validation": 0.1},
    }[benchmark]
    settings = {"epochs": 2, "learning_rate": 1e20}
    last = list(Training(Trial(benchmark, "fierce", (0, 1), training=settings, options=options)).run())[-1]
    finite = {name for name, values in last.metrics.items() if not all(math.isnan(value) for value in values)}
    assert not finite
