// The page's data. Each block is gzip in base64; curves are rounded and kept as differences (analysis/explorer/packing.py).

async function inflated(id) {
  const text = document.getElementById(id).textContent.trim();
  const packed = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function inflatedText(id) {
  return new TextDecoder().decode(await inflated(id));
}

const unpackedBlocks = new Map();

// The values of a metric, trial by trial, seed by seed, epoch by epoch; NaN where there is none. Unpacked when first asked for.
function valuesOf(study, metric) {
  if (!unpackedBlocks.has(metric.block)) {
    unpackedBlocks.set(metric.block, inflated(metric.block).then(bytes => unpacked(bytes, metric, study.steps)));
  }
  return unpackedBlocks.get(metric.block);
}

function unpacked(bytes, metric, steps) {
  const count = bytes.length / 2;
  const epochs = metric.epochs.length;
  const values = new Float32Array(count);
  const [low, high] = metric.log ? [Math.log(metric.low), Math.log(metric.high)] : [metric.low, metric.high];
  for (let start = 0; start < count; start += epochs) {
    let code = 0;
    for (let place = start; place < start + epochs; place++) {
      const folded = bytes[place] | (bytes[count + place] << 8);
      code += folded & 1 ? -((folded + 1) >> 1) : folded >> 1;
      const value = low + ((code - 1) / steps) * (high - low);
      values[place] = code === 0 ? NaN : metric.log ? Math.exp(value) : value;
    }
  }
  return values;
}

// Where a curve begins in a metric's values.
function startOf(study, metric, trial, seed) {
  return (trial * study.seeds.length + seed) * metric.epochs.length;
}
