// A metric against a hyperparameter, at an epoch that a slider chooses.

function sensitivity(study, panel) {
  const plot = new Plot(panel);
  const again = redrawing(isLast => draw(isLast));
  const sweep = choice('Along', study.sweeps.map((each, place) => [String(place), each.label]), again);
  const metric = choice('Metric', study.metrics.map(each => [each.name, each.label]), () => { log.box.checked = startsLog(current()); layEpochs(); again(); });
  const current = () => study.metrics.find(each => each.name === metric.value);
  const log = toggle('logarithmic', startsLog(study.metrics[0]), again);
  const same = toggle('one scale for all epochs', false, again);
  const holder = make('span', { className: 'epochs' });
  let epoch;
  // a metric has epochs of its own
  function layEpochs() {
    const { epochs } = current();
    epoch = slider('Epoch', epochs.length, epochs.length - 1, place => String(epochs[place]), again);
    holder.replaceChildren(epoch.element);
  }
  layEpochs();
  panel.querySelector('.controls').append(sweep.element, metric.element, log.element, same.element, holder);
  const everySeed = study.seeds.map((_, place) => place);

  async function draw(isLast) {
    const chosen = current();
    const place = epoch.value;
    const values = await valuesOf(study, chosen);
    if (!isLast()) return;
    const along = study.sweeps[Number(sweep.value)];
    const at = placesOf(along.at, along.log);
    const ticks = ticksOf(at.at, along.at);
    const found = along.trials.map(trial => estimate(study, chosen, values, trial, place, everySeed));
    const traces = [pointsAlong(study, along, at, found, chosen.epochs[place])];
    const level = study.reference === null ? null : estimate(study, chosen, values, study.reference, place, everySeed);
    if (level?.n) traces.unshift(levelLine(study, at, level, chosen.epochs[place]));
    panel.querySelector('.caption').textContent = `Means over seeds at epoch ${chosen.epochs[place]}, with ${study.level * 100}% Student-t intervals where all planned seeds count; `
      + 'the level line is the reference’s mean.';
    await plot.draw(traces, {
      xaxis: axisLook(along.label, { tickvals: ticks.map(([tick]) => tick), ticktext: ticks.map(([, text]) => plain(text)) }),
      yaxis: axisLook(chosen.label, { ...(log.on ? { type: 'log', dtick: 'D2' } : {}), ...(same.on ? rangeOver(study, chosen, values, along, log.on) : {}) }),
    });
  }
  return again;
}

function pointsAlong(study, along, at, found, epoch) {
  const look = study.criteria[along.criterion];
  const colour = colourOf(look);
  const trace = new Trace({
    mode: along.line ? 'lines+markers' : 'markers',
    line: { color: colour, width: 2 },
    marker: { color: colour, symbol: look.symbol, size: 9 },
    error_y: { type: 'data', array: found.map(({ half }) => (Number.isNaN(half) ? 0 : half)), color: colour, thickness: 1.4 },
  });
  trace.add(found.map((each, place) => [at.at[place], each.mean, `${study.trials[along.trials[place]].label}, epoch ${epoch}: ${estimateText(each)}`]));
  return trace;
}

function levelLine(study, at, level, epoch) {
  const trial = study.trials[study.reference];
  const look = study.criteria[trial.criterion];
  const places = at.at.filter(place => place !== null);
  const trace = new Trace({ mode: 'lines', line: { color: colourOf(look), dash: look.dash, width: 1.6 } });
  trace.add([Math.min(...places), Math.max(...places)].map(place => [place, level.mean, `${trial.label}, epoch ${epoch}: ${estimateText(level)}`]));
  return trace;
}

// Lowest and highest mean of the trials along the axis, over all epochs.
function rangeOver(study, metric, values, along, isLog) {
  const trials = study.reference === null ? along.trials : [...along.trials, study.reference];
  let [low, high] = [Infinity, -Infinity];
  for (const trial of trials) {
    for (let seed = 0; seed < study.seeds.length; seed++) {
      const start = startOf(study, metric, trial, seed);
      for (let place = start; place < start + metric.epochs.length; place++) {
        const value = values[place];
        if (Number.isNaN(value) || (isLog && value <= 0)) continue;
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    }
  }
  if (!(low < high)) return {};
  if (isLog) [low, high] = [Math.log10(low), Math.log10(high)];
  const room = 0.05 * (high - low);
  return { range: [low - room, high + room], autorange: false };
}
