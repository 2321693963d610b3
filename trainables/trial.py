"""What a trial is: one criterion with one hyperparameter setting, trained with all its seeds at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

PROTOCOLS = ("paper", "released")


@dataclass(frozen=True)
class Projector:
    """An expendable MLP between features and classifier: linear, normalisation, ReLU, linear (Wang et al. 2022).

    ``hidden`` and ``output`` are its dimensions, ``output`` by default as many as ``hidden``; ``norm`` is ``batch`` or
    ``none``. Raises ``ValueError`` with one sentence for anything else.
    """

    hidden: int
    output: int | None = None
    norm: Literal["batch", "none"] = "batch"

    def __post_init__(self) -> None:
        for name in ("hidden", "output"):
            value = getattr(self, name)
            if name == "output" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} of projector must be a whole number of at least 1, not {value!r}")
        if self.norm not in ("batch", "none"):
            raise ValueError(f"norm of projector must be batch or none, not {self.norm!r}")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Projector:
        """The projector of a study file's ``{hidden: …, output: …, norm: …}``."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(map(str, set(values) - set(known)))
        if unknown:
            raise ValueError(f"projector has no {unknown[0]!r}; known: {', '.join(known)}")
        if "hidden" not in values:
            raise ValueError("projector needs hidden, its number of hidden dimensions")
        return cls(**values)


@dataclass(frozen=True)
class Recipe:
    """How a benchmark trains under one protocol: everything that the paper or its released code fixes.

    A study file may override any field under ``training:``; the fields are not fusible, so they never
    vary inside a trial.
    """

    #: of each trial
    epochs: int
    #: samples of each seed in a batch
    batch_size: int
    #: its start, before schedule and warm-up
    learning_rate: float
    #: ``adamw`` is Adam with its weight decay apart from the gradient; ``weight_decay`` is 0 unless it is given
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    #: how the learning rate goes on: ``steps`` at the milestones, ``cosine`` from its start to 0 over all epochs
    schedule: Literal["steps", "cosine"] = "steps"
    #: epochs in which the learning rate first rises to its start, in equal steps
    warmup: int = 0
    #: the learning rate is multiplied by ``gamma`` after each of these epochs
    milestones: tuple[int, ...] = ()
    #: what the learning rate is multiplied by
    gamma: float = 0.1
    #: of ``sgd``
    momentum: float = 0.0
    #: of ``sgd``: Nesterov's form of momentum
    nesterov: bool = False
    #: of weights alone, biases and normalisation never decay
    weight_decay: float = 0.0
    #: label smoothing: ``others`` gives σ/(C−1) to each other class, ``uniform`` σ/C to every class (PyTorch's)
    smoothing: Literal["others", "uniform"] = "others"
    #: ``subtract`` is CE − λH (eq. 8); ``weighted`` is CE/(1+λ) + λ/(1+λ)·(log2 e − H), the released age code
    entropy_form: Literal["subtract", "weighted"] = "subtract"
    #: of feature and anchor
    similarity: Literal["cosine", "dot", "squared-distance"] = "cosine"
    #: ``uniform`` draws U[0, 1], ``centred`` U[−1/e, 1/e], ``grid`` is the fixed grid 1..e (d = 1),
    #: ``centred-grid`` that grid less its mean
    anchors: Literal["uniform", "centred", "grid", "centred-grid"] = "uniform"
    #: the forward value of the assignment: ``nearest`` is eq. 13's, ``sampled`` the released code's, ``soft`` the soft
    #: rows' own; the gradient is that of the noisy soft rows (eq. 12) in each
    assignment: Literal["nearest", "sampled", "soft"] = "sampled"
    #: τ of eq. 12, which the paper leaves open; the released code's is 1
    temperature: float = 1.0
    #: ε of −Σ p log2(p + ε). Neither source states it, and FIERCE's result depends on it (see docs/results.md):
    #: 1e-12 lies where the features' scale and the raw MSE of an independent implementation were met
    entropy_epsilon: float = 1e-12
    #: an MLP between the features and a classifier of its own, thrown away when features are probed
    projector: Projector | None = None
    #: where ``batch`` does not augment, a second view is noise: its standard deviation, as a share of each input's
    view_noise: float = 0.1
    #: of parameters, features and losses
    dtype: Literal["float32", "float64"] = "float32"
    #: bf16 autocast on a GPU; a CPU computes as without it, and a study without a GPU is refused
    mixed_precision: bool = False
    #: torch.compile of the network, which takes a minute; on a CPU no faster, on a GPU to be measured first
    compile: bool = False
    #: on a GPU, record the training step and replay it where that is faster; numbers are the same to the bit
    cuda_graphs: bool = True
    #: criteria's hyperparameters where a study file gives none and their own defaults do not hold here, by name; ``e``
    #: is the number of anchors, under every criterion
    hyperparameters: Mapping[str, float] = field(default_factory=dict)

    def override(self, settings: Mapping[str, Any]) -> Recipe:
        """The recipe with ``settings`` in place of its own; ``KeyError`` names an unknown field."""
        known = {f.name for f in fields(self)} - {"hyperparameters"}
        unknown = set(settings) - known
        if unknown:
            raise KeyError(f"unknown training setting {sorted(unknown)[0]!r}; known: {', '.join(sorted(known))}")
        values = dict(settings)
        if "milestones" in values:
            values["milestones"] = tuple(values["milestones"])
        if isinstance(values.get("projector"), Mapping):
            values["projector"] = Projector.read(values["projector"])
        return replace(self, **values)


@dataclass(frozen=True)
class Trial:
    """One criterion at one hyperparameter setting, with all its seeds.

    ``options`` are the benchmark's own (see its ``Options``), ``training`` overrides of its `Recipe`,
    ``hyperparameters`` those that the criterion declares, by name.
    """

    benchmark: str
    criterion: str
    seeds: tuple[int, ...]
    protocol: str = "released"
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    #: overrides of evaluators' cadence, by evaluator: every so many epochs, 0 for the last epoch only
    cadence: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, for Tune's config and for a file."""
        return {**asdict(self), "seeds": list(self.seeds)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trial:
        return cls(**{**values, "seeds": tuple(values["seeds"])})
