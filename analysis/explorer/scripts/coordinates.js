// Parallel coordinates: every setting of a criterion as a line over hyperparameters and metrics, within chosen ranges.

const RANGE_STEPS = 100;

function coordinates(study, panel) {
  const plot = new Plot(panel);
  const several = study.criteria.flatMap((look, number) => (study.trials.filter(trial => trial.criterion === number).length > 1 ? [[String(number), look.label]] : []));
  const again = redrawing(() => draw());
  const criterion = choice('Criterion', several, () => { layRanges(); again(); });
  const searched = study.search ? several.findIndex(([number]) => study.search.best.some(trial => study.trials[trial].criterion === Number(number))) : -1;
  if (searched > 0) criterion.list.selectedIndex = searched;
  const shownMetrics = study.metrics.map(metric => [metric, toggle(metric.label, study.first.includes(metric.name), () => { layRanges(); again(); })]);
  const feasible = study.search?.limited ? toggle('within the constraint only', false, again) : null;
  const ranges = make('div', { className: 'ranges' });
  const more = make('details', {}, make('summary', {}, 'Metrics shown'), make('span', { className: 'boxes' }, ...shownMetrics.map(([, box]) => box.element)));
  panel.querySelector('.controls').append(criterion.element, ...(feasible ? [feasible.element] : []), more, ranges);
  let axes = [];
  let trials = [];

  function layRanges() {
    const number = Number(criterion.value);
    trials = study.trials.flatMap((trial, place) => (trial.criterion === number ? [place] : []));
    const metrics = shownMetrics.filter(([, box]) => box.on).map(([metric]) => metric);
    axes = [...settingAxes(study, number, trials), ...metricAxes(metrics, trials)].map(axis => ({ ...axis, ...rangesOf(axis, again) }));
    ranges.replaceChildren(...axes.map(axis => axis.element));
  }
  layRanges();

  async function draw() {
    const look = study.criteria[Number(criterion.value)];
    const groups = grouped(study, trials, axes, feasible?.on);
    const colour = colourOf(look);
    const best = trials.filter(trial => study.search?.best.includes(trial));
    const looks = {
      out: { line: { color: themeColour('line'), width: 1 }, hoverinfo: 'skip', hovertemplate: undefined },
      outside: { line: { color: themeColour('soft'), width: 1.2, dash: 'dot' }, marker: { symbol: 'x', size: 6 } },
      inside: { line: { color: colour, width: 1.4 }, marker: { symbol: 'circle', size: 5 } },
    };
    const traces = Object.entries(looks).map(([group, lines]) => {
      const trace = new Trace({ mode: group === 'out' ? 'lines' : 'lines+markers', opacity: 0.85, ...lines });
      for (const trial of groups[group]) trace.add(lineOf(study, trial, axes));
      if (group === 'out') trace.ends = [];
      return trace;
    });
    const strong = new Trace({ mode: 'lines+markers', line: { color: themeColour('ink'), width: 3.2 }, marker: { symbol: 'star', size: 11 } });
    for (const trial of best.filter(each => !groups.out.includes(each))) strong.add(lineOf(study, trial, axes));
    const marked = { type: 'scatter', mode: 'lines', x: [], y: [], hoverinfo: 'skip', line: { color: themeColour('ink'), width: 2.4, dash: 'dash' } };
    panel.querySelector('.caption').textContent = coordinatesCaption(study, look, trials, groups, best);
    await plot.draw([...traces, strong, marked], frameOf(axes));
  }

  // the line that is pointed at stands out
  plot.stood = ({ number, points }) => {
    const trace = plot.traces[number];
    const ofLine = axis => points.map(place => trace[axis][place]);
    window.Plotly.restyle(plot.holder, { x: [ofLine('x')], y: [ofLine('y')] }, [plot.traces.length - 1]);
  };
  return again;
}

function settingAxes(study, number, trials) {
  const names = study.criteria[number].axes;
  const varied = study.axes.filter(axis => names.includes(axis.name) && new Set(trials.map(trial => study.trials[trial].at[axis.name])).size > 1);
  return varied.map(axis => axisOf(axis.symbol, trials.map(trial => study.trials[trial].at[axis.name] ?? null), trials, axis.log));
}

function metricAxes(metrics, trials) {
  const found = metrics.map(metric => axisOf(metric.label, trials.map(trial => metric.ends[trial]), trials, metric.log && metric.better === 'lower'));
  return found.filter(axis => axis.at.some(place => place !== null));
}

// An axis from 0, the lowest of its places, to 1.
function axisOf(label, values, trials, isLog) {
  const { at, log } = placesOf(values, isLog);
  const there = at.filter(place => place !== null);
  const [low, high] = [Math.min(...there), Math.max(...there)];
  const share = place => (place === null ? null : high > low ? (place - low) / (high - low) : 0.5);
  const ofTrial = new Map(trials.map((trial, index) => [trial, { share: share(at[index]), value: values[index] }]));
  return { label, at, log, ofTrial, values };
}

// Two sliders, for the least and the largest value.
function rangesOf(axis, changed) {
  const ordered = axis.values.map((value, index) => [axis.at[index], value]).filter(([place]) => place !== null).sort((first, second) => first[0] - second[0]);
  const [low, high] = [ordered[0][0], ordered[ordered.length - 1][0]];
  const isWords = ordered.some(([, value]) => typeof value === 'string');
  const named = step => {
    const place = low + (step / RANGE_STEPS) * (high - low);
    if (isWords) return String(ordered.find(([at]) => at >= place - 1e-9)[1]);
    return shown(axis.log ? 10 ** place : place, 3);
  };
  const least = slider('from', RANGE_STEPS + 1, 0, named, changed);
  const most = slider('to', RANGE_STEPS + 1, RANGE_STEPS, named, changed);
  return { element: make('fieldset', {}, make('legend', {}, axis.label), least.element, most.element), least, most };
}

function grouped(study, trials, axes, isFeasibleOnly) {
  const groups = { out: [], outside: [], inside: [] };
  const outside = new Set(study.search?.outside || []);
  for (const trial of trials) {
    const isWithin = axes.every(({ ofTrial, least, most }) => {
      const { share } = ofTrial.get(trial);
      if (share === null) return least.isWhole && most.isWhole;
      // a slider's step may round the end of the range away
      return share >= least.value / RANGE_STEPS - 1e-9 && share <= most.value / RANGE_STEPS + 1e-9;
    });
    const isOutside = outside.has(trial);
    groups[!isWithin || (isFeasibleOnly && isOutside) ? 'out' : isOutside ? 'outside' : 'inside'].push(trial);
  }
  return groups;
}

function lineOf(study, trial, axes) {
  const { label: name, missing, seeds } = study.trials[trial];
  const short = missing ? ` (n = ${seeds.length - missing} of ${seeds.length} seeds)` : '';
  return axes.map(({ label, ofTrial }, place) => {
    const { share, value } = ofTrial.get(trial);
    return [place, share, share === null ? '' : `${name}${short}; ${label}: ${shown(value)}`];
  });
}

// The axes themselves, with a few of their values.
function frameOf(axes) {
  const note = (place, share, text) => ({
    x: place, y: share, text: plain(text), showarrow: false, xanchor: 'left', xshift: 4, font: { size: 11, color: themeColour('soft') }, bgcolor: themeColour('paper'), opacity: 0.85,
  });
  const notes = axes.flatMap((axis, place) => {
    const shares = [...axis.ofTrial.values()].map(({ share }) => share);
    return ticksOf(shares, axis.values, 4).map(([share, text]) => note(place, share, text));
  });
  const line = { color: themeColour('soft'), width: 1.2 };
  return {
    xaxis: axisLook('', {
      tickvals: axes.map((_, place) => place), ticktext: axes.map(axis => folded(axis.label)), showgrid: false, showline: false, ticks: '',
      range: [-0.15, axes.length - 1 + 0.35], fixedrange: true, side: 'top', tickangle: 0, ticklabeloverflow: 'allow',
    }),
    yaxis: { visible: false, range: [-0.06, 1.06], fixedrange: true },
    shapes: axes.map((_, place) => ({ type: 'line', x0: place, x1: place, y0: 0, y1: 1, line, layer: 'below' })),
    annotations: notes,
    margin: { l: 16, r: 16, t: 56, b: 16 },
  };
}

// A label in lines of some sixteen letters, broken between words and after a slash or hyphen.
function folded(label) {
  const lines = [''];
  for (const part of label.split(/(?<=[\s/-])/)) {
    if (lines[lines.length - 1] && lines[lines.length - 1].length + part.length > 16) lines.push('');
    lines[lines.length - 1] += part;
  }
  return lines.map(plain).join('<br>');
}

function coordinatesCaption(study, look, trials, groups, best) {
  const kept = groups.inside.length + groups.outside.length;
  const parts = [`${kept} of ${trials.length} settings of ${look.label} lie within the ranges; values are means over seeds at the last epoch.`];
  if (study.search) parts.push(`Searched for: ${study.search.rule}.`);
  if (groups.outside.length) parts.push(`${groups.outside.length} of them, dotted and crossed, break the constraint.`);
  if (best.length) parts.push(`With stars: the search’s choice, ${best.map(trial => study.trials[trial].label).join(', ')}.`);
  return parts.join(' ');
}
