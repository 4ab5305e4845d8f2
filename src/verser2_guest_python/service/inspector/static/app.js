// The page: joins the list, the details and the charts with what the server sends.

import {Gauges} from './charts.js';
import {Details} from './details.js';
import {say} from './dom.js';
import {List} from './list.js';

const byId = (id) => document.getElementById(id);

const details = new Details(byId('details'), {close: closeDetails, opened: (id) => open(id, true), announce: (text) => say(byId('says'), text)});
const list = new List(byId('list'), {
  open: (id) => open(id, true),
  move: (id) => details.id !== null && open(id, false),
});
const gauges = new Gauges(byId('gauges'));

// --- Opening one, and going back ---

let pushed = false; // whether going back in the history closes the details

function open(id, focus) {
  if (details.id === null && !pushed) {
    pushed = true;
    history.pushState(null, '', `#${id}`);
  } else history.replaceState(null, '', `#${id}`);
  list.mark(id);
  document.body.classList.add('looking');
  byId('nothing').hidden = true;
  details.show(id, focus);
}

function closeDetails() {
  if (pushed) history.back();
  else leave();
}

function leave() {
  pushed = false;
  document.body.classList.remove('looking');
  byId('nothing').hidden = false;
  details.hide();
  if (location.hash) history.replaceState(null, '', location.pathname);
  list.focusSelected();
}

addEventListener('popstate', () => {
  if (details.id !== null) leave();
});

// --- What the server sends ---

let opened = false;

function connect() {
  const events = new EventSource('api/events');
  events.addEventListener('all', (event) => {
    const all = JSON.parse(event.data);
    link('live', 'Live');
    say(byId('host-url'), all.hostUrl);
    list.reset(all.requests);
    changed(all.requests);
    const wanted = Number(location.hash.slice(1));
    if (!opened && wanted && list.requests.has(wanted)) {
      history.replaceState(null, '', location.pathname);
      open(wanted, false);
    }
    opened = true;
  });
  events.addEventListener('requests', (event) => {
    const {oldest, requests} = JSON.parse(event.data);
    list.update(requests, oldest);
    changed(requests);
  });
  events.addEventListener('host', (event) => gauges.sample(JSON.parse(event.data), list.newest));
  events.addEventListener('error', () => {
    if (events.readyState === EventSource.CLOSED) link('lost', 'Not allowed any more: open the URL that is printed at the start');
    else link('lost', 'Disconnected, trying again');
  });
}

function changed(requests) {
  for (const request of requests) details.changed(request);
  count();
}

function count() {
  const kept = list.rows.size;
  const shown = list.needle ? list.shown.length : kept;
  say(byId('count'), list.paused ? `${list.waiting.size} new` : shown === kept ? String(kept) : `${shown} of ${kept}`);
  byId('empty').hidden = kept > 0;
  byId('unmatched').hidden = kept === 0 || shown > 0;
  byId('list').hidden = shown === 0;
}

function link(state, text) {
  byId('link').className = `link ${state}`;
  say(byId('link-text'), text);
}

// --- Tools ---

byId('filter').addEventListener('input', (event) => {
  list.filter(event.target.value);
  count();
});
byId('pause').addEventListener('click', (event) => {
  const paused = !list.paused;
  list.pause(paused);
  event.target.setAttribute('aria-pressed', String(paused));
  say(event.target, paused ? 'Go on' : 'Pause');
  count();
});
byId('clear').addEventListener('click', async () => {
  try {
    await fetch('api/clear', {method: 'POST'});
  } catch {
    return; // the link says that we are not connected
  }
  if (details.id !== null && !list.requests.has(details.id)) closeDetails();
});
document.addEventListener('keydown', (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const typing = event.target.closest('input');
  if (event.key === 'Escape') {
    if (typing) {
      typing.value = '';
      list.filter('');
      count();
      list.focusSelected();
    } else if (details.id !== null) closeDetails();
  } else if (event.key === '/' && !typing) {
    event.preventDefault();
    byId('filter').focus();
  } else if ((event.key === 'ArrowDown' || event.key === 'ArrowUp') && (event.target === document.body || (typing && event.key === 'ArrowDown'))) {
    event.preventDefault();
    list.focusSelected();
  }
});

connect();
