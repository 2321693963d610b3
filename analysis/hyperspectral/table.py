"""Table 1: raw and transfer MSE by criterion, the latter under every probe, beside the printed numbers.

python -m analysis.hyperspectral.table --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from analysis import command, output, statistics, tables
from analysis.output import Section, Table
from analysis.runs import Study

#: columns: metric -> heading
COLUMNS: Mapping[str, str] = {
    "accuracy/coarse": "coarse accuracy",
    "mse/raw": "raw MSE (sum)",
    "rmse/raw": "raw RMSE",
    "mse/transfer": "transfer MSE, paper's probe",
    "mse/transfer-min": "transfer MSE, paper's probe, best epoch",
    "mse/transfer-standardized": "transfer MSE, standardized",
    "mse/transfer-least-squares": "transfer MSE, least squares",
}
#: the probes of transfer MSE, the paper's first
PROBES: Mapping[str, str] = {
    "mse/transfer": "paper's probe, last epoch",
    "mse/transfer-min": "paper's probe, best epoch",
    "mse/transfer-standardized": "standardized features",
    "mse/transfer-least-squares": "least squares",
}
NOTE = (
    "Raw MSE is the squared error summed over the materials, and raw RMSE its square root (eq. 14); transfer MSE is "
    "the mean over the materials. Probes on frozen features: the paper's is a linear layer with softmax trained by "
    "Adam at a rate of 0.1; the standardized one is the same on standardized features at 0.01; least squares is "
    "closed-form, without softmax."
)


def section(study: Study, out: Path, printed: tables.Printed = ()) -> Section:
    """Tables ``unmixing`` (ours beside the ``printed`` ones) and ``unmixing-differences`` (paired, against CE)."""
    shown = tables.rows(study)
    if not shown:
        return Section("Unmixing: Table 1", ("No trial is done.",))
    caption = f"Means over seeds at the last epoch ({output.seeds_note(study, shown, statistics.LEVEL)[:-1]})"
    if printed := output.printed(study, printed):
        caption += (
            ", beside Table 1 of the paper and the printed outputs of its released notebook, both on the authors' data"
        )
    caption += "."
    table = tables.beside(study, shown, COLUMNS, printed)
    data = tables.numbers(study, shown, COLUMNS)
    items: list[str | Table] = [NOTE, output.save_table(study, table, out, "unmixing", caption, data)]
    differences = tables.against_reference(study, shown, COLUMNS)
    if len(differences):
        caption = f"{tables.differences_caption(study)} Negative is lower than CE."
        data = tables.difference_numbers(study, shown, COLUMNS)
        items.append(output.save_table(study, differences, out, "unmixing-differences", caption, data))
    return Section("Unmixing: Table 1", tuple(items))


if __name__ == "__main__":
    command.run(section, __doc__)
