// The list of requests: newest first, one row each, moved through with the arrow keys.

import {clock, duration, make, masked, say, size, verdict} from './dom.js';

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
    for (const request of requests) this.put(request);
  }

  /** What has changed. While the list is paused, new requests wait; those that are seen go on. */
  update(requests, oldest) {
    for (const request of requests) {
      if (this.paused && !this.requests.has(request.id)) this.waiting.set(request.id, request);
      else this.put(request);
    }
    if (!this.paused) for (const id of [...this.rows.keys()]) if (id < oldest) this.drop(id);
    for (const id of [...this.waiting.keys()]) if (id < oldest) this.waiting.delete(id);
  }

  pause(paused) {
    this.paused = paused;
    if (paused) return;
    for (const request of this.waiting.values()) this.put(request);
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

  put(request) {
    this.requests.set(request.id, request);
    if (this.domains.size < 2) {
      this.domains.add(request.domain);
      this.element.classList.toggle('one-domain', this.domains.size < 2);
    }
    let row = this.rows.get(request.id);
    if (!row) {
      row = new Row(request);
      this.rows.set(request.id, row);
      const next = [...this.element.children].find((other) => Number(other.dataset.id) < request.id);
      this.element.insertBefore(row.element, next ?? null);
    }
    row.show(request);
    row.element.hidden = !this.matches(request);
    if (!this.element.contains(document.activeElement) || this.element === document.activeElement) this.rove();
  }

  drop(id) {
    this.requests.delete(id);
    const row = this.rows.get(id);
    this.rows.delete(id);
    const focused = row?.element === document.activeElement;
    row?.element.remove();
    if (focused) this.element.focus();
    this.rove();
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
    const shown = this.shown;
    const current = this.rows.get(this.selected)?.element;
    const target = current && !current.hidden ? current : shown[0];
    for (const row of this.element.querySelectorAll('[tabindex="0"]')) if (row !== target) row.setAttribute('tabindex', '-1');
    target?.setAttribute('tabindex', '0');
  }

  focusSelected() {
    this.element.querySelector('[tabindex="0"]')?.focus();
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
      for (const other of this.element.querySelectorAll('[tabindex="0"]')) other.setAttribute('tabindex', '-1');
      next.setAttribute('tabindex', '0');
      next.focus();
      this.move(Number(next.dataset.id));
    }
  }
}

class Row {
  constructor(request) {
    this.method = make('span', {class: 'method'});
    this.domain = make('span', {class: 'domain'});
    this.path = make('bdi', {class: 'path'});
    this.status = make('span', {class: 'status'});
    this.time = make('span', {class: 'time'});
    this.size = make('span', {class: 'size'});
    this.guest = make('span', {class: 'guest'});
    this.again = make('span', {class: 'again'});
    this.element = make(
      'li', {class: 'row', role: 'option', tabindex: '-1', 'data-id': request.id, 'aria-selected': 'false'},
      this.method, make('span', {class: 'where'}, this.path, this.domain, this.again), this.status, this.time, this.size, this.guest,
    );
  }

  show(request) {
    const {text, kind} = verdict(request);
    say(this.method, request.method || '?');
    say(this.path, masked(request.path) || '(no path)');
    say(this.domain, request.domain);
    say(this.again, request.replayOf ? 'replay' : '');
    say(this.status, text);
    this.status.className = `status ${kind}`;
    say(this.time, request.ended == null ? '…' : duration(request.ended));
    say(this.size, request.websocket ? `${request.messages} msg` : size(request.bytesOut));
    say(this.guest, request.guest);
    this.element.setAttribute('aria-label', `${request.method} ${masked(request.path)}, ${text}, ${duration(request.ended) || 'under way'}${request.replayOf ? ', replay' : ''}`);
    this.element.title = `${clock(request.began)}  ${request.method} ${request.domain}${masked(request.path)}`;
  }
}
