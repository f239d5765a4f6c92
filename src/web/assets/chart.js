// The chart of one point: mean as a line, minimum to maximum as a band, limits as dashed lines, gaps as gaps.
// States are lanes: every state that was seen in a bucket has its mark there, so an alarm between two others shows.
'use strict';
(() => {
  const box = document.querySelector('#chart');
  const lang = document.body.dataset.lang;
  const PRIORITY = { red: '#ff5247', orange: '#ff9a2e', yellow: '#ffd33d', blue: '#6db3ff' };
  const RELOAD_EVERY = 15000;
  let range = 3600, asked = false, plot = null, serial = 0, timer = null;

  const say = (text) => { if (plot) { plot.destroy(); plot = null; } const p = document.createElement('p'); p.className = 'none'; p.textContent = text; box.replaceChildren(p); };

  async function load() {
    const mine = ++serial;
    clearTimeout(timer);
    timer = setTimeout(load, Math.max(RELOAD_EVERY, range * 1000 / 600));
    const to = Number(document.body.dataset.now) + performance.now() - started;
    const width = Math.max(200, Math.min(1200, Math.floor(box.clientWidth / 2)));
    try {
      const answer = await fetch(`${box.dataset.series}?from=${Math.floor(to - range * 1000)}&to=${Math.floor(to)}&buckets=${width}`, { cache: 'no-store' });
      if (!answer.ok) throw new Error('refused');
      const series = await answer.json();
      if (mine !== serial) return;
      // A point that is heard since a few minutes: an hour would show a sliver at the edge.
      const young = !asked && series.rows.length && to - series.rows[0][0] < 600000;
      asked = true;
      if (young) choose(600); else draw(series, width);
    } catch (_) { if (mine === serial) say(box.dataset.failed); }
  }

  // Two neighbouring rows are joined unless the device was silent between them for longer than it may be. A row may be
  // as long as an hour where samples were rolled up: what counts is from its end to the next one's beginning.
  function columns(s, width) {
    const gap = Math.max(s.silent_after_ms, (s.to - s.from) / width);
    const x = [], mean = [], min = [], max = [];
    const nothing = (at) => { x.push(at); mean.push(null); min.push(null); max.push(null); };
    let last = null;
    for (const [start, end, count, , lo, hi, avg] of s.rows) {
      // No sample had a value: the line must not run through them.
      if (!count || avg === null) { nothing((start + end) / 2000); last = null; continue; }
      if (last !== null && start - last > gap) nothing((last + start) / 2000);
      x.push((start + end) / 2000); mean.push(avg); min.push(lo); max.push(hi);
      last = end;
    }
    return [x, mean, min, max];
  }

  function draw(s, width) {
    if (!s.rows.length) { say(box.dataset.empty); return; }
    const seen = s.rows.map((row) => row[8]);
    const rows = s.numeric ? columns(s, width) : [s.rows.map((r) => (r[0] + r[1]) / 2000), s.rows.map((r) => r[7])];
    const states = s.states.map((state) => state.name[lang]);
    const word = (v) => v === null || v === undefined ? '—' : s.numeric ? v.toFixed(s.decimals) : (states[Math.round(v)] ?? '—');
    const values = (s.numeric ? rows[2].concat(rows[3]) : []).filter((v) => v !== null).concat(s.limits.map((l) => l.limit));
    let low = Math.min(...values), high = Math.max(...values);
    if (!s.numeric) { low = 0; high = Math.max(1, states.length - 1); }
    const air = s.numeric ? (high - low || Math.abs(high) || 1) * 0.08 : 0.6;
    const beijing = (t) => new Date((t + 8 * 3600) * 1000).toISOString();
    const axis = { stroke: '#a9b7c6', grid: { stroke: '#2f3c4b', width: 1 }, ticks: { stroke: '#2f3c4b' }, font: '14px system-ui' };
    const options = {
      width: box.clientWidth, height: 300, legend: { live: true },
      scales: { x: { time: true, range: [s.from / 1000, s.to / 1000] }, y: { range: [low - air, high + air] } },
      axes: [
        { ...axis, values: (_, ts) => ts.map((t) => range > 86400 ? beijing(t).slice(5, 16).replace('T', ' ') : beijing(t).slice(11, range > 3600 ? 16 : 19)), space: 110 },
        { ...axis, size: s.numeric ? 66 : 110, splits: s.numeric ? undefined : () => [...states.keys()], values: (_, vs) => vs.map((v) => s.numeric ? String(+v.toFixed(6)) : word(v)) },
      ],
      series: s.numeric ? [
        { label: lang === 'zh' ? '时间' : 'Time', value: (_, t) => t ? beijing(t).slice(5, 19).replace('T', ' ') : '—' },
        { label: s.name[lang], stroke: '#3ddc84', width: 2, spanGaps: false, points: { show: rows[0].length < 60, size: 5 }, value: (_, v) => `${word(v)} ${v === null ? '' : s.unit}` },
        { label: lang === 'zh' ? '最小' : 'Min', stroke: '#3ddc8455', width: 1, spanGaps: false, points: { show: false }, value: (_, v) => word(v) },
        { label: lang === 'zh' ? '最大' : 'Max', stroke: '#3ddc8455', width: 1, spanGaps: false, points: { show: false }, value: (_, v) => word(v) },
      ] : [
        { label: lang === 'zh' ? '时间' : 'Time', value: (_, t) => t ? beijing(t).slice(5, 19).replace('T', ' ') : '—' },
        // The marks are drawn below; the series itself carries the legend.
        { label: s.name[lang], stroke: 'transparent', points: { show: false }, value: (_, v, __, i) => i === null || i === undefined || !seen[i] ? '—' : seen[i].map(word).join('、') },
      ],
      bands: s.numeric ? [{ series: [3, 2], fill: '#3ddc8430' }] : [],
      hooks: { drawClear: [(u) => hazards(u, s)], draw: [(u) => s.numeric ? limits(u, s) : lanes(u, s), (u) => untrusted(u, s)] },
    };
    if (plot) plot.destroy();
    box.replaceChildren();
    plot = new uPlot(options, rows, box);
  }

  // A state stands until the next one is heard, unless the device was silent for longer than it may be.
  function lanes(u, s) {
    const ctx = u.ctx, right = u.bbox.left + u.bbox.width;
    const keep = Math.max(s.silent_after_ms, s.rows.length ? s.rows[0][1] - s.rows[0][0] : 0);
    const tall = Math.max(4, Math.min(34 * devicePixelRatio, u.bbox.height / (s.states.length + 0.2) * 0.62));
    const x = (ms) => Math.min(right, Math.max(u.bbox.left, u.valToPos(ms / 1000, 'x', true)));
    const mark = (place, from, to, colour, share) => {
      ctx.fillStyle = colour;
      ctx.fillRect(from, u.valToPos(place, 'y', true) - tall * share / 2, Math.max(to - from, 4 * devicePixelRatio), tall * share);
    };
    const colour = (place) => PRIORITY[s.states[place].priority] || (place === 0 ? '#3ddc84' : '#8a97a5');
    ctx.save();
    s.rows.forEach((row, i) => {
      const [start, end, , , , , , last, seen] = row;
      const next = i + 1 < s.rows.length ? s.rows[i + 1][0] : s.to;
      if (last !== null && next > end && next - end <= keep) mark(last, x(end), x(next), colour(last), 0.45);
      for (const place of seen) mark(place, x(start), x(end), colour(place), 1);
    });
    // What is urgent lies on top of what is wide.
    for (const row of s.rows) for (const place of row[8]) if (s.states[place].priority) mark(place, x(row[0]), x(row[1]), colour(place), 1);
    ctx.restore();
  }
  // Yellow along the foot wherever a value is not to be trusted: the line above it is what the device said all the same.
  function untrusted(u, s) {
    const tall = 7 * devicePixelRatio, foot = u.bbox.top + u.bbox.height - tall;
    u.ctx.fillStyle = PRIORITY.yellow;
    for (const [start, end, , bad] of s.rows) {
      if (!bad) continue;
      const from = Math.max(u.bbox.left, u.valToPos(start / 1000, 'x', true));
      const to = Math.min(u.bbox.left + u.bbox.width, u.valToPos(end / 1000, 'x', true));
      u.ctx.fillRect(from, foot, Math.max(to - from, 4 * devicePixelRatio), tall);
    }
  }
  function hazards(u, s) {
    for (const h of s.closed_hazards.concat(s.hazards)) {
      const from = Math.max(u.bbox.left, u.valToPos(h.raised_at / 1000, 'x', true));
      const to = Math.min(u.bbox.left + u.bbox.width, u.valToPos((h.returned_at || (h.closed && h.closed.at) || s.to) / 1000, 'x', true));
      if (to <= from) continue;
      u.ctx.fillStyle = (PRIORITY[h.priority] || '#8a97a5') + (h.closed ? '1c' : '2e');
      u.ctx.fillRect(from, u.bbox.top, to - from, u.bbox.height);
    }
  }
  function limits(u, s) {
    const ctx = u.ctx;
    ctx.save();
    ctx.setLineDash([8, 6]); ctx.lineWidth = 2; ctx.font = `${14 * devicePixelRatio}px system-ui`; ctx.textAlign = 'left';
    for (const l of s.limits) {
      const y = u.valToPos(l.limit, 'y', true);
      ctx.strokeStyle = ctx.fillStyle = PRIORITY[l.priority] || '#8a97a5';
      ctx.beginPath(); ctx.moveTo(u.bbox.left, y); ctx.lineTo(u.bbox.left + u.bbox.width, y); ctx.stroke();
      ctx.fillText(`${l.title[lang]} ${l.text}`, u.bbox.left + 8, y - 9);
    }
    ctx.restore();
  }

  function choose(seconds) {
    range = seconds;
    asked = true;
    for (const button of document.querySelectorAll('[data-range]')) button.classList.toggle('chosen', Number(button.dataset.range) === range);
    load();
  }
  const started = performance.now();
  for (const button of document.querySelectorAll('[data-range]')) {
    button.addEventListener('click', () => choose(Number(button.dataset.range)));
  }
  addEventListener('resize', () => { if (plot) plot.setSize({ width: box.clientWidth, height: 300 }); });
  say(box.dataset.loading);
  load();
})();
