"""What changes hands between a study and its trials: what a trial is to do, and what it tells of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trainables.trial import Trial

#: key of what the first and the last result say of the trial's metrics: their declarations (see `trainables.metrics`)
DECLARED = "metrics_declared"
#: key of what several points of one program are given, and of what they tell, a list each
POINTS = "points"


@dataclass(frozen=True)
class Share:
    """What one Tune trial gets: CPU cores, and a GPU, a share of one, or none."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU" + (f", {self.gpus:.3g} GPU" if self.gpus else "")


class Shard(NamedTuple):
    """The one at ``position``, from 0, of the ``parts`` into which a trial's seeds are split."""

    position: int = 0
    parts: int = 1


#: all seeds of a trial
WHOLE = Shard()


@dataclass(frozen=True)
class Assignment:
    """What one Tune trial works at: a trial of a study by its number, or a shard of it, with its share of the cluster.

    ``trial`` has the seeds of the shard alone. ``share`` is None where nothing is to be trained. ``repeats`` is the
    number of the trial that this one trains again on fresh seeds, where it does. ``settings`` are what it has of those
    that vary between the study's trials, by dotted name (``training.learning_rate``). ``addition`` counts from 1 where
    the seeds are others than those that the trial began with, each time that the study was given more.
    """

    number: int
    role: str
    trial: Trial
    shard: Shard = WHOLE
    share: Share | None = None
    repeats: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    addition: int = 0

    @property
    def is_part(self) -> bool:
        """Whether the trial has other seeds, which are trained apart."""
        return self.shard.parts > 1 or self.addition > 0

    def to_config(self) -> dict[str, Any]:
        """Tune's config: number, role, shard, trial (`Trial.to_dict`), cpus, gpus, repeats, settings and addition."""
        share = {} if self.share is None else {"cpus": self.share.cpus, "gpus": self.share.gpus}
        repeats = {} if self.repeats is None else {"repeats": self.repeats}
        return {
            "number": self.number,
            "role": self.role,
            "shard": tuple(self.shard),
            "trial": self.trial.to_dict(),
            **share,
            **repeats,
            **({"settings": dict(self.settings)} if self.settings else {}),
            **({"addition": self.addition} if self.addition else {}),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Assignment:
        """The assignment of `to_config`."""
        share = Share(config["cpus"], config["gpus"]) if "cpus" in config else None
        shard = Shard(*map(int, config.get("shard", WHOLE)))
        trial = Trial.from_dict(config["trial"])
        role, repeats, settings = str(config.get("role", "")), config.get("repeats"), config.get("settings", {})
        addition = int(config.get("addition", 0))
        return cls(int(config["number"]), role, trial, shard, share, repeats, settings, addition)


@dataclass(frozen=True)
class Facts:
    """What is only known of a trial once its data and network stand, as its tracker keeps it.

    ``tags`` and ``recipe`` are text by name; ``samples`` and ``classes`` are the data's. ``splits`` is a digest for
    each seed of which samples are in which part, in the order of the trial's seeds.
    """

    tags: Mapping[str, str]
    recipe: Mapping[str, str]
    samples: int
    classes: int
    #: none in a checkpoint of before they were kept
    splits: Sequence[str] = ()


@dataclass(frozen=True)
class Result:
    """What a trial, or a shard of one, last told Tune.

    ``epoch`` is 0 where it has told of none. ``failure`` says in a sentence why a trial that was trained to its end
    cannot count. ``memory`` is a share of the GPU's; ``points`` is how many like this one are worth training together,
    0 where that is not known. ``means`` are by metric, and so are ``values``, a list over the seeds, which are there
    once the trial has finished. ``declared`` are the metrics' declarations.
    """

    epoch: int = 0
    epochs: int = 0
    finished: bool = False
    interrupted: bool = False
    out_of_memory: bool = False
    failure: str = ""
    memory: float = 0.0
    points: int = 0
    means: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, list[float]] = field(default_factory=dict)
    declared: Sequence[Mapping[str, str | bool]] = ()

    def to_tune(self) -> dict[str, Any]:
        """Plain types, flat, as Tune's schedulers read them: a key ``mean/…`` or ``values/…`` a metric."""
        told: dict[str, Any] = {"finished": self.finished, "interrupted": self.interrupted}
        if self.out_of_memory:
            told["out_of_memory"] = True
        if self.failure:
            told["failure"] = self.failure
        if self.points:
            told["points_worth"] = self.points
        if self.epoch:
            told |= {"epoch": self.epoch, "epochs": self.epochs, "memory": self.memory}
        told |= {f"mean/{name}": value for name, value in self.means.items()}
        told |= {f"values/{name}": list(values) for name, values in self.values.items()}
        return told | ({DECLARED: list(self.declared)} if self.declared else {})

    @classmethod
    def from_tune(cls, told: Mapping[str, Any] | None) -> Result:
        """The result of `to_tune`, among what Tune adds to it; one that tells nothing where there is none."""
        told = told or {}
        by_metric = {
            kind: {key.removeprefix(kind): value for key, value in told.items() if key.startswith(kind)}
            for kind in ("mean/", "values/")
        }
        plain = ("epoch", "epochs", "finished", "interrupted", "out_of_memory", "failure", "memory")
        return cls(
            **{name: told[name] for name in plain if name in told},
            points=told.get("points_worth", 0),
            means=by_metric["mean/"],
            values=by_metric["values/"],
            declared=told.get(DECLARED, ()),
        )


def to_config(points: Sequence[Assignment]) -> dict[str, Any]:
    """Tune's config of one assignment, which is `Assignment.to_config`, or of several that are trained together."""
    configs = [point.to_config() for point in points]
    return configs[0] if len(configs) == 1 else {POINTS: configs}


def from_config(config: Mapping[str, Any]) -> list[Assignment]:
    """The assignments of `to_config`, one at least."""
    return [Assignment.from_config(each) for each in config.get(POINTS, [config])]


def to_tune(points: Sequence[Assignment], results: Sequence[Result]) -> dict[str, Any]:
    """What Tune is told of the ``points``: number, shard and `Result.to_tune` of one, or a list of these."""
    told = [
        {"number": point.number, "shard": list(point.shard), **result.to_tune()}
        for point, result in zip(points, results, strict=True)
    ]
    return told[0] if len(told) == 1 else {POINTS: told}


def from_tune(told: Mapping[str, Any] | None, points: int) -> list[Result]:
    """The results of `to_tune`, of so many ``points``; such that tell nothing where there are none yet."""
    if points == 1:
        return [Result.from_tune(told)]
    each = (told or {}).get(POINTS) or [None] * points
    return [Result.from_tune(one) for one in each]
