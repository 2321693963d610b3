// How much of a search's objective hangs on each hyperparameter, as Optuna computes it.

function importance(study, panel) {
  const plot = new Plot(panel);
  const again = redrawing(() => draw());
  const found = study.search.importance;
  const criterion = choice('Criterion', found.map((each, place) => [String(place), study.criteria[each.criterion].label]), again);
  if (found.length > 1) panel.querySelector('.controls').append(criterion.element);

  async function draw() {
    const { criterion: number, points, shares } = found[Number(criterion.value)];
    const bars = new Trace({});
    bars.add(shares.map(({ symbol, share }) => [share, share, `${symbol}: ${Math.round(100 * share)}%`]));
    const made = { ...bars.made, type: 'bar', orientation: 'h', y: shares.map(({ symbol }) => plain(symbol)), marker: { color: colourOf(study.criteria[number]) }, texttemplate: '%{text}', textposition: 'auto' };
    panel.querySelector('.caption').textContent = `Share of each hyperparameter in ${study.search.objective}, by Optuna’s PED-ANOVA over ${points} points of ${study.criteria[number].label}: `
      + `which of them set the best tenth of the points apart. ${shares.map(({ symbol, share }) => `${symbol} ${Math.round(100 * share)}%`).join(', ')}.`;
    await plot.draw([Object.assign(bars, { look: made })], {
      xaxis: axisLook('share', { range: [0, 1.03], tickformat: '.0%' }),
      yaxis: axisLook('', { autorange: 'reversed', ticks: '' }),
    });
  }
  return again;
}
