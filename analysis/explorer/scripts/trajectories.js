// A metric along training: by criterion and setting, as means with bands or seed by seed.

// points that are drawn at most; a browser takes a second or two for so many
const MOST_POINTS = 60000;

function trajectories(study, panel) {
  const plot = new Plot(panel);
  const again = redrawing(isLast => draw(isLast));
  const drawn = study.metrics.filter(metric => metric.epochs.length > 1);
  const metric = choice('Metric', drawn.map(each => [each.name, each.label]), () => { log.box.checked = startsLog(current()); again(); });
  const current = () => drawn.find(each => each.name === metric.value);
  const show = switchOf('explore-show', 'Show', [['bands', 'means and bands'], ['seeds', 'single seeds']], again);
  const log = toggle('logarithmic', startsLog(drawn[0]), again);
  const seeds = toggles('Seeds', study.seeds.map(String), again);
  const criteria = study.criteria.map((look, number) => criterionRow(study, look, number, again));
  panel.querySelector('.controls').append(
    metric.element, log.element, show.element,
    make('fieldset', { className: 'criteria' }, make('legend', {}, 'Criteria'), ...criteria.map(row => row.element)),
    seeds.element,
  );

  async function draw(isLast) {
    const chosen = current();
    const values = await valuesOf(study, chosen);
    if (!isLast()) return;
    const budget = { left: MOST_POINTS, cut: 0 };
    const traces = criteria.flatMap((row, number) => (row.on
      ? linesOf(study, chosen, values, row.trials, study.criteria[number], seeds.on, show.value === 'seeds', budget) : []));
    panel.querySelector('.caption').textContent = captionOf(study, chosen, show.value, seeds.on.length, budget.cut);
    await plot.draw(traces, {
      // of few epochs there are no halves
      xaxis: axisLook('epoch', Math.max(...chosen.epochs) <= 10 ? { dtick: 1 } : {}),
      yaxis: axisLook(chosen.label, log.on ? { type: 'log', dtick: 'D2' } : {}),
    });
  }
  return again;
}

function startsLog(metric) {
  return metric.log && metric.better === 'lower';
}

// A criterion's box, and which of its trials are shown.
function criterionRow(study, look, number, changed) {
  const own = study.trials.flatMap((trial, place) => (trial.criterion === number ? [place] : []));
  own.sort((first, second) => Number(study.trials[second].speaks) - Number(study.trials[first].speaks));
  const box = toggle(look.label, true, changed, swatch(look));
  const options = own.map(place => [String(place), study.trials[place].label]);
  if (own.length > 1) options.splice(1, 0, ['all', `all ${own.length} settings`]);
  const setting = own.length > 1 ? choice('', options, changed) : null;
  setting?.list.setAttribute('aria-label', `setting of ${look.label}`);
  return {
    element: make('div', {}, box.element, ...(setting ? [setting.element] : [])),
    get on() { return box.on; },
    get trials() { return setting?.value === 'all' ? own : [Number(setting ? setting.value : own[0])]; },
  };
}

function linesOf(study, metric, values, trials, look, seeds, isBySeed, budget) {
  const colour = colourOf(look);
  const line = { color: colour, dash: look.dash, width: trials.length > 1 || isBySeed ? 1.1 : 2.2 };
  const trace = new Trace({ mode: 'lines', line, opacity: trials.length > 1 ? 0.6 : 1, name: plain(look.label) });
  const bands = [];
  for (const trial of trials) {
    const curves = isBySeed
      ? seeds.filter(seed => study.trials[trial].seeds.includes(study.seeds[seed])).map(seed => seedCurve(study, metric, values, trial, seed))
      : [meanCurve(study, metric, values, trial, seeds)];
    for (const points of curves) {
      if (budget.left < points.length) {
        budget.cut += 1;
      } else if (points.length) {
        budget.left -= points.length;
        trace.add(points);
        if (!isBySeed && trials.length === 1) bands.push(band(points, colour));
      }
    }
  }
  return [...bands, trace];
}

function seedCurve(study, metric, values, trial, seed) {
  const start = startOf(study, metric, trial, seed);
  const { label } = study.trials[trial];
  const points = metric.epochs.map((epoch, place) => [epoch, values[start + place]]);
  if (points.every(([, value]) => Number.isNaN(value))) return [];
  return points.map(([epoch, value]) => [epoch, value, `${label}, seed ${study.seeds[seed]}, epoch ${epoch}: ${shown(value)}`]);
}

function meanCurve(study, metric, values, trial, seeds) {
  const points = [];
  metric.epochs.forEach((epoch, place) => {
    const found = estimate(study, metric, values, trial, place, seeds);
    if (!found.n) return;
    points.push([epoch, found.mean, `${study.trials[trial].label}, epoch ${epoch}: ${estimateText(found)}`, found.half]);
  });
  return points;
}

// The interval of each mean, as an area; none where a seed is missing.
function band(points, colour) {
  const whole = points.filter(point => !Number.isNaN(point[3]));
  return {
    type: 'scatter', mode: 'lines', fill: 'toself', fillcolor: faded(colour, 0.2), line: { width: 0 }, hoverinfo: 'skip',
    x: [...whole.map(point => point[0]), ...whole.map(point => point[0]).reverse()],
    y: [...whole.map(point => point[1] + point[3]), ...whole.map(point => point[1] - point[3]).reverse()],
  };
}

function captionOf(study, metric, show, seedCount, cut) {
  const what = show === 'seeds'
    ? 'A line for each seed that is on.'
    : `Means over the ${seedCount} seeds that are on, with ${study.level * 100}% Student-t intervals; no band where a planned seed is missing or several settings of a criterion are shown.`;
  const note = metric.note ? ` ${metric.label}: ${metric.note}.` : '';
  const less = cut ? ` ${cut} further lines are left out: choose a setting to see them.` : '';
  return `${what}${note}${less}`;
}
