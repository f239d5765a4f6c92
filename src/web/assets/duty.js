// The duty room's page: follows the live stream, keeps ages ticking, makes the sound.
// Rule: the page may never look alive when it is not. Whatever fails here ends in the red bar.
'use strict';
(() => {
  const LOST_AFTER = 10000; // without a sign of life; the gateway gives one every 4 s
  const ANSWER_MAX = 6000; // for an answer, whole: a connection may hang without an end, and the next one does not
  const FRAGMENT_RETRY = 1000;
  const BEIJING = 8 * 3600 * 1000;
  const say = document.body.dataset;
  const lang = say.lang;
  const $ = (selector) => document.querySelector(selector);
  const all = (selector, within) => (within || document).querySelectorAll(selector);

  // --- time: the gateway's, carried on by this machine's monotonic clock ---
  let offset = Number(say.now) - performance.now();
  const now = () => performance.now() + offset;
  const pad = (n) => String(n).padStart(2, '0');
  const clockText = (ms) => { const d = new Date(ms + BEIJING); return `${pad(d.getUTCHours())}:${pad(d.getUTCMinutes())}:${pad(d.getUTCSeconds())}`; };
  const gap = lang === 'zh' ? '' : ' ';
  const two = (a, first, b, second) => `${a}${gap}${first}` + (b ? `${gap}${b}${gap}${second}` : '');
  function spanText(ms) {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s < 60) return `${s}${gap}${say.second}`;
    if (s < 3600) return two(Math.floor(s / 60), say.minute, s % 60, say.second);
    if (s < 86400) return two(Math.floor(s / 3600), say.hour, Math.floor(s / 60) % 60, say.minute);
    return two(Math.floor(s / 86400), say.day, Math.floor(s / 3600) % 24, say.hour);
  }
  // An age in a small tile: one unit is enough after the first minute.
  function ageText(ms) {
    const s = Math.max(0, Math.floor(ms / 1000));
    const one = s < 60 ? [s, say.second] : s < 3600 ? [Math.floor(s / 60), say.minute] : s < 86400 ? [Math.floor(s / 3600), say.hour] : [Math.floor(s / 86400), say.day];
    return `${one[0]}${gap}${one[1]}${say.ago}`;
  }
  function patience() { const hang = new AbortController(); setTimeout(() => hang.abort(), ANSWER_MAX); return hang.signal; }
  const put = (element, text) => { if (element && element.textContent !== text) element.textContent = text; };

  function tick() {
    const at = now();
    watchLife();
    // A running clock would look alive.
    put($('#clock'), sound.lost ? '--:--:--' : clockText(at));
    for (const element of all('[data-since]')) put(element, spanText(at - Number(element.dataset.since)));
    for (const device of all('[data-silent-after]')) {
      const limit = Number(device.dataset.silentAfter), heard = Number(device.dataset.heard);
      device.classList.toggle('quiet-device', limit === 0);
      device.classList.toggle('stale', heard === 0 || (limit > 0 && at - heard > limit));
    }
    for (const point of all('[data-point]')) {
      const when = Number(point.dataset.at);
      const device = point.closest('[data-old-after]');
      // Judged by its own age: other values of the device may still come.
      if (device) point.classList.toggle('old', when > 0 && at - when > Number(device.dataset.oldAfter));
      put(point.querySelector('[data-age]'), when ? ageText(at - when) : '');
    }
    for (const site of all('.site')) {
      const devices = all('[data-device]', site);
      const online = [...devices].filter((d) => !d.classList.contains('stale') && !d.classList.contains('sig-offline')).length;
      put(site.querySelector('[data-online]'), String(online));
    }
  }

  // --- life ---
  let lastSign = performance.now(), dialled = lastSign;
  let signedOut = false;
  function alive() { lastSign = performance.now(); }
  function watchLife() {
    const lost = signedOut || performance.now() - lastSign > LOST_AFTER;
    const bar = $('#lost');
    if (bar.hidden === lost) {
      bar.hidden = !lost;
      document.body.classList.toggle('lost', lost);
    }
    if (signedOut) { put(bar.querySelector('span'), say.expired); bar.querySelector('a').hidden = false; }
    // Green means heard just now: only a page that is kept up to date may show it.
    document.body.classList.toggle('live', !lost);
    sound.lost = lost;
    sound.apply();
    // A stream that hangs gives no error, ever.
    if (lost && !signedOut && performance.now() - dialled > LOST_AFTER) { clearTimeout(reconnect); stream.close(); probe(); }
  }

  // --- live stream ---
  let stream = null, seen = Number(say.no), reconnect = null;
  function open() {
    if (stream) stream.close();
    dialled = performance.now();
    stream = new EventSource(`/api/v1/live?after=${seen}`);
    stream.addEventListener('beat', (e) => { alive(); beat(JSON.parse(e.data)); });
    stream.addEventListener('change', (e) => { alive(); seen = Number(e.lastEventId) || seen; change(JSON.parse(e.data)); });
    stream.addEventListener('reload', () => location.reload());
    stream.addEventListener('plan', () => { alive(); replan(); });
    stream.addEventListener('signed_out', () => { signedOut = true; stream.close(); watchLife(); });
    stream.onerror = () => {
      // Reconnecting ourselves: the browser gives up for good after an error answer.
      stream.close();
      clearTimeout(reconnect);
      reconnect = setTimeout(probe, 1500 + Math.random() * 1500);
    };
  }
  // A browser keeps pages that were left, for the way back, and their streams with them: six of them, and the next page hangs.
  window.addEventListener('pagehide', () => { clearTimeout(reconnect); if (stream) stream.close(); });
  window.addEventListener('pageshow', (e) => { if (e.persisted) probe(); });
  async function probe() {
    dialled = performance.now();
    try {
      const answer = await fetch('/api/v1/session', { cache: 'no-store', signal: patience() });
      if (answer.status === 401) { signedOut = true; watchLife(); return; }
    } catch (_) { reconnect = setTimeout(probe, 3000); return; }
    open();
    // The plan may have changed while nobody could say so.
    replan();
  }
  function beat(b) {
    offset = b.now - performance.now();
    sound.wanted = b.sound;
    sound.apply();
    const bar = $('#trouble');
    bar.hidden = b.troubles.length === 0;
    put(bar, b.troubles.map((trouble) => trouble[lang]).join(' · '));
    document.dispatchEvent(new CustomEvent('beat', { detail: b }));
  }
  function change(frame) {
    for (const lamp of all('[data-lamp]')) {
      const count = frame.lamps[lamp.dataset.lamp] || 0;
      put(lamp.querySelector('b'), String(count));
      lamp.classList.toggle('lit', count > 0);
    }
    sound.wanted = frame.sound;
    sound.apply();
    for (const reading of frame.points) showReading(reading);
    if (frame.hazards.length || frame.settled) refreshHazards();
    document.dispatchEvent(new CustomEvent('change', { detail: frame }));
    tick();
  }
  const escape = (text) => CSS.escape(text);
  function showReading(r) {
    for (const point of all(`[data-point="${escape(r.point)}"]`)) {
      point.className = point.className.replace(/\bq-\w+/, `q-${r.quality}`);
      point.dataset.at = r.at;
      put(point.querySelector('.value b'), r.text[lang]);
      put(point.querySelector('.value u'), r.quality === 'absent' ? '' : r.unit);
      const marks = [];
      if (r.late) marks.push(say.late);
      if (r.flaw) marks.push(r.flaw[lang]);
      else if (r.quality === 'uncertain') marks.push(say.uncertain);
      else if (r.quality !== 'good') marks.push(say.bad);
      put(point.querySelector('em'), marks.join(' · '));
      // The first value of a point that was folded away: it joins the others.
      const folded = point.closest('.unheard');
      if (folded) {
        folded.before(point);
        const left = all('[data-point]', folded).length;
        if (left) put(folded.querySelector('summary'), `${left} ${say.unheard}`); else folded.remove();
      }
      const device = point.closest('[data-device]');
      if (device) device.dataset.heard = Math.max(Number(device.dataset.heard), r.received_at);
    }
  }

  // --- hazards: the server renders them, here they are exchanged and the tiles are coloured ---
  let refreshing = false, again = false;
  async function refreshHazards() {
    if (refreshing) { again = true; return; }
    refreshing = true;
    try {
      do {
        again = false;
        const how = { cache: 'no-store', signal: patience() };
        const answers = await Promise.all([$('#hazards') ? fetch('/fragments/hazards', how) : null, fetch('/api/v1/hazards', how)]);
        if (answers.some((answer) => answer && !answer.ok)) throw new Error('refused');
        if (answers[0]) {
          const html = await answers[0].text();
          exchange($('#hazards'), new DOMParser().parseFromString(html, 'text/html').body);
        }
        colour((await answers[1].json()).hazards);
      } while (again);
    } catch (_) {
      setTimeout(refreshHazards, FRAGMENT_RETRY);
    } finally { refreshing = false; }
    tick();
  }
  // Another plan: the tiles again. Not the whole page, for that would be silent until somebody touches it.
  async function replan() {
    if (!$('#sites')) return;
    try {
      const answer = await fetch('/', { cache: 'no-store', signal: patience() });
      const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html').querySelector('#sites');
      if (!answer.ok || !fresh) throw new Error('refused');
      if (!$('#demo')) exchange($('#sites'), fresh);
    } catch (_) {
      setTimeout(replan, FRAGMENT_RETRY);
      return;
    }
    refreshHazards();
  }
  // What the officer has opened and where he is stays as it was.
  function exchange(box, fresh) {
    for (const old of all('details[id]', box)) {
      const same = fresh.querySelector(`#${escape(old.id)}`);
      if (same) same.open = old.open;
    }
    const focus = document.activeElement, verb = box.contains(focus) && focus.dataset.verb;
    const hazard = verb && focus.closest('[data-hazard]').dataset.hazard;
    box.replaceChildren(...fresh.childNodes);
    if (verb) {
      const next = box.querySelector(`[data-hazard="${escape(hazard)}"] [data-verb="${verb}"]`) || box.querySelector(`[data-hazard="${escape(hazard)}"] [data-verb]`);
      if (next) next.focus({ preventScroll: true });
    }
  }
  function colour(hazards) {
    const strip = (element) => { element.className = element.className.replace(/\s*\b(sig|pri)-\w+/g, '').replace(/\s*\balarm\b/, ''); };
    const labels = {};
    for (const lamp of all('[data-lamp]')) labels[lamp.dataset.lamp] = lamp.querySelector('i').textContent;
    for (const tile of all('#sites [data-device]')) {
      strip(tile);
      all('.point', tile).forEach(strip);
      all('.device-head .tag:not(.tag-stale)', tile).forEach((tag) => tag.remove());
    }
    for (const site of all('.site')) {
      const open = hazards.filter((h) => site.querySelector(`[data-device="${escape(h.point.split('/')[0])}"]`)).length;
      const count = site.querySelector('[data-open]');
      put(count, String(open));
      count.parentElement.hidden = open === 0;
    }
    // The most urgent comes first: what is coloured already stays.
    for (const h of hazards) {
      const point = $(`#sites [data-point="${escape(h.point)}"]`);
      if (point && !point.classList.contains('alarm')) point.classList.add('alarm', `pri-${h.priority}`);
      const tile = $(`#sites [data-device="${escape(h.point.split('/')[0])}"]`);
      if (!tile || /\bsig-/.test(tile.className)) continue;
      tile.classList.add(`sig-${h.signal}`, `pri-${h.priority}`);
      const tag = document.createElement('span');
      tag.className = `tag tag-${h.signal}`;
      tag.textContent = labels[h.signal];
      tile.querySelector('.tag-stale').before(tag);
    }
  }

  // --- commands ---
  let toastTimer = null;
  function toast(text, bad) {
    const box = $('#toast');
    box.textContent = text;
    box.classList.toggle('bad', Boolean(bad));
    box.hidden = false;
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => { box.hidden = true; }, bad ? 8000 : 3000);
  }
  async function command(hazard, verb, note) {
    try {
      const answer = await fetch(`/api/v1/hazards/${encodeURIComponent(hazard)}/${verb}`, {
        method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ note: note || '' }), signal: patience(),
      });
      const body = await answer.json();
      if (answer.status === 401) { signedOut = true; watchLife(); }
      if (!answer.ok) return { error: body.error, text: lang === 'zh' ? body.message_zh : body.message_en };
      toast(body.recorded ? say.done : say.doneUnrecorded, !body.recorded);
      if (!$('#hazards')) location.reload();
      return {};
    } catch (_) { return { error: 'failed', text: say.failed }; }
  }
  const dialog = $('#reset-ask');
  let resetting = null;
  document.addEventListener('click', async (e) => {
    const button = e.target.closest('[data-verb]');
    if (!button) return;
    const box = button.closest('[data-hazard]');
    if (button.dataset.verb === 'reset') {
      resetting = box.dataset.hazard;
      put($('#reset-title'), box.dataset.title);
      put($('#reset-refusal'), '');
      $('#reset-note').value = '';
      dialog.showModal();
      $('#reset-note').focus();
      return;
    }
    button.disabled = true;
    const outcome = await command(box.dataset.hazard, button.dataset.verb);
    button.disabled = false;
    if (outcome.error) toast(outcome.text, true);
  });
  dialog.addEventListener('submit', async (e) => {
    if (e.submitter && e.submitter.value === 'cancel') return;
    e.preventDefault();
    const outcome = await command(resetting, 'reset', $('#reset-note').value);
    if (outcome.error) put($('#reset-refusal'), outcome.text); else dialog.close();
  });

  // A list that is filtered as one types; what the form would answer, without the round.
  document.addEventListener('input', (e) => {
    const field = e.target.closest('[data-filter]');
    if (!field) return;
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of document.querySelectorAll(field.dataset.filter)) {
      row.hidden = !words.every((word) => row.dataset.words.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    put($('[data-filter-count]'), shown);
    $('[data-filter-none]').hidden = shown > 0;
  });

  // A device is told once, after a second look; what became of it is shown and stands in the duty log.
  document.addEventListener('click', async (e) => {
    const button = e.target.closest('[data-device-command]');
    if (!button || !window.confirm(button.dataset.ask)) return;
    button.disabled = true;
    try {
      const answer = await fetch(`/api/v1/devices/${button.dataset.deviceCommand}`, { method: 'POST' });
      const body = await answer.json();
      if (answer.status === 401) { signedOut = true; watchLife(); }
      if (answer.ok) toast(lang === 'zh' ? body.text.zh : body.text.en, body.fate !== 'done');
      else toast(lang === 'zh' ? body.message_zh : body.message_en, true);
    } catch (_) { toast(say.failed, true); }
    button.disabled = false;
  });

  // --- sound: two tones for fire without a pause, a soft double beep every four seconds for the rest ---
  const sound = {
    wanted: say.sound, lost: false, playing: 'off', context: null, timer: null,
    apply() {
      // A screen that lost its gateway must be heard as well.
      const want = this.wanted === 'fire' ? 'fire' : this.lost ? 'soft' : this.wanted;
      const locked = !this.context || this.context.state !== 'running';
      const bar = $('#unlock');
      if (bar.hidden === locked) bar.hidden = !locked;
      if (locked || want === this.playing) return;
      this.playing = want;
      clearInterval(this.timer);
      if (want === 'off') return;
      const round = want === 'fire' ? () => this.fire() : () => this.soft();
      round();
      this.timer = setInterval(round, want === 'fire' ? 1000 : 4000);
    },
    tone(from, length, pitch, loud, shape) {
      const ctx = this.context, osc = ctx.createOscillator(), gain = ctx.createGain(), t = ctx.currentTime + from;
      osc.type = shape; osc.frequency.value = pitch;
      gain.gain.setValueAtTime(0, t); gain.gain.linearRampToValueAtTime(loud, t + 0.015);
      gain.gain.setValueAtTime(loud, t + length - 0.02); gain.gain.linearRampToValueAtTime(0, t + length);
      osc.connect(gain).connect(ctx.destination); osc.start(t); osc.stop(t + length);
    },
    fire() { this.tone(0, 0.5, 960, 0.5, 'square'); this.tone(0.5, 0.5, 770, 0.5, 'square'); },
    soft() { this.tone(0, 0.16, 620, 0.18, 'sine'); this.tone(0.24, 0.16, 620, 0.18, 'sine'); },
    unlock() {
      if (!this.context) {
        this.context = new AudioContext();
        this.context.onstatechange = () => this.apply();
      }
      this.context.resume().then(() => this.apply(), () => this.apply());
    },
  };
  // Some browsers let a page that was used before start at once; the others need one touch, anywhere.
  sound.unlock();
  for (const gesture of ['pointerdown', 'keydown']) document.addEventListener(gesture, () => sound.unlock());

  // --- demonstration ---
  async function demo() {
    const box = $('#demo-steps');
    if (!box) return;
    const answer = await fetch('/api/v1/demo').catch(() => null);
    if (!answer || !answer.ok) return;
    const steps = await answer.json();
    const drawn = JSON.stringify(steps);
    if (box.dataset.drawn === drawn) return;
    box.dataset.drawn = drawn;
    box.replaceChildren(...steps.map((step) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.className = `verb silence${step.running ? ' running' : ''}`;
      button.dataset.step = step.id;
      button.textContent = step[lang];
      button.title = step[`about_${lang}`];
      return button;
    }));
  }
  async function demoPost(path) {
    const answer = await fetch(`/api/v1/demo/${path}`, { method: 'POST' }).catch(() => null);
    toast(answer && answer.ok ? say.done : say.failed, !(answer && answer.ok));
    demo();
  }
  document.addEventListener('click', (e) => {
    if (e.target.closest('#demo-restart')) demoPost('restart');
    const step = e.target.closest('[data-step]');
    if (step) demoPost(encodeURIComponent(step.dataset.step));
  });

  demo();
  document.addEventListener('beat', demo);
  open();
  tick();
  setInterval(tick, 1000);
  document.addEventListener('visibilitychange', tick);
})();
