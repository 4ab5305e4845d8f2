// The list of requests: newest first, one row each, moved through with the arrow keys.

import {clock, duration, make, masked, say, size, verdict} from './dom.js';

const FEW = 20; // what comes at once and still is shown as new

export class List {
  /** `open(id)` is called when a request is chosen, `move(id)` when the keyboard comes to another one. */
  constructor(element, {open, move}) {
    this.element = element;
    this.open = open;
    this.move = move;
    this.domains = new Set();
    this.rows = new Map();
    this.requests = new Map();
    this.waiting = new Map();
    this.paused = false;
    this.selected = null;
    this.needle = '';
    this.reachable = null; // the row that Tab comes to
    this.spare = [];
    element.addEventListener('click', (event) => {
      const row = event.target.closest('.row');
      if (row) this.choose(Number(row.dataset.id));
    });
    element.addEventListener('keydown', (event) => this.onKey(event));
    element.addEventListener('focus', () => this.focusSelected());
  }

  get newest() {
    let newest = 0;
    for (const id of this.requests.keys()) newest = Math.max(newest, id);
    for (const id of this.waiting.keys()) newest = Math.max(newest, id);
    return newest;
  }

  /** All there is. */
  reset(requests) {
    const keep = new Set(requests.map((request) => request.id));
    for (const id of [...this.rows.keys()]) if (!keep.has(id)) this.drop(id);
    this.waiting.clear();
    this.putAll(requests);
  }

  /** What has changed. While the list is paused, new requests wait; those that are seen go on. */
  update(requests, oldest) {
    if (!this.paused) {
      for (const id of this.rows.keys()) if (id < oldest) this.drop(id);
      this.putAll(requests);
      return;
    }
    for (const request of requests) if (!this.requests.has(request.id)) this.waiting.set(request.id, request);
    this.putAll(requests.filter((request) => this.requests.has(request.id)));
    for (const id of this.waiting.keys()) if (id < oldest) this.waiting.delete(id);
  }

  pause(paused) {
    this.paused = paused;
    if (paused) return;
    this.putAll([...this.waiting.values()]);
    this.waiting.clear();
  }

  filter(text) {
    this.needle = text.trim().toLowerCase();
    for (const [id, row] of this.rows) row.element.hidden = !this.matches(this.requests.get(id));
    this.rove();
  }

  matches(request) {
    if (!this.needle) return true;
    const text = `${request.method} ${request.domain}${masked(request.path)} ${request.status ?? ''} ${request.error ?? ''} ${request.guest}`;
    return this.needle.split(/\s+/).every((word) => text.toLowerCase().includes(word));
  }

  get shown() {
    return [...this.element.children].filter((row) => !row.hidden);
  }

  // --- Rows ---

  putAll(requests) {
    this.element.classList.toggle('many', requests.length > FEW);
    for (const request of requests) this.put(request);
    this.spare.length = 0;
    if (!this.focused) this.rove();
  }

  put(request) {
    this.requests.set(request.id, request);
    if (this.domains.size < 2) {
      this.domains.add(request.domain);
      this.element.classList.toggle('one-domain', this.domains.size < 2);
    }
    let row = this.rows.get(request.id);
    if (!row) {
      row = this.spare.pop() ?? new Row();
      row.begin(request.id);
      this.rows.set(request.id, row);
      let next = this.element.firstElementChild;
      while (next && Number(next.dataset.id) > request.id) next = next.nextElementSibling;
      this.element.insertBefore(row.element, next);
    }
    row.show(request);
    row.element.hidden = !this.matches(request);
  }

  /** Takes a row away; those that come next may use it again. */
  drop(id) {
    this.requests.delete(id);
    const row = this.rows.get(id);
    if (!row) return;
    this.rows.delete(id);
    const focused = row.element === document.activeElement;
    if (this.reachable === row.element) this.reachable = null;
    row.element.remove();
    this.spare.push(row);
    if (focused) {
      this.rove();
      this.focusSelected();
    }
  }

  /** Whether the keyboard is on one of the rows. */
  get focused() {
    return this.element !== document.activeElement && this.element.contains(document.activeElement);
  }

  // --- Choosing ---

  mark(id) {
    this.rows.get(this.selected)?.element.setAttribute('aria-selected', 'false');
    this.selected = id;
    this.rows.get(id)?.element.setAttribute('aria-selected', 'true');
    this.rove();
  }

  choose(id) {
    this.mark(id);
    this.open(id);
  }

  /** One row can be reached with Tab: the selected one, else the first. */
  rove() {
    const current = this.rows.get(this.selected)?.element;
    let target = current && !current.hidden ? current : this.element.firstElementChild;
    while (target?.hidden) target = target.nextElementSibling;
    this.reach(target);
  }

  reach(row) {
    if (this.reachable === row) return;
    this.reachable?.setAttribute('tabindex', '-1');
    this.reachable = row;
    row?.setAttribute('tabindex', '0');
  }

  focusSelected() {
    this.reachable?.focus();
  }

  onKey(event) {
    const row = event.target.closest('.row');
    if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
    const shown = this.shown;
    const at = shown.indexOf(row);
    const to = {
      ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1, PageDown: at + 10, PageUp: at - 10,
    }[event.key];
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      this.choose(Number(row.dataset.id));
    } else if (to !== undefined) {
      event.preventDefault();
      const next = shown[Math.max(0, Math.min(shown.length - 1, to))];
      this.reach(next);
      next.focus();
      this.move(Number(next.dataset.id));
    }
  }
}

class Row {
  constructor() {
    this.method = make('span', {class: 'method'});
    this.domain = make('span', {class: 'domain'});
    this.path = make('bdi', {class: 'path'});
    this.status = make('span', {class: 'status'});
    this.time = make('span', {class: 'time'});
    this.size = make('span', {class: 'size'});
    this.guest = make('span', {class: 'guest'});
    this.again = make('span', {class: 'again'});
    this.element = make(
      'li', {class: 'row', role: 'option', },
      this.method, make('span', {class: 'where'}, this.path, this.domain, this.again), this.status, this.time, this.size, this.guest,
    );
  }

  begin(id) {
    this.element.dataset.id = id;
    this.element.setAttribute('tabindex', '-1');
    this.element.setAttribute('aria-selected', 'false');
  }

  show(request) {
    const {text, kind} = verdict(request);
    say(this.method, request.method || '?');
    say(this.path, masked(request.path) || '(no path)');
    say(this.domain, request.domain);
    say(this.again, request.replayOf ? 'replay' : '');
    say(this.status, text);
    if (this.kind !== kind) this.status.className = `status ${(this.kind = kind)}`;
    say(this.time, request.ended == null ? '…' : duration(request.ended));
    say(this.size, request.websocket ? `${request.messages} msg` : size(request.bytesOut));
    say(this.guest, request.guest);
    this.element.setAttribute('aria-label', `${request.method} ${masked(request.path)}, ${text}, ${duration(request.ended) || 'under way'}${request.replayOf ? ', replay' : ''}`);
    this.element.title = `${clock(request.began)}  ${request.method} ${request.domain}${masked(request.path)}`;
  }
}
