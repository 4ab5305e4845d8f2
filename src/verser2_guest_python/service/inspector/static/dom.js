// Elements, and how values are written for people. Everything shown is text: nothing here reads markup.

const SVG = 'http://www.w3.org/2000/svg';

/** An element: `make('p', {class: 'note'}, 'text', child)`. Texts become text nodes, never markup. */
export function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, '');
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Puts a text in place of what an element shows, if it is another one. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const DOTS = '••••••';

/** Text in pieces, secret ones as buttons that show them. `what` names the whole for those who listen. */
export function revealing(parts, what) {
  return parts.map(([text, secret]) => {
    if (!secret) return document.createTextNode(text);
    const button = make('button', {type: 'button', class: 'secret', 'aria-label': `Show what is hidden in ${what}`}, DOTS);
    button.addEventListener('click', (event) => {
      event.stopPropagation();
      const hidden = !button.classList.toggle('shown');
      button.textContent = hidden ? DOTS : text;
      button.setAttribute('aria-label', hidden ? `Show what is hidden in ${what}` : `Hide ${text}`);
    });
    return button;
  });
}

/** The same where nothing can be revealed. */
export function masked(parts) {
  return parts.map(([text, secret]) => (secret ? DOTS : text)).join('');
}

export function duration(seconds) {
  if (seconds == null) return '';
  const ms = seconds * 1000;
  if (ms < 0.95) return `${Math.round(ms * 1000)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  let amount = bytes;
  for (const unit of ['KiB', 'MiB', 'GiB']) {
    amount /= 1024;
    if (amount < 1024 || unit === 'GiB') return `${amount.toFixed(amount < 10 ? 1 : 0)} ${unit}`;
  }
  return '';
}

export function clock(milliseconds) {
  const at = new Date(milliseconds);
  const two = (number) => String(number).padStart(2, '0');
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** The status of a request as a word, and the kind that it is coloured by. */
export function verdict(request) {
  if (request.state === 'open') return {text: 'open', kind: 'open'};
  if (request.state !== 'done') return {text: request.status ? String(request.status) : 'waiting', kind: 'busy'};
  if (request.error === 'cancelled') return {text: 'cancelled', kind: 'stopped'};
  if (request.error) return {text: request.status ? String(request.status) : 'failed', kind: 'failed'};
  if (request.websocket) return {text: 'closed', kind: 'good'};
  const kinds = {2: 'good', 3: 'moved', 4: 'refused', 5: 'failed'};
  return {text: String(request.status), kind: kinds[Math.floor(request.status / 100)] ?? 'stopped'};
}
