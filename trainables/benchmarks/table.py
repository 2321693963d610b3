"""A table of one's own, told by a study file alone: which column is learnt, and which is looked for in the features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from trainables import backbones
from trainables.benchmarks import Data, DataError, DataPath, Provenance, Split, fingerprint, grouped, stratified
from trainables.benchmarks.cifar10 import kept_arrays
from trainables.benchmarks.few_shot import coarse_accuracy
from trainables.benchmarks.options import Bounds, Checked, is_number
from trainables.benchmarks.table_files import Table, is_text, missing, read_table
from trainables.benchmarks.table_labels import Coarse, check_sizes, coarse_labels, fine_labels
from trainables.evaluators import Evaluator, classification
from trainables.trial import Recipe

#: a text column of more kinds than this would be as many inputs
MOST_WORDS = 1000


@dataclass(frozen=True)
class TableOptions(Checked):
    """Which file, and what its columns are."""

    #: a .csv, .parquet or .npz file
    data: DataPath
    #: the column that is learnt: of classes, or cut by ``{column, above: median}`` (or a number) or ``{column, bins}``
    coarse: str | dict[str, Any]
    #: the column, or columns, that the features are asked for: classes or numbers
    fine: str | tuple[str, ...]
    #: what the fine columns hold; by default text and whole numbers of up to 100 kinds are classes
    fine_kind: Literal["classes", "numbers"] | None = None
    #: columns that are neither label nor input
    leave_out: tuple[str, ...] = ()
    #: all rows with the same value of this column are in one part: the person or device that they are of
    group: str | None = None
    #: refused by default, as what is right depends on why a value is missing; ``drop`` leaves its row out, ``mean``
    #: takes the training part's mean, and adds an input that says where
    missing: Literal["drop", "mean"] | None = None
    #: sizes of the MLP's hidden layers, of which the last one's outputs are the features; small, as tables mostly are
    hidden: tuple[int, ...] = (64, 32)
    #: a network of your own as package.module:name, in place of the MLP (see `trainables.backbones.find`)
    backbone: str | None = None
    #: share of all rows set aside for choosing a criterion and its λ, which is what a table is brought for
    validation: Annotated[float, Bounds(0, 0.5, "a share")] = 0.2
    #: share of all rows that the choice is scored on; large, since the interval of a score is as wide as this is small
    heldout: Annotated[float, Bounds(0.01, 0.5, "a share")] = 0.3
    #: whether the rows were measured (``real``) or made
    provenance: Provenance = "real"
    #: added to the data's description, e.g. a citation
    description: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        Coarse.read(self.coarse)
        names = (self.fine,) if isinstance(self.fine, str) else self.fine
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"fine must be a column's name, or a list of such, not {self.fine!r}")
        if tuple(names) == (self.coarse,):
            raise ValueError(f"fine and coarse are both {self.coarse!r}: name the finer labels by fine")
        if not self.hidden or not all(is_number(size, whole=True) and size >= 1 for size in self.hidden):
            raise ValueError(f"hidden must be a list of layers' sizes, as in [64, 32], not {list(self.hidden)!r}")
        if self.validation + self.heldout > 0.9:
            raise ValueError("validation and heldout must leave a tenth of the rows for training: lower one of them")
        if self.backbone is not None:
            backbones.find(self.backbone)


class TableBenchmark:
    """Classes in a column of a table are learnt, and others are looked for in the features."""

    name: ClassVar[str] = "table"
    Options: ClassVar[type] = TableOptions

    def recipe(self, protocol: str, options: TableOptions) -> Recipe:
        """Adam at its usual rate, for an MLP on standardized inputs; protocols and hyperparameters as of spectra.

        Those are the one table of numbers that the paper trains an MLP on (§5.2). Its λ = 1 is not taken: on digits
        told as even or odd it cost 7 points of coarse accuracy after 20 epochs, and 0.1 none that could be told.
        60 epochs of batches of 64 are some 500 steps where 500 rows are trained on. No step of the rate: how many
        epochs a table needs is not known beforehand.
        """
        differing: Mapping[str, Mapping[str, Any]] = {
            "paper": {"similarity": "cosine", "smoothing": "others", "assignment": "nearest"},
            "released": {"similarity": "dot", "smoothing": "uniform"},
        }
        if protocol not in differing:
            raise ValueError(f"unknown protocol {protocol!r}; known: {', '.join(differing)}")
        hyperparameters = {"sigma": 0.4, "lambda": 0.1, "e": 100, "beta": 0.1}
        return Recipe(
            epochs=60,
            batch_size=64,
            learning_rate=1e-3,
            anchors="uniform",
            hyperparameters=hyperparameters,
            **differing[protocol],
        )

    def load(self, options: TableOptions) -> Data:
        """Inputs (N, columns) float32, each number less its median; coarse (N,); fine (N,) classes, or numbers."""
        table = read_table(Path(options.data).expanduser())
        source, cut = str(table.path), Coarse.read(options.coarse)
        fine_names = table.named((options.fine,) if isinstance(options.fine, str) else options.fine, "fine")
        (coarse_name,) = _one(table, cut.column, "coarse")
        group_names = [] if options.group is None else _one(table, options.group, "group")
        labels = [coarse_name, *fine_names, *group_names]
        without = {*labels, *table.named(options.leave_out, "leave_out")}
        names = [name for name in (*table.columns, *table.unread) if name not in without]
        kept = _complete(table, labels, names, options.missing)
        columns = {name: table.column(name)[kept] for name in (*labels, *names)}

        coarse, coarse_names = coarse_labels(cut, columns[coarse_name], source)
        fine, fine_classes = fine_labels({name: columns[name] for name in fine_names}, options.fine_kind, source)
        parts = ["train", *(["validation"] if options.validation else []), "heldout"]
        check_sizes("coarse", coarse, coarse_names, parts, source)
        if fine_classes is not None:
            check_sizes("fine", fine, fine_classes, parts, source)
        inputs, extra = _inputs({name: columns[name] for name in names}, source)
        groups = None
        if group_names:
            groups = torch.from_numpy(_codes(columns[group_names[0]]))
            if int(groups.max()) + 1 < len(parts):
                raise DataError(
                    f"{source}: group column {options.group!r} has {int(groups.max()) + 1} groups, fewer than the "
                    f"{len(parts)} parts ({', '.join(parts)})"
                )
        tensors = inputs, torch.from_numpy(coarse), torch.from_numpy(fine)
        kind = "numbers" if fine_classes is None else f"{len(fine_classes)} classes"
        dropped = table.rows - len(coarse)
        text = (
            f"{table.path.name}: {len(coarse):,} rows × {len(names)} columns, {len(coarse_names)} coarse classes by "
            f"{coarse_name}; fine: {', '.join(fine_names)} ({kind})"
            + (f"; {dropped:,} rows with missing values left out" if dropped else "")
            + (f"; all rows of a {options.group} in one part" if options.group else "")
        )
        return Data(
            name=table.path.stem,
            provenance=options.provenance,
            fingerprint=fingerprint(*tensors, *([] if groups is None else [groups])),
            inputs=tensors[0],
            coarse=tensors[1],
            fine=tensors[2],
            coarse_names=tuple(coarse_names),
            description=f"{text}. {options.description}" if options.description else text,
            extra={**extra, "groups": groups},
        )

    def split(self, data: Data, options: TableOptions, generator: torch.Generator) -> Split:
        """Random parts with the shares of the coarse classes that the table has, or whole groups dealt at random."""
        count = len(data.inputs)
        shares = {"validation": options.validation, "heldout": options.heldout}
        if data.extra["groups"] is not None:
            counts = {part: round(count * share) for part, share in shares.items()}
            return grouped.split(data, data.extra["groups"], counts, generator)
        # heldout first, as the order of the parts is that of the random numbers
        dealt = {part: shares[part] for part in ("heldout", "validation")}
        return stratified.split(data.coarse, data.classes, dealt, generator)

    def batch(
        self, inputs: Tensor, options: TableOptions, train: bool, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """As they are stored: the network standardizes, each replica by its own training part."""
        return inputs

    def backbone(self, data: Data, options: TableOptions, generators: Sequence[torch.Generator]) -> nn.Module:
        """The MLP, or S networks of one's own, on standardized inputs."""
        scaling = Scaling(len(generators), data.extra["numeric"], data.extra["marks"])
        if options.backbone is not None:
            return _Own(scaling, backbones.own(options.backbone, data, generators).replicas)
        return _Perceptrons(scaling, (data.inputs.shape[1], *options.hidden), data.classes, generators)

    def evaluators(self, data: Data, options: TableOptions) -> Sequence[Evaluator]:
        """Coarse accuracy each epoch; the fine labels are read by the probes of every benchmark."""
        return (
            Evaluator("accuracy", coarse_accuracy, metrics=classification.ACCURACY),
            Evaluator("arrays", arrays=kept_arrays),
        )


class Scaling(nn.Module):
    """Inputs (S, B, F) standardized by each replica's training part; columns that are not ``numeric`` (F,) stay.

    ``marks`` (F,) is the column that says by 1 where a column's value is missing, −1 where none does: a missing value
    becomes 0, the training part's mean, and does not count for it. Until `fit_inputs` nothing is scaled.
    """

    mean: Tensor
    scale: Tensor
    numeric: Tensor
    marks: Tensor

    def __init__(self, replicas: int, numeric: Tensor, marks: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(replicas, 1, len(numeric)))
        self.register_buffer("scale", torch.ones(replicas, 1, len(numeric)))
        self.register_buffer("numeric", numeric.clone(), persistent=False)
        self.register_buffer("marks", marks.clone(), persistent=False)
        self._gaps = bool((marks >= 0).any())

    def fit_inputs(self, samples: Iterable[Tensor]) -> None:
        """Take mean and deviation of each replica's ``samples`` (n, F)."""
        for replica, sample in enumerate(samples):
            values = sample.double()
            present = self._present(values)
            count = present.sum(0).clamp(min=1)
            mean = (values * present).sum(0) / count
            deviation = ((values - mean).square().mul(present).sum(0) / count).sqrt()
            # of a constant column rounding alone is left
            varies = self.numeric & (deviation > 1e-12 * mean.abs())
            self.mean[replica, 0] = mean.where(self.numeric, 0)
            self.scale[replica, 0] = deviation.where(varies, 1)

    def forward(self, x: Tensor) -> Tensor:
        standardized = (x - self.mean) / self.scale
        return standardized * self._present(x) if self._gaps else standardized

    def _present(self, x: Tensor) -> Tensor:
        """1 where a value (…, F) is there, and 0 where it is missing."""
        return 1 - x[..., self.marks.clamp(min=0)] * (self.marks >= 0)


class _Perceptrons(backbones.ReplicatedMLP):
    def __init__(
        self, scaling: Scaling, sizes: Sequence[int], classes: int, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(sizes, classes, generators)
        self.scaling = scaling

    def fit_inputs(self, samples: Iterable[Tensor]) -> None:
        self.scaling.fit_inputs(samples)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(self.scaling(x))


class _Own(backbones.Looped):
    def __init__(self, scaling: Scaling, networks: Iterable[nn.Module]) -> None:
        super().__init__(list(networks))
        self.scaling = scaling

    def fit_inputs(self, samples: Iterable[Tensor]) -> None:
        self.scaling.fit_inputs(samples)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(self.scaling(x))


def _one(table: Table, name: str, option: str) -> list[str]:
    columns = table.named([name], option)
    if len(columns) > 1:
        raise DataError(
            f"{table.path}: {option} must be one column, and {name!r} has {len(columns)}: {columns[0]!r}, say"
        )
    return columns


def _complete(table: Table, labels: Sequence[str], names: Sequence[str], policy: str | None) -> np.ndarray:
    """Which rows (N,) are kept; `DataError` for the first value that is missing and that ``policy`` does not mend."""
    kept = np.ones(table.rows, bool)
    total = 0
    first: tuple[int, str] | None = None
    for name in (*labels, *names):
        gaps = missing(table.column(name))
        if name in names and gaps.all():
            raise DataError(f"{table.path}: column {name!r} holds no value: list it under leave_out")
        if policy == "mean" and name in names:
            continue
        kept &= ~gaps
        total += int(gaps.sum())
        if gaps.any() and (first is None or int(gaps.argmax()) < first[0]):
            first = int(gaps.argmax()), name
    if first is None:
        return kept
    if policy != "drop":
        mend = (
            "a label has no mean: fill it in, or say missing: drop"
            if policy == "mean"
            else "fill it in, or say missing: drop, or missing: mean"
        )
        raise DataError(
            f"{table.path}: no value in row {first[0] + 1} (the header not counted), column {first[1]!r}; {total:,} "
            f"{'is' if total == 1 else 'are'} missing: {mend}"
        )
    if not kept.any():
        raise DataError(f"{table.path}: no row is left without a missing value: list columns under leave_out")
    return kept


def _inputs(columns: Mapping[str, np.ndarray], source: str) -> tuple[Tensor, dict[str, Any]]:
    """Inputs (N, F): numbers, one column for each word of a text column, and marks of missing numbers.

    Beside them what the network needs to know: the names, which are ``numeric`` (F,), and ``marks`` (F,) as in
    `Scaling`. A missing text is none of its column's words.
    """
    numbers = {name: values for name, values in columns.items() if not is_text(values)}
    if not numbers:
        raise DataError(f"{source}: no column of numbers is left for inputs: name fewer columns as labels or left out")
    made: dict[str, np.ndarray] = {}
    marked: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        if is_text(values):
            made |= _one_hot(name, values, source)
            continue
        gaps = np.isnan(values)
        # float32 has 7 digits, which a year or a time since 1970 would use up; a shift drops out when standardized
        centred = values - np.median(values[~gaps])
        made[name] = np.where(gaps, 0, centred)
        if gaps.any():
            marked[name] = gaps
    names = [*made, *(f"{name} missing" for name in marked)]
    marks = torch.full((len(names),), -1)
    for number, name in enumerate(marked, start=len(made)):
        marks[names.index(name)] = number
    numeric = torch.tensor([name in numbers for name in made] + [False] * len(marked))
    stacked = np.stack([*made.values(), *marked.values()], 1).astype(np.float32)
    return torch.from_numpy(stacked), {"columns": names, "numeric": numeric, "marks": marks}


def _one_hot(name: str, values: np.ndarray, source: str) -> dict[str, np.ndarray]:
    words = sorted({value for value in values if value is not None})
    if len(words) > MOST_WORDS or len(words) * 2 > len(values):
        raise DataError(
            f"{source}: text column {name!r} holds {len(words):,} different words in {len(values):,} rows, too many "
            "for an input each: list it under leave_out"
        )
    return {f"{name}_{word}": (values == word).astype(np.float64) for word in words}


def _codes(values: np.ndarray) -> np.ndarray:
    return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int64)
