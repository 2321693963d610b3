"""Fine labels read from frozen features in four ways: linear, nearest neighbours, nearest class mean, clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainables.evaluators import Outputs, clusters, linear_probe, neighbours, scores
from trainables.metrics import Metric
from trainables.replicas import streams

#: neighbours that are asked; how many training samples they are sought among, and for how many held-out ones
NEIGHBOURS, NEIGHBOUR_SAMPLES, QUERIES = 10, 2000, 1000
#: training samples of the trained probes of classes, and of the clusters
LOGISTIC_SAMPLES, CLUSTER_SAMPLES = 5000, 2000
#: clusters within a coarse class where fine labels are values and have no number of their own
CLUSTERS = 5
#: whole numbers of more kinds than this are read as values
MOST_CLASSES = 1000
#: the penalty of the probe that is taught by clusters, whose labels no sample can tune
PENALTY = 1e-3

#: probe -> (how it is called, how it works)
_CLASSES = {
    "linear": ("linear probe", "multinomial logistic regression on frozen features, regularisation chosen apart"),
    "neighbours": ("nearest neighbours", f"vote of the {NEIGHBOURS} nearest training features"),
    "nearest-mean": ("nearest class mean", "the fine class whose mean training feature is nearest"),
    "clusters": (
        "cluster-and-linear-probe",
        "k-means in each coarse class, a linear probe taught by the clusters, classes paired with them afterwards",
    ),
}
_VALUES = {
    "linear": ("linear probe", "affine ridge regression from frozen features, regularisation chosen apart"),
    "neighbours": ("nearest neighbours", f"mean of the {NEIGHBOURS} nearest training features' labels"),
    "nearest-mean": ("nearest class mean", "mean label of the coarse class whose mean training feature is nearest"),
    "clusters": (
        "cluster-and-linear-probe",
        f"k-means with {CLUSTERS} clusters in each coarse class, a linear probe taught by them, their mean label",
    ),
}
_SCORE = {"r2": scores.r_squared, "mse": scores.mean_squared_error, "spearman": scores.spearman}
_SCORES: Mapping[str, tuple[str, Literal["lower", "higher"], str]] = {
    "r2": ("R²", "higher", "R²: mean over the labels' values"),
    "mse": ("MSE", "lower", "MSE: mean over samples and the labels' values"),
    "spearman": ("rank correlation", "higher", "rank correlation: Spearman's, mean over the labels' values"),
}


#: what a linear probe is fitted to, what its regularisation is chosen by, and what all probes are scored on
Task = tuple[Outputs, Outputs, Outputs]


def kinds_of(fine: Tensor) -> Tensor | None:
    """The fine classes in order, where the labels (N,) or (N, m) are classes; None where they are values."""
    if fine.dim() != 1 or fine.is_floating_point():
        return None
    kinds = torch.unique(fine.long())
    return kinds if len(kinds) <= MOST_CLASSES else None


@dataclass(frozen=True)
class Classes:
    """Probes of fine labels that are classes, the numbers ``kinds``, beside ``coarse`` coarse ones."""

    kinds: Tensor
    coarse: int

    @property
    def metrics(self) -> Sequence[Metric]:
        """What `measure` gives."""
        return [
            Metric(f"accuracy/fine-{probe}", f"fine accuracy, {label}", f"{label}: {note}", "", "higher", True)
            for probe, (label, note) in _CLASSES.items()
        ]

    def measure(self, train: Outputs, tasks: Sequence[Task], seeds: Sequence[int]) -> Sequence[Mapping[str, Tensor]]:
        """Share (S,) of samples whose fine class each probe tells, for each of ``tasks``; all features finite.

        Neighbours, class means and clusters are those of ``train``.
        """
        count = len(self.kinds)
        near, taught = _spaced(train, NEIGHBOUR_SAMPLES), _spaced(train, CLUSTER_SAMPLES)
        # of the fine labels their number in each coarse class is told, and no more
        counts = [
            [len(torch.unique(own[coarse == c])) for c in range(self.coarse)]
            for own, coarse in zip(self._numbers(taught), taught.coarse, strict=True)
        ]
        probe = _ClusterProbe(taught, counts, seeds)
        measured = []
        for fitted, tuning, scored in tasks:
            few, asked, true = _spaced(fitted, LOGISTIC_SAMPLES), _spaced(scored, QUERIES), self._numbers(scored)
            weights, offset, _ = linear_probe.logistic(
                few.features, self._numbers(few), tuning.features, self._numbers(tuning), count
            )
            linear = linear_probe.outputs(scored.features, weights, offset).argmax(-1)
            votes = neighbours.vote(self._numbers(near), _nearest(near, asked), count)
            means = neighbours.nearest_mean(train.features, self._numbers(train), scored.features, count)
            paired = clusters.matched_accuracy(probe.told(scored.features), true, probe.groups, count)
            measured.append(
                {
                    "accuracy/fine-linear": (linear == true).double().mean(1),
                    "accuracy/fine-neighbours": (votes == self._numbers(asked)).double().mean(1),
                    "accuracy/fine-nearest-mean": (means == true).double().mean(1),
                    "accuracy/fine-clusters": paired,
                }
            )
        return measured

    def _numbers(self, outputs: Outputs) -> Tensor:
        """The samples' fine classes, numbered from 0."""
        return torch.searchsorted(self.kinds.to(outputs.fine.device), outputs.fine.long())


@dataclass(frozen=True)
class Values:
    """Probes of fine labels that are values, one or several a sample, beside ``coarse`` coarse classes."""

    coarse: int

    @property
    def metrics(self) -> Sequence[Metric]:
        """What `measure` gives."""
        return [
            Metric(
                f"{score}/fine-{probe}",
                f"fine labels' {called}, {label}",
                f"{label}: {note}; {how}",
                "",
                better,
                reads_fine=True,
            )
            for probe, (label, note) in _VALUES.items()
            for score, (called, better, how) in _SCORES.items()
        ]

    def measure(self, train: Outputs, tasks: Sequence[Task], seeds: Sequence[int]) -> Sequence[Mapping[str, Tensor]]:
        """R², mean squared error and rank correlation (S,) of what each probe reads, for each of ``tasks``.

        Neighbours, class means and clusters are those of ``train``. All features finite.
        """
        near, taught = _spaced(train, NEIGHBOUR_SAMPLES), _spaced(train, CLUSTER_SAMPLES)
        probe = _ClusterProbe(taught, [[CLUSTERS] * self.coarse] * len(seeds), seeds)
        by_cluster = _means(_values(taught), probe.clusters, probe.groups)
        by_class = _means(_values(train), train.coarse, self.coarse)
        measured = []
        for fitted, tuning, scored in tasks:
            weights, offset, _ = linear_probe.ridge(fitted.features, _values(fitted), tuning.features, _values(tuning))
            asked = _spaced(scored, QUERIES)
            means = neighbours.nearest_mean(train.features, train.coarse, scored.features, self.coarse)
            predicted = {
                "linear": linear_probe.outputs(scored.features, weights, offset),
                "neighbours": neighbours.average(_values(near), _nearest(near, asked)),
                "nearest-mean": _at(by_class, means),
                "clusters": _at(by_cluster, probe.told(scored.features)),
            }
            measured.append(
                {
                    f"{score}/fine-{name}": _SCORE[score](values, _values(asked if name == "neighbours" else scored))
                    for name, values in predicted.items()
                    for score in _SCORES
                }
            )
        return measured


class _ClusterProbe:
    """A linear probe (ridge) that is taught by the clusters of ``taught``, in each coarse class so many as ``counts``.

    After Yang, Steinhardt and Hu (2023), "Are neurons actually collapsed?" (arXiv 2306.17105), without their t-SNE.
    """

    def __init__(self, taught: Outputs, counts: Sequence[Sequence[int]], seeds: Sequence[int]) -> None:
        self.groups = max(sum(sizes) for sizes in counts)
        self.clusters = clusters.within_classes(taught.features, taught.coarse, counts, streams(seeds, "clusters"))
        wanted = torch.nn.functional.one_hot(self.clusters, self.groups)
        self._weights, self._offset, _ = linear_probe.ridge(
            taught.features, wanted, taught.features[:, :1], wanted[:, :1], (PENALTY,)
        )

    def told(self, features: Tensor) -> Tensor:
        """The cluster (S, n) of each of ``features`` (S, n, d)."""
        return linear_probe.outputs(features, self._weights, self._offset).argmax(-1)


def _nearest(near: Outputs, asked: Outputs) -> Tensor:
    return neighbours.nearest(near.features, asked.features, min(NEIGHBOURS, near.features.shape[1]))


def _spaced(outputs: Outputs, most: int) -> Outputs:
    """At most so many of the samples, evenly spaced."""
    count = outputs.indices.shape[1]
    if count <= most:
        return outputs
    return outputs.take(torch.arange(most, device=outputs.indices.device) * count // most)


def _values(outputs: Outputs) -> Tensor:
    """The fine labels (S, n, m)."""
    fine = outputs.fine.double()
    return fine if fine.dim() == 3 else fine.unsqueeze(-1)


def _means(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """Mean (S, G, m) of (S, n, m) values by group (S, n); a group without a member gets the mean of all."""
    member = torch.nn.functional.one_hot(groups, count).to(values.dtype)
    sizes = member.sum(1).unsqueeze(-1)
    means = torch.bmm(member.mT, values) / sizes.clamp(min=1)
    return torch.where(sizes > 0, means, values.mean(1, keepdim=True))


def _at(means: Tensor, groups: Tensor) -> Tensor:
    """The mean (S, n, m) of each sample's group (S, n)."""
    return means.gather(1, groups.unsqueeze(-1).expand(-1, -1, means.shape[-1]))
