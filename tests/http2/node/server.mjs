#!/usr/bin/env node
// An HTTP/2 server on plain Node.js: what a path asks for is what it does. One JSON object as argument.

import { readFileSync } from 'node:fs';
import http2 from 'node:http2';

const options = JSON.parse(process.argv[2]);
const { cert, key, ca, minVersion, maxVersion, settings, padding, alpn } = options;
const { PADDING_STRATEGY_MAX, PADDING_STRATEGY_NONE, NGHTTP2_NO_ERROR } = http2.constants;

const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
const noop = () => {};

const server = http2.createSecureServer({
  cert: readFileSync(cert),
  key: readFileSync(key),
  ...(ca && { ca: readFileSync(ca), requestCert: true, rejectUnauthorized: true }),
  ...(minVersion && { minVersion }),
  ...(maxVersion && { maxVersion }),
  ...(alpn && { ALPNProtocols: alpn }),
  settings,
  paddingStrategy: padding ? PADDING_STRATEGY_MAX : PADDING_STRATEGY_NONE,
  maxSessionMemory: 100,
});

const actions = {
  echo(stream) {
    stream.respond({ ':status': 200 });
    stream.pipe(stream);
  },
  big(stream, size) {
    stream.respond({ ':status': 200, 'content-length': String(size) });
    stream.end(Buffer.alloc(Number(size), 'x'));
  },
  sink(stream) {
    let size = 0;
    stream.on('data', (data) => { size += data.length; });
    stream.on('end', () => { stream.respond({ ':status': 200 }); stream.end(String(size)); });
  },
  crawl(stream) {
    let size = 0;
    const next = () => {
      const data = stream.read();
      size += data?.length ?? 0;
      if (!stream.readableEnded) setTimeout(next, 5);
    };
    stream.on('end', () => { stream.respond({ ':status': 200 }); stream.end(String(size)); });
    setTimeout(next, 5);
  },
  hints(stream) {
    stream.additionalHeaders({ ':status': 103, link: '</a.css>' });
    stream.respond({ ':status': 200 }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ checksum: '1' }));
    stream.end('body');
  },
  fields(stream, size) {
    stream.respond({ ':status': 200, 'x-large': 'v'.repeat(Number(size)) });
    stream.end('body');
  },
  unchanged(stream) {
    stream.respond({ ':status': 304, 'content-length': '1234' }, { endStream: true });
  },
  cut(stream) {
    stream.respond({ ':status': 200, 'content-length': '100' });
    stream.write('half', () => stream.destroy(new Error('cut')));
  },
  refuse(stream) {
    stream.respond({ ':status': 502 });
    stream.end('no', () => stream.close(NGHTTP2_NO_ERROR));
  },
  goaway(stream) {
    stream.session.goaway();
    setTimeout(() => { stream.respond({ ':status': 200 }); stream.end('still served'); }, 20);
  },
  resize(stream, size) {
    stream.session.settings({ initialWindowSize: Number(size) }, () => {
      stream.respond({ ':status': 200 });
      stream.pipe(stream);
    });
  },
  wait: noop,
};

server.on('session', (session) => {
  session.on('error', (error) => say({ event: 'error', message: error.message }));
  session.on('close', () => say({ event: 'closed' }));
  session.on('ping', () => say({ event: 'ping' }));
});
server.on('stream', (stream, headers) => {
  const [, action, argument] = headers[':path'].split('/');
  stream.on('error', noop);
  stream.on('aborted', () => say({ event: 'aborted', action, code: stream.rstCode }));
  actions[action](stream, argument);
});
server.on('tlsClientError', (error) => say({ event: 'tls', code: error.code }));
server.listen(0, '127.0.0.1', () => say({ event: 'listening', port: server.address().port }));
