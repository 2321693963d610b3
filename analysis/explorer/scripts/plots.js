// One plot of a panel: drawn by Plotly in the page's colours, read by pointer or by keys.

const dark = matchMedia('(prefers-color-scheme: dark)');
let plotlyLoading = null;

// Plotly is part of the page, compressed; it is unpacked when the first plot is drawn.
function loadedPlotly() {
  plotlyLoading ??= inflatedText('explore-plotly').then(code => {
    document.head.append(make('script', { textContent: code }));
    return window.Plotly;
  });
  return plotlyLoading;
}

function colourOf(criterion) {
  return dark.matches ? criterion.dark : criterion.light;
}

function faded(colour, alpha) {
  const channels = [1, 3, 5].map(place => parseInt(colour.slice(place, place + 2), 16));
  return `rgba(${channels.join(',')},${alpha})`;
}

function themeColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function axisLook(title, more = {}) {
  return {
    title: { text: plain(title), standoff: 8 },
    gridcolor: themeColour('line'),
    linecolor: themeColour('soft'),
    zeroline: false,
    showline: true,
    ticks: 'outside',
    automargin: true,
    ...more,
  };
}

function layoutOf(more) {
  const ink = themeColour('ink');
  return {
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: ink },
    paper_bgcolor: 'rgba(0,0,0,0)',
    plot_bgcolor: 'rgba(0,0,0,0)',
    margin: { l: 64, r: 16, t: 12, b: 48 },
    hovermode: 'closest',
    hoverlabel: { bgcolor: themeColour('paper'), bordercolor: themeColour('soft'), font: { color: ink }, align: 'left' },
    modebar: { bgcolor: 'rgba(0,0,0,0)', color: themeColour('soft'), activecolor: ink },
    showlegend: false,
    ...more,
  };
}

// Curves joined into one trace, with gaps between them: a thousand lines are drawn as fast as one.
class Trace {
  constructor(look) {
    this.x = [];
    this.y = [];
    this.words = [];
    this.ends = [];
    this.look = look;
  }

  // points: [x, y, what it says]; a gap of y breaks the line
  add(points) {
    if (this.x.length) this.push(null, null, '');
    const start = this.x.length;
    for (const point of points) this.push(...point);
    this.ends.push([start, this.x.length]);
  }

  push(x, y, words) {
    this.x.push(x);
    this.y.push(Number.isFinite(y) ? y : null);
    this.words.push(words);
  }

  get made() {
    return {
      type: 'scatter', x: this.x, y: this.y, text: this.words.map(plain), connectgaps: false,
      hovertemplate: '%{text}<extra></extra>', ...this.look,
    };
  }
}

class Plot {
  constructor(panel) {
    this.holder = panel.querySelector('.plot');
    this.reading = panel.querySelector('.reading');
    this.traces = [];
    this.curve = -1;
    this.holder.addEventListener('keydown', event => this.move(event));
    this.holder.addEventListener('focus', () => this.say(this.reading.textContent || 'Arrow keys go from point to point.'));
  }

  // traces are Trace objects, which can be read, or Plotly's own, which cannot
  async draw(traces, layout) {
    const plotly = await loadedPlotly();
    this.traces = traces;
    this.curves = traces.flatMap((trace, number) => (trace.ends || []).map(([start, end]) => this.readable(trace, number, start, end)));
    this.curves = this.curves.filter(curve => curve.points.length);
    this.curve = -1;
    this.reading.textContent = '';
    const config = {
      responsive: true,
      displaylogo: false,
      // Plotly would offer to send the study to its makers
      showSendToCloud: false,
      modeBarButtonsToRemove: ['select2d', 'lasso2d'],
    };
    await plotly.react(this.holder, traces.map(trace => trace.made || trace), layoutOf(layout), config);
    if (!this.listens) {
      this.listens = true;
      this.holder.on('plotly_hover', event => this.hovered(event.points[0]));
    }
    this.holder.dataset.drawn = String(Number(this.holder.dataset.drawn || 0) + 1);
  }

  readable(trace, number, start, end) {
    const points = [];
    for (let place = start; place < end; place++) if (trace.y[place] !== null) points.push(place);
    return { number, points };
  }

  hovered(point) {
    const trace = this.traces[point.curveNumber];
    if (!trace.words) return;
    this.say(trace.words[point.pointIndex ?? point.pointNumber]);
    const curve = this.curves.findIndex(({ number, points }) => number === point.curveNumber && points.includes(point.pointNumber));
    if (curve >= 0) this.stand(curve, this.curves[curve].points.indexOf(point.pointNumber));
  }

  // left and right go along a curve, up and down to another one at the same place
  move(event) {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -Infinity], End: [0, Infinity] };
    if (!(event.key in steps) || !this.curves?.length || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const [down, across] = steps[event.key];
    const isNew = this.curve < 0;
    const curve = isNew ? 0 : Math.min(this.curves.length - 1, Math.max(0, this.curve + down));
    const last = this.curves[curve].points.length - 1;
    const place = isNew ? last : Math.min(last, Math.max(0, this.place + across));
    this.stand(curve, place);
    const { number, points } = this.curves[curve];
    window.Plotly.Fx.hover(this.holder, [{ curveNumber: number, pointNumber: points[place] }]);
    this.say(this.traces[number].words[points[place]]);
  }

  stand(curve, place) {
    this.curve = curve;
    this.place = place;
    this.stood?.(this.curves[curve], place);
  }

  say(text) {
    this.reading.textContent = text;
  }
}

// A panel that draws anew when something is switched; of several turns that overlap the last one counts.
function redrawing(draw) {
  let turn = 0;
  const again = () => {
    const own = ++turn;
    return draw(() => own === turn);
  };
  dark.addEventListener('change', again);
  return again;
}
