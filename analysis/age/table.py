"""Age estimation by criterion at the last epoch: on training images as released, and on held-out images.

python -m analysis.age.table --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from analysis import command, output, statistics, tables
from analysis.output import Section, Table
from analysis.runs import Study

#: the released code's evaluation: metric -> heading
RELEASED: Mapping[str, str] = {
    "mse/transport": "MSE at the best β",
    "interpolation/beta": "best β",
    "mse/transport-hard": "MSE at the best β, true class",
    "mse/transport-alone": "MSE, transport alone (β = 0)",
    "mse/class-mean": "MSE, class mean alone (β = 1)",
    "mse/random-pairing": "MSE, random pairing",
}
#: ours, on images that were not trained on: metric -> heading
HELDOUT: Mapping[str, str] = {
    "accuracy/coarse": "coarse accuracy",
    "mse/transport-heldout": "MSE at the chosen β",
    "interpolation/beta-heldout": "chosen β",
    "mse/class-mean-heldout": "MSE, class mean alone",
}
DIFFERENCES: Mapping[str, str] = {
    "mse/transport": "MSE, training images",
    "mse/transport-heldout": "MSE, held out",
    "accuracy/coarse": "coarse accuracy",
    "entropy/features": "feature entropy (bits)",
    "entropy/features-corrected": "corrected for bias",
}
#: the output distribution, with the softmax once and, as the released code has it, twice: metric -> heading
OUTPUT: Mapping[str, str] = {
    f"{metric}{suffix}": f"{heading}{words}"
    for suffix, words in (("", ""), ("-double-softmax", ", double softmax"))
    for metric, heading in (
        ("information/mutual", "mutual information (bits)"),
        ("stability", "stability"),
        ("calibration/ece", "ECE"),
        ("calibration/mce", "MCE"),
    )
}
NOTE = (
    "Mean squared errors of the ages in years². Features are ranked and mapped by optimal transport to the known ages, "
    "then interpolated with the mean age of the predicted class: β of the class mean, 1 − β of the transported age."
)


def section(study: Study, out: Path) -> Section:
    """Tables ``age-released``, ``age-heldout`` and ``age-differences`` (paired, against CE)."""
    title = "Ages by criterion"
    shown = tables.rows(study)
    if not shown:
        return Section(title, ("No trial is done.",))
    interval = f"Means at the last epoch; {output.seeds_note(study, shown, statistics.LEVEL)}"
    captions = {
        "age-released": (
            RELEASED,
            "As the released code evaluates: up to 10,000 of the training images, and β chosen on the very ages that "
            "it is scored on, so that the error can't exceed the class mean's.",
        ),
        "age-heldout": (
            HELDOUT,
            "Ours: held-out images, mapped to the training images' ages, with β chosen on validation images.",
        ),
    }
    items: list[str | Table] = [NOTE]
    for stem, (columns, caption) in captions.items():
        table = tables.beside(study, shown, columns, ())
        if len(table.columns) > 1:
            data = tables.numbers(study, shown, columns)
            items.append(output.save_table(study, table, out, stem, f"{caption} {interval}", data))
    differences = tables.against_reference(study, shown, DIFFERENCES)
    if len(differences):
        caption = tables.differences_caption(study)
        items.append(output.save_table(study, differences, out, "age-differences", caption))
    return Section(title, tuple(items))


if __name__ == "__main__":
    command.run(section, __doc__)
