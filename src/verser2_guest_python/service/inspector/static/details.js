// One request: its waterfall, headers and bodies, WebSocket messages as they pass, and replay.

import {clock, duration, make, revealing, say, size, verdict} from './dom.js';

const PAUSE_MS = 200;
const MAX_MESSAGES = 200;

export class Details {
  constructor(element, {close, opened, announce}) {
    this.element = element;
    this.close = close;
    this.opened = opened;
    this.announce = announce;
    this.id = null;
    this.timer = null;
  }

  /** Shows a request; `focus` moves the keyboard there. */
  async show(id, focus) {
    clearTimeout(this.timer);
    this.timer = null;
    this.id = id;
    this.view = new View(this);
    this.element.replaceChildren(...this.view.elements);
    this.element.hidden = false;
    this.element.scrollTop = 0;
    await this.load();
    if (focus && this.id === id) this.element.focus();
  }

  hide() {
    clearTimeout(this.timer);
    this.timer = null;
    this.id = null;
    this.element.hidden = true;
    this.element.replaceChildren();
  }

  /** The list: something has changed. */
  changed(request) {
    if (request.id !== this.id || this.timer !== null) return;
    this.timer = setTimeout(() => {
      this.timer = null;
      this.load();
    }, PAUSE_MS);
  }

  /** Asks for what is new; one question at a time, so that no message comes twice. */
  async load() {
    const {id, view} = this;
    if (view.asking) {
      view.askAgain = true;
      return;
    }
    view.asking = true;
    await this.ask(id, view);
    view.asking = false;
    if (view.askAgain && this.view === view && this.id === id) {
      view.askAgain = false;
      await this.load();
    }
  }

  async ask(id, view) {
    let response;
    try {
      response = await fetch(`api/requests/${id}?messages=${view.nextMessage}`);
    } catch {
      return; // the link says that we are not connected
    }
    if (this.id !== id || this.view !== view) return;
    if (response.ok) {
      const request = await response.json();
      if (this.view === view) view.update(request);
    } else {
      view.gone();
    }
  }

  async replay() {
    const {id, view} = this;
    view.replaying(true);
    try {
      const response = await fetch(`api/requests/${id}/replay`, {method: 'POST'});
      const answer = await response.json();
      if (answer.error) view.failed(answer.error);
      else if (answer.id) this.opened(answer.id);
      if (!answer.error) this.announce('Replayed.');
    } catch {
      view.failed('The inspector did not answer.');
    }
    view.replaying(false);
  }
}

class View {
  constructor(details) {
    this.details = details;
    this.nextMessage = 0;
    this.back = make('button', {type: 'button', class: 'back', onclick: () => details.close()}, '‹ Requests');
    this.replay = make('button', {type: 'button', class: 'replay', id: 'replay', onclick: () => details.replay()}, 'Replay');
    this.why = make('p', {class: 'why', id: 'why'});
    this.title = make('h2', {});
    this.status = make('span', {class: 'status'});
    this.facts = make('p', {class: 'facts'});
    this.problem = make('p', {class: 'problem', hidden: true});
    this.waterfall = make('div', {class: 'waterfall'});
    this.messages = new Messages();
    this.response = new Side('Response', 'response-body');
    this.request = new Side('Request', 'request-body');
    this.elements = [
      make('div', {class: 'bar'}, this.back, this.title, this.status, this.replay),
      this.facts, this.why, this.problem,
      make('section', {class: 'card', 'aria-label': 'Waterfall'}, make('h3', {}, 'Time'), this.waterfall),
      this.messages.element, this.response.element, this.request.element,
    ];
  }

  update(request) {
    const {text, kind} = verdict(request);
    say(this.status, request.error && request.error !== 'cancelled' ? `${text} · ${request.error}` : text);
    this.status.className = `status ${kind}`;
    if (this.version === undefined) {
      this.title.replaceChildren(make('span', {class: 'method'}, request.method || '?'), ' ', make('bdi', {}, ...revealing(request.path, 'the path')));
    }
    this.version = request.version;
    say(this.facts, facts(request));
    say(this.problem, request.message);
    this.problem.hidden = !request.message;
    say(this.why, request.whyNot && !request.websocket ? request.whyNot : '');
    this.replay.disabled = !request.replay || this.busy === true;
    this.possible = request.replay;
    this.replay.hidden = request.websocket;
    this.replay.title = request.whyNot ?? 'Send this request again';
    if (request.whyNot) this.replay.setAttribute('aria-describedby', 'why');
    this.waterfall.replaceChildren(...waterfall(request));
    this.messages.update(request);
    this.nextMessage = Math.max(this.nextMessage, request.messages);
    this.response.update(request, request.responseHeaders, request.responseBody);
    this.request.update(request, request.requestHeaders, request.requestBody);
  }

  replaying(busy) {
    this.busy = busy;
    this.replay.disabled = busy || !this.possible;
    say(this.replay, busy ? 'Replaying …' : 'Replay');
  }

  failed(text) {
    say(this.problem, text);
    this.problem.hidden = false;
  }

  gone() {
    this.failed('This request is not kept any more: newer ones have taken its place.');
    this.possible = false;
    this.replay.disabled = true;
  }
}

function facts(request) {
  const parts = [clock(request.began), request.domain, `Guest ${request.guest || 'unknown'}`, `Broker ${request.broker || 'unknown'}`];
  if (request.replayOf) parts.push(`replay of no. ${request.replayOf}`);
  if (request.protocol) parts.push(`subprotocol ${request.protocol}`);
  return parts.filter(Boolean).join(' · ');
}

// --- The waterfall ---

function waterfall(request) {
  const end = request.ended ?? request.age;
  const over = request.state === 'done';
  const span = Math.max(end, 1e-6);
  const phases = [['Queued for a lease', 'queued', 0, request.leased ?? end]];
  if (!request.websocket && request.uploaded != null && request.requestBody.size) {
    phases.push(['Request body', 'upload', request.leased ?? 0, request.uploaded]);
  }
  if (request.leased != null) {
    phases.push([request.websocket ? 'Handshake' : 'First byte', 'first', request.leased, request.answered ?? end]);
  }
  if (request.answered != null) phases.push([request.websocket ? 'Open' : 'Body', 'body', request.answered, end]);
  const rows = phases.map(([name, kind, from, to]) => {
    const bar = make('span', {class: `fill ${kind}`});
    bar.style.left = `${(from / span) * 100}%`;
    bar.style.width = `${(Math.max(0, to - from) / span) * 100}%`;
    return make('div', {class: 'phase'}, make('span', {class: 'name'}, name), make('span', {class: 'track', 'aria-hidden': 'true'}, bar), make('span', {class: 'length'}, duration(Math.max(0, to - from))));
  });
  rows.push(make('p', {class: 'sum'}, over ? `${duration(end)} in all` : 'still under way'));
  return rows;
}

// --- Headers and a body ---

class Side {
  constructor(title, path) {
    this.path = path;
    this.headers = make('dl', {class: 'headers'});
    this.count = make('span', {class: 'count'});
    this.note = make('p', {class: 'note'});
    this.body = make('div', {class: 'body'});
    this.element = make(
      'section', {class: 'card', 'aria-label': title},
      make('h3', {}, title),
      make('details', {open: true}, make('summary', {}, 'Headers ', this.count), this.headers),
      this.note, this.body,
    );
    this.title = title;
  }

  update(request, headers, body) {
    const key = JSON.stringify(headers);
    if (key !== this.key) {
      this.key = key;
      this.headers.replaceChildren(
        ...headers.flatMap(({name, value}) => [make('dt', {}, name), make('dd', {}, ...revealing(value, name))]),
      );
      say(this.count, String(headers.length));
    }
    say(this.note, request.websocket ? '' : note(body));
    const shape = `${body.kind} ${body.kept} ${request.state === 'done'}`;
    if (shape === this.shape || request.websocket) return;
    this.shape = shape;
    this.show(request, body);
  }

  async show(request, body) {
    const url = `api/requests/${request.id}/${this.path}?v=${request.version}`;
    if (!body.kept) {
      this.body.replaceChildren();
    } else if (body.kind === 'image') {
      const image = make('img', {alt: `The ${this.title.toLowerCase()} body`, src: url});
      image.addEventListener('error', () => this.body.replaceChildren(make('p', {class: 'note'}, 'The image cannot be shown.'), link(url)));
      this.body.replaceChildren(make('div', {class: 'picture'}, image), link(url));
    } else if (body.kind === 'binary') {
      this.body.replaceChildren(link(url, 'Download'));
    } else {
      let text;
      try {
        const response = await fetch(url);
        text = response.ok ? await response.text() : '';
      } catch {
        return;
      }
      const seen = this.body.querySelector('pre');
      if (seen) say(seen, text); // a body that grows stays where it is scrolled to
      else this.body.replaceChildren(make('pre', {tabindex: '0', 'aria-label': `${this.title} body`}, text), link(url));
    }
  }
}

function link(url, text = 'Open by itself') {
  return make('a', {href: url, target: '_blank', rel: 'noopener noreferrer', class: 'open'}, text);
}

function note(body) {
  if (body.kind === 'none') return 'No body.';
  const parts = [body.type || 'no content-type', size(body.size)];
  if (body.encoding) parts.push(body.encoding);
  if (body.cut) parts.push(`the first ${size(body.kept)} are kept`);
  return parts.join(' · ');
}

// --- WebSocket messages ---

class Messages {
  constructor() {
    this.list = make('ol', {class: 'messages', 'aria-label': 'Messages', tabindex: '0'});
    this.note = make('p', {class: 'note'});
    this.element = make('section', {class: 'card', 'aria-label': 'WebSocket messages', hidden: true}, make('h3', {}, 'Messages'), this.note, this.list);
  }

  update(request) {
    if (!request.websocket) return;
    this.element.hidden = false;
    const atEnd = this.list.scrollTop + this.list.clientHeight >= this.list.scrollHeight - 20;
    this.list.append(...request.newMessages.map((message) => item(message)));
    while (this.list.children.length > MAX_MESSAGES) this.list.firstChild.remove();
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
    const cut = request.messages - this.list.children.length;
    say(this.note, request.messages ? (cut > 0 ? `${request.messages} messages, the first ${cut} of them are not kept` : '') : 'None yet.');
  }
}

const FROM = {broker: ['↑', 'to the app'], guest: ['↓', 'from the app'], host: ['•', 'from the Host']};

function item(message) {
  const [arrow, words] = FROM[message.from] ?? ['•', message.from];
  const kind = message.kind === 'text' ? '' : message.code ? `${message.kind} ${message.code}` : message.kind;
  return make(
    'li', {class: `message ${message.from}`},
    make('span', {class: 'arrow', 'aria-label': words, title: words}, arrow),
    make('span', {class: 'data'}, kind ? make('em', {}, kind) : null, kind ? ' ' : null, make('bdi', {}, content(message)), message.cut ? '…' : null),
    make('span', {class: 'length'}, size(message.size)),
    make('span', {class: 'at'}, duration(message.at)),
  );
}

function content(message) {
  if (message.kind !== 'binary') return message.data;
  const bytes = atob(message.data.slice(0, 344));
  return [...bytes].map((one) => one.charCodeAt(0).toString(16).padStart(2, '0')).join(' ') + (message.size > bytes.length ? ' …' : '');
}
