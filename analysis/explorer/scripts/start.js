// The section is shown where the browser can draw it; a panel is built when it is first seen, and nothing before that.

const PANELS = { trajectories, sensitivity, coordinates, importance };

function start() {
  const section = document.getElementById('explore');
  if (!('DecompressionStream' in window) || !('IntersectionObserver' in window)) return;
  for (const element of document.querySelectorAll('[data-explore]')) element.hidden = false;
  let study = null;
  const seen = new IntersectionObserver(entries => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      const panel = target.closest('[data-panel]');
      study ??= inflatedText('explore-study').then(JSON.parse);
      study.then(read => PANELS[panel.dataset.panel](read, panel)()).catch(error => failed(panel, error));
    }
  }, { rootMargin: '100px' });
  for (const plot of section.querySelectorAll('[data-panel] .plot')) seen.observe(plot);
}

function failed(panel, error) {
  panel.querySelector('.reading').textContent = `This plot could not be drawn (${error.message}); the static figures hold the same.`;
  console.error(error);
}

start();
