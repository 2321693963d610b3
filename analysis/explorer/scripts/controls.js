// What one switches with: the browser's own controls, which keys and screen readers reach.

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// A list to choose one of: options are [value, label]; the first is chosen.
function choice(label, options, changed) {
  const list = make('select', {}, ...options.map(([value, text]) => make('option', { value }, text)));
  list.addEventListener('change', changed);
  return { element: make('label', {}, `${label} `, list), get value() { return list.value; }, list };
}

function toggle(label, checked, changed, ...marks) {
  const box = make('input', { type: 'checkbox', checked });
  box.addEventListener('change', changed);
  return { element: make('label', { className: 'toggle' }, box, ...marks, ` ${label}`), box, get on() { return box.checked; } };
}

// One of several words, as radio buttons of one name.
function switchOf(name, legend, options, changed) {
  const buttons = options.map(([value, text], place) => {
    const button = make('input', { type: 'radio', name, value, checked: place === 0 });
    button.addEventListener('change', changed);
    return [button, make('label', { className: 'toggle' }, button, ` ${text}`)];
  });
  return {
    element: make('fieldset', {}, make('legend', {}, legend), ...buttons.map(([, label]) => label)),
    get value() { return buttons.find(([button]) => button.checked)[0].value; },
  };
}

function slider(label, count, start, named, changed) {
  const input = make('input', { type: 'range', min: 0, max: count - 1, step: 1, value: start });
  const output = make('output', {}, named(start));
  const set = () => {
    output.textContent = named(Number(input.value));
    input.setAttribute('aria-valuetext', named(Number(input.value)));
  };
  input.addEventListener('input', () => { set(); changed(); });
  set();
  const element = make('label', { className: 'slider' }, `${label} `, input, ' ', output);
  return { element, input, get value() { return Number(input.value); }, get isWhole() { return Number(input.value) === start; } };
}

// A fieldset with a box for each label, and two buttons for all and none.
function toggles(legend, labels, changed) {
  const boxes = labels.map(label => toggle(label, true, changed));
  const setAll = on => { boxes.forEach(({ box }) => { box.checked = on; }); changed(); };
  const buttons = [['all', true], ['none', false]].map(([text, on]) => {
    const button = make('button', { type: 'button' }, text);
    button.addEventListener('click', () => setAll(on));
    return button;
  });
  const list = make('span', { className: 'boxes' }, ...boxes.map(box => box.element));
  return {
    element: make('fieldset', {}, make('legend', {}, legend), list, ...(labels.length > 2 ? buttons : [])),
    get on() { return boxes.flatMap((box, place) => (box.on ? [place] : [])); },
  };
}

// A piece of a criterion's line, as it is drawn.
function swatch(look) {
  const dashes = { solid: '', dash: '9 5', dashdot: '8 4 2 4', dot: '2 4' };
  const drawing = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const line = document.createElementNS('http://www.w3.org/2000/svg', 'line');
  const attributes = { x1: 0, y1: 5, x2: 32, y2: 5, 'stroke-width': 3, 'stroke-dasharray': dashes[look.dash] };
  for (const [name, value] of Object.entries(attributes)) line.setAttribute(name, value);
  drawing.setAttribute('class', 'swatch');
  drawing.setAttribute('aria-hidden', 'true');
  drawing.style.setProperty('--light', look.light);
  drawing.style.setProperty('--dark', look.dark);
  drawing.append(line);
  return drawing;
}
