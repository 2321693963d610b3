// Means over seeds with Student-t intervals, and numbers as text.

// Mean of a trial over the seeds that are on (places in study.seeds), at an epoch (place in metric.epochs).
// As in the static figures an interval belongs to all planned seeds: half is NaN where one of those that are on is missing.
function estimate(study, metric, values, trial, epoch, seeds) {
  const found = [];
  let planned = 0;
  for (const seed of seeds) {
    if (!study.trials[trial].seeds.includes(study.seeds[seed])) continue;
    planned += 1;
    const value = values[startOf(study, metric, trial, seed) + epoch];
    if (!Number.isNaN(value)) found.push(value);
  }
  const n = found.length;
  const mean = found.reduce((sum, value) => sum + value, 0) / n;
  const squares = found.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const isWhole = n === planned && n >= 2;
  return { mean, half: isWhole ? study.halves[n] * Math.sqrt(squares / (n - 1)) : NaN, n, planned };
}

function shown(value, digits = 4) {
  if (typeof value === 'string') return value;
  return String(Number(value.toPrecision(digits))).replace('-', '−');
}

function estimateText({ mean, half, n, planned }) {
  if (Number.isNaN(half)) return `${shown(mean)} (n = ${n} of ${planned})`;
  return `${shown(mean)} ± ${shown(half, 2)} (n = ${n})`;
}

// Places along an axis in its own order: logarithms where those are asked for and exist, 0 a step below the smallest;
// words one after another.
function placesOf(values, isLog) {
  const numbers = values.filter(value => typeof value === 'number');
  if (numbers.length < values.filter(value => value !== null).length) {
    const words = [...new Set(values.filter(value => value !== null).map(String))];
    return { at: values.map(value => (value === null ? null : words.indexOf(String(value)))), log: false };
  }
  const positive = numbers.filter(value => value > 0);
  const log = isLog && positive.length > 0 && numbers.every(value => value >= 0);
  if (!log) return { at: values, log };
  const below = Math.log10(Math.min(...positive)) - 0.5;
  return { at: values.map(value => (value === null ? null : value > 0 ? Math.log10(value) : below)), log };
}

// Those of some places whose labels stand apart, each as [place, label].
function ticksOf(at, values, most = 8) {
  const ticks = [...new Map(at.map((place, index) => [place, shown(values[index], 3)]))].filter(([place]) => place !== null);
  ticks.sort((first, second) => first[0] - second[0]);
  const span = ticks.length ? ticks[ticks.length - 1][0] - ticks[0][0] : 0;
  const apart = [];
  for (const tick of ticks) {
    if (!apart.length || tick[0] - apart[apart.length - 1][0] >= span / most) apart.push(tick);
  }
  return apart;
}

// Text that Plotly shows as it stands, and does not read as markup.
function plain(text) {
  return String(text).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
