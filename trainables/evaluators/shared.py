"""What is measured of every benchmark beside its own metrics: geometry without fine labels, and probes of those.

Both read the part ``heldout``, and ``validation`` for the metrics' twins; nothing is measured of a part that is not
there. A metric that the benchmark measures itself is left to it, and so is an evaluator of the same name. Measured at
the last epoch alone unless ``evaluation.cadence`` says otherwise: what a benchmark's own evaluators read of each epoch
is not known, and a pass over a part may cost as much as a third of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from trainables import twins
from trainables.evaluators import Evaluator, Outputs, Snapshot, classification, collapse, entropy, spectrum
from trainables.evaluators.calibration import ERRORS, expected_calibration_error, reliability
from trainables.evaluators.likelihood import NEGATIVE_LOG, negative_log_likelihood
from trainables.evaluators.probes import Classes, Values, kinds_of
from trainables.metrics import Metric

#: what the evaluators are called, and their metrics' groups in reports
NAMES = LABEL_FREE, PROBES = "label-free", "fine-probes"
#: held-out samples whose features are kept, at most
KEPT = 500
#: a sample of the training part, for the probes, where that is longer than they need
SAMPLE, SAMPLE_SIZE = "train-sample", 10_000

#: what is measured without fine labels; the accuracy stands in a benchmark's own table
METRICS = (
    classification.ACCURACY[0],
    *(
        replace(metric, group=LABEL_FREE)
        for metric in (
            NEGATIVE_LOG,
            ERRORS[0],
            entropy.SCALE,
            entropy.FEATURES,
            entropy.ANCHORS,
            entropy.COMMON_ANCHORS,
            entropy.SPECTRAL,
            spectrum.DECAY,
            spectrum.DISTANCE,
            *collapse.METRICS,
        )
    ),
)

#: the metrics of each of some parts
_Measure = Callable[[Snapshot, Sequence[str]], Sequence[Mapping[str, Tensor]]]


def of_every_benchmark(
    own: Sequence[Evaluator], coarse: Tensor, fine: Tensor, classes: int, parts: Collection[str]
) -> tuple[Evaluator, ...]:
    """The evaluators that stand behind a benchmark's ``own``, for data with these labels and ``classes`` coarse ones.

    ``parts`` are the split's that are not empty. `PROBES` is left out where the fine labels are the coarse ones.
    """
    made = [_evaluator(LABEL_FREE, _label_free(classes), METRICS, parts, _kept)]
    known = coarse >= 0
    if fine.shape != coarse.shape or not torch.equal(fine[known], coarse[known].to(fine.dtype)):
        probes = _probes(fine[known], classes)
        declared = [replace(metric, group=PROBES) for metric in probes.metrics]
        made.append(replace(_evaluator(PROBES, _fine(probes), declared, parts), floors=True))
    names = {evaluator.name for evaluator in own}
    taken = {
        metric.name for metric in (*(m for evaluator in own for m in evaluator.metrics), *twins.declared(own, parts))
    }
    return tuple(_without(evaluator, taken) for evaluator in made if evaluator.name not in names)


def training_sample(train: Tensor) -> Tensor | None:
    """Some `SAMPLE_SIZE` of training indices (S, n), evenly spaced; None where there are no more than that."""
    count = train.shape[1]
    if count <= SAMPLE_SIZE:
        return None
    return train[:, torch.arange(SAMPLE_SIZE, device=train.device) * count // SAMPLE_SIZE]


def _evaluator(
    name: str,
    measure: _Measure,
    declared: Iterable[Metric],
    parts: Collection[str],
    arrays: Callable[[Snapshot], Mapping[str, Tensor]] | None = None,
) -> Evaluator:
    """An evaluator of what ``measure`` says of the held-out part, and of the validation part under the twins' names.

    ``measure`` is asked for both parts at once, since much of what it computes serves both.
    """
    declared = tuple(declared) if twins.HELDOUT in parts else ()
    checked = twins.declared([Evaluator(name, metrics=declared)], parts)

    def both(snapshot: Snapshot) -> Mapping[str, Tensor]:
        if not snapshot.has(twins.HELDOUT):
            return {}
        asked = [part for part in (twins.HELDOUT, twins.VALIDATION) if snapshot.has(part)]
        heldout, *validation = measure(snapshot, asked)
        measured = dict(heldout)
        for of_validation in validation:
            measured |= {twins.name_of(metric): value for metric, value in of_validation.items()}
        return measured

    return Evaluator(name, both, every=0, arrays=arrays, metrics=(*declared, *checked), on_validation=False)


def _without(evaluator: Evaluator, taken: Collection[str]) -> Evaluator:
    """The evaluator without the metrics that are ``taken``."""
    measure = evaluator.measure
    assert measure is not None
    return replace(
        evaluator,
        measure=lambda snapshot: {name: value for name, value in measure(snapshot).items() if name not in taken},
        metrics=tuple(metric for metric in evaluator.metrics if metric.name not in taken),
    )


def _label_free(classes: int) -> _Measure:
    def measure(snapshot: Snapshot, parts: Sequence[str]) -> Sequence[Mapping[str, Tensor]]:
        return [of(snapshot, part) for part in parts]

    def of(snapshot: Snapshot, part: str) -> Mapping[str, Tensor]:
        outputs = _finite(snapshot.outputs(part))
        features, logits, coarse = outputs.features, outputs.logits, outputs.coarse
        similarity = snapshot.similarity
        measured = {
            "accuracy/coarse": classification.accuracy(logits, coarse),
            "likelihood/coarse": negative_log_likelihood(logits, coarse),
            "calibration/ece": expected_calibration_error(reliability(logits.softmax(-1), coarse)),
            "features/scale": entropy.scale(features),
            "entropy/features": entropy.histogram_entropy(features),
            "entropy/anchors": entropy.anchor_entropy(features, snapshot.anchors, similarity),
            "entropy/common-anchors": entropy.anchor_entropy(features, snapshot.common_anchors, similarity),
            "geometry/cdnv": collapse.class_distance_normalized_variance(features, coarse, classes),
            "geometry/nc1": collapse.within_between(features, coarse, classes),
        }
        # on a line a cosine is a sign
        if features.shape[-1] > 1:
            measured["geometry/class-separation"] = collapse.class_separation(features, coarse, classes)
        # a line or a plane has no power law
        if features.shape[-1] > 2:
            decay = spectrum.decay_exponent(features)
            measured |= {
                "entropy/spectral": entropy.spectral_entropy(features),
                "spectrum/decay": decay,
                "spectrum/decay-distance": (decay - 1).abs(),
            }
        return measured

    return measure


def _kept(snapshot: Snapshot) -> Mapping[str, Tensor]:
    """By which replicas are compared in the report: what each says of validation samples, its held-out features."""
    return {**_predictions(snapshot), **_features(snapshot)}


def _features(snapshot: Snapshot) -> Mapping[str, Tensor]:
    """Features of `KEPT` held-out samples at most, for the similarity of criteria; in half precision, as they are many.

    Those of the largest size would be infinite in it, and say nothing then.
    """
    if not snapshot.has(twins.HELDOUT):
        return {}
    features = snapshot.outputs(twins.HELDOUT).features
    count = min(KEPT, features.shape[1])
    spaced = torch.arange(count, device=features.device) * features.shape[1] // count
    return {"heldout-features": features[:, spaced].half()}


def _predictions(snapshot: Snapshot) -> Mapping[str, Tensor]:
    """What each replica says of its validation samples, from which the agreement of seeds is computed."""
    if not snapshot.has(twins.VALIDATION):
        return {}
    outputs = snapshot.outputs(twins.VALIDATION)
    # a diverged network's logits are NaN, whose argmax is some class: −1 stands for none
    predicted = outputs.logits.argmax(-1).masked_fill(~outputs.logits.isfinite().all(-1), -1)
    return {"validation-indices": outputs.indices.int(), "validation-predicted": predicted.int()}


def _probes(fine: Tensor, classes: int) -> Classes | Values:
    kinds = kinds_of(fine)
    return Values(classes) if kinds is None else Classes(kinds, classes)


def _fine(probes: Classes | Values) -> _Measure:
    def measure(snapshot: Snapshot, parts: Sequence[str]) -> Sequence[Mapping[str, Tensor]]:
        train = _finite(snapshot.outputs(SAMPLE if snapshot.has(SAMPLE) else "train"))
        scored = {part: _finite(snapshot.outputs(part)) for part in parts}
        validation = scored.get(twins.VALIDATION)
        tasks = []
        for part, outputs in scored.items():
            # a part is not scored under the regularisation that it chose
            by_validation = validation if part != twins.VALIDATION else None
            fitted, tuning = _apart(train) if by_validation is None else (train, by_validation)
            tasks.append((fitted, tuning, outputs))
        return probes.measure(train, tasks, snapshot.seeds)

    return measure


def _apart(train: Outputs) -> tuple[Outputs, Outputs]:
    """What a probe is fitted to, and every fifth training sample, by which its regularisation is chosen."""
    chosen = torch.arange(train.indices.shape[1], device=train.indices.device) % 5 == 4
    # fewer than five samples leave none to spare, so both are all of them
    return (train.take(~chosen), train.take(chosen)) if chosen.any() else (train, train)


def _finite(outputs: Outputs) -> Outputs:
    """Outputs with 0 for those of a replica that are not all finite: whatever is measured of it becomes NaN."""
    whole = outputs.features.isfinite().flatten(1).all(1) & outputs.logits.isfinite().flatten(1).all(1)
    if whole.all():
        return outputs
    features, logits = (values.where(whole[:, None, None], 0.0) for values in (outputs.features, outputs.logits))
    return replace(outputs, features=features, logits=logits)
