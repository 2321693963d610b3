"""Does the anchors' entropy follow the features'? Both along training, rescaled (figure A6), and their correlation.

python -m analysis.hyperspectral.entropy_estimate --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from analysis import command, output, selection, statistics
from analysis.output import Section
from analysis.runs import Study
from analysis.trajectories import by_criterion

#: figure A6, as printed, of CE
PRINTED_CORRELATION = 0.86
#: metric -> (label, colour, line style): blue and red, as in the paper
CURVES = {
    "entropy/features": ("entropy of the features (histogram)", "#0077BB", "-"),
    "entropy/anchors": ("approximation by anchors (one-hot)", "#CC3311", "--"),
}


def section(study: Study, out: Path) -> Section:
    """Figure ``entropy-estimate`` for CE, as in the paper, and table ``entropy-correlation`` for every criterion."""
    title = "Approximation of the entropy: figure A6"
    chosen = selection.headline(study)
    coefficients = correlations(study)
    if not coefficients:
        return Section(title, ("The two entropies were not measured along training.",))
    criterion = "ce" if "ce" in coefficients else next(iter(coefficients))
    canvas, axes = plt.subplots(figsize=(5.4, 3.2), layout="constrained")
    for metric, (label, colour, style) in CURVES.items():
        values = by_criterion(study, metric)[criterion]
        rescaled = (values - values.min()) / (values.max() - values.min())
        line = statistics.band(rescaled, selection.planned(study, chosen[criterion].trial))
        axes.plot(line.index, line["mean"], color=colour, linestyle=style, label=label)
        axes.fill_between(line.index, line["low"], line["high"], color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="epoch", ylabel="entropy, rescaled to 0..1")
    axes.legend(fontsize=8)
    label = chosen[criterion].label
    caption = (
        f"Entropy of the features and its approximation by anchors under {label}, each rescaled to 0..1 by seed, after "
        f"figure A6. {output.seeds_note(study, {label: chosen[criterion].trial}, statistics.LEVEL)}"
    )
    figure = output.save_figure(study, canvas, out, "entropy-estimate", caption)
    rows = [
        {
            "trial": chosen[name].label,
            "correlation": str(statistics.estimate(values, selection.planned(study, chosen[name].trial))),
        }
        for name, values in coefficients.items()
    ]
    rows += output.printed(study, [{"trial": "paper: CE", "correlation": f"{PRINTED_CORRELATION} (one run)"}])
    caption = (
        "Pearson correlation along training of the two entropies, seed by seed, mean over seeds with "
        f"{statistics.LEVEL:.0%} Student-t interval."
    )
    return Section(title, (figure, output.save_table(study, pd.DataFrame(rows), out, "entropy-correlation", caption)))


def correlations(study: Study) -> dict[str, pd.Series]:
    """criterion -> Pearson correlation of the two entropies over the epochs that have both, by seed."""
    features, anchors = (by_criterion(study, metric) for metric in CURVES)
    coefficients = {}
    for criterion in features.keys() & anchors.keys():
        epochs = features[criterion].index.intersection(anchors[criterion].index)
        if len(epochs) >= 3:
            coefficients[criterion] = features[criterion].loc[epochs].corrwith(anchors[criterion].loc[epochs])
    return {criterion: coefficients[criterion] for criterion in selection.headline(study) if criterion in coefficients}


if __name__ == "__main__":
    command.run(section, __doc__)
