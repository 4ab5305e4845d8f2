// The strip at the top: requests a second, and for each Guest its routes and its leases, as they go.

import {draw, make, say} from './dom.js';

const POINTS = 60;
const WIDTH = 120;
const HEIGHT = 32;

class Chart {
  constructor(label) {
    this.values = [];
    this.area = draw('polygon', {class: 'area'});
    this.line = draw('polyline', {class: 'line'});
    const base = draw('line', {class: 'base', x1: 0, x2: WIDTH, y1: HEIGHT - 1, y2: HEIGHT - 1});
    this.element = draw(
      'svg', {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', class: 'chart', role: 'img', 'aria-label': label},
      base, this.area, this.line,
    );
  }

  add(value) {
    this.values.push(value);
    if (this.values.length > POINTS) this.values.shift();
    const top = Math.max(4, ...this.values);
    const step = WIDTH / (POINTS - 1);
    const first = POINTS - this.values.length;
    const points = this.values.map((value, index) => [
      ((first + index) * step).toFixed(1), (HEIGHT - 2 - (value / top) * (HEIGHT - 6)).toFixed(1),
    ]);
    this.line.setAttribute('points', points.map((point) => point.join()).join(' '));
    const start = points[0][0];
    this.area.setAttribute('points', `${start},${HEIGHT} ${points.map((point) => point.join()).join(' ')} ${WIDTH},${HEIGHT}`);
  }
}

class Gauge {
  constructor(title, unit) {
    this.number = make('strong', {class: 'number'}, '0');
    this.unit = make('span', {}, unit);
    this.note = make('span', {class: 'note'});
    this.chart = new Chart(`${unit} over the last minute`);
    this.title = make('h2', {}, title);
    this.routes = make('ul', {class: 'routes'});
    this.element = make(
      'div', {class: 'gauge'},
      make('div', {class: 'words'}, this.title, make('p', {}, this.number, ' ', this.unit, this.note)), this.chart.element, this.routes,
    );
  }
}

/** A Guest that comes back while its old session still drains calls itself `guest~2`, and is the same one. */
const family = (id) => id.replace(/~\d+$/, '');

export class Gauges {
  constructor(element) {
    this.element = element;
    this.rate = new Gauge('Requests', 'a second');
    this.rate.routes.remove();
    this.guests = new Map();
    this.seen = null;
    element.append(this.rate.element);
  }

  /** A sample, once a second: what the Host says, and the number of the newest request. */
  sample(host, newest) {
    const rate = this.seen == null ? 0 : Math.max(0, newest - this.seen);
    this.seen = newest;
    this.rate.chart.add(rate);
    say(this.rate.number, String(rate));
    say(this.rate.note, host.active ? ` · ${host.active} under way` : '');
    const here = new Set(host.guests.map((guest) => guest.id));
    for (const [id, gauge] of this.guests) {
      if (here.has(id)) continue;
      this.guests.delete(id);
      const next = host.guests.find((guest) => family(guest.id) === family(id) && !this.guests.has(guest.id));
      if (next) {
        this.guests.set(next.id, gauge);
        say(gauge.title, next.id);
      } else gauge.element.remove();
    }
    for (const guest of host.guests) this.guest(guest);
    this.element.classList.toggle('lonely', host.guests.length === 0);
  }

  guest(guest) {
    let gauge = this.guests.get(guest.id);
    if (!gauge) {
      gauge = new Gauge(guest.id, 'idle leases');
      this.guests.set(guest.id, gauge);
      this.element.append(gauge.element);
    }
    gauge.chart.add(guest.idle);
    say(gauge.number, String(guest.idle));
    say(gauge.unit, guest.idle === 1 ? 'idle lease' : 'idle leases');
    say(gauge.note, `${guest.inUse ? ` · ${guest.inUse} in use` : ''}${guest.idleWebsockets ? ` · ${guest.idleWebsockets} for WebSockets` : ''}${guest.queued ? ` · ${guest.queued} ${guest.queued === 1 ? 'request waits' : 'requests wait'}` : ''}`);
    const key = JSON.stringify(guest.routes);
    if (gauge.key === key) return;
    gauge.key = key;
    gauge.routes.replaceChildren(
      ...guest.routes.map((route) =>
        make('li', {class: `route ${route.state === 'active' ? 'active' : 'degraded'}`},
          make('span', {class: 'dot', 'aria-hidden': 'true'}), route.domain, route.state === 'active' ? '' : ' (away)'),
      ),
    );
  }
}
