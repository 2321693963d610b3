"""What the words and signs of a page's answer mean, a line each: those alone that the answer has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis import legacy, statistics
from analysis.output import Glossary
from analysis.recommendation import Recommendation
from analysis.runs import Study

#: so many criteria that are drawn and that the answer does not speak of have a line too
FURTHER = 2
#: word -> a text that the answer has where it needs the word, and the word's meaning
_WORDS = {
    "floor": (
        "untrained",
        "what there is without training, by the same probe: of the network as it was initialised, or of the raw inputs",
    ),
    "ceiling": (
        "trained on the fine labels",
        "the same network trained on the fine labels themselves: a yardstick, and no strict bound",
    ),
    "the way from untrained network to ceiling": (
        "of the way",
        "0% is the untrained network, 100% the ceiling; in brackets its interval",
    ),
    "seed": (
        "seed",
        "one repetition of a training: other initial weights, order of batches and, unless the data has parts of its "
        "own, other samples held out",
    ),
    f"[a, b], a {statistics.LEVEL:.0%} interval over the seeds": (
        "[",
        "the values of the mean that the seeds leave open, on this data: where 0 is inside, no difference is shown",
    ),
    "p": ("p\u00a0", "how often chance alone would give a difference as large, were there none"),
    "saturated by sampling": (
        "saturated by sampling",
        "the criterion's own term is as large as it is where features are drawn at random",
    ),
    "ECE": (
        "ECE",
        "calibration error: how far the probabilities of the coarse classes are from how often they are right",
    ),
}


def of_answer(study: Study, found: Recommendation, sentences: Sequence[str]) -> Glossary:
    """The lines that ``sentences``, the answer to what was ``found``, need: criteria, settings, measures, intervals."""
    text = " ".join(sentences)
    return Glossary("\n".join(f"{word}: {meaning}." for word, meaning in _lines(study, found, text)))


def _lines(study: Study, found: Recommendation, text: str) -> Iterator[tuple[str, str]]:
    yield (
        "coarse and fine labels",
        "the network is taught the coarse ones; how well the fine ones can be told from its features is the question",
    )
    rows = study.trials.set_index("trial")["criterion"]
    names = [rows[found.rival], rows[found.reference]]
    drawn = [name for name in rows.unique() if name not in names and not study.criterion(name).fine]
    shown = {name: study.criterion(name) for name in (*names, *drawn[:FURTHER])}
    for name, criterion in shown.items():
        # a store that declares no meanings
        if not criterion.meaning and criterion.label == getattr(legacy.CRITERIA.get(name), "label", ""):
            criterion = legacy.CRITERIA[name]
        if criterion.meaning:
            yield criterion.label, criterion.meaning
        for each in criterion.hyperparameters:
            if each.meaning:
                yield each.symbol, f"a setting of {criterion.label}, {each.meaning}"
    metric = study.metric(found.metric)
    if metric.note:
        kind, _, more = metric.note.partition(": ")
        # a label that has the probe's name already
        yield metric.label, more if more and kind in metric.label else metric.note
    yield from ((word, meaning) for word, (sign, meaning) in _WORDS.items() if sign in text)
