#!/usr/bin/env node
// An HTTP/2 client on plain Node.js: runs the requests that it is told of, all at once, and tells how they
// went. One JSON object as argument.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';

const { port, ca, requests, settings, padding, window } = JSON.parse(process.argv[2]);
const { PADDING_STRATEGY_MAX, PADDING_STRATEGY_NONE, NGHTTP2_CANCEL } = http2.constants;
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

const session = http2.connect(`https://localhost:${port}`, {
  ca: readFileSync(ca),
  settings,
  paddingStrategy: padding ? PADDING_STRATEGY_MAX : PADDING_STRATEGY_NONE,
  maxSessionMemory: 100,
});
session.on('error', (error) => say({ event: 'error', message: error.message }));
session.on('goaway', (code) => say({ event: 'goaway', code }));

/** `size`: bytes to send; `cancelAfter`: bytes of the answer after which it is cancelled. */
function request({ path, size = 0, cancelAfter = Infinity, fields = {} }) {
  return new Promise((resolve) => {
    const stream = session.request({ ':method': 'POST', ':path': path, ...fields });
    const result = { path, status: 0, size: 0, code: 0 };
    const hash = createHash('sha256');
    stream.on('response', (headers) => { result.status = headers[':status']; });
    stream.on('data', (data) => {
      result.size += data.length;
      hash.update(data);
      if (result.size >= cancelAfter) stream.close(NGHTTP2_CANCEL);
    });
    stream.on('error', (error) => { result.error = error.code; });
    stream.on('close', () => resolve({ ...result, code: stream.rstCode, hash: hash.digest('hex') }));
    stream.end(Buffer.alloc(size, path));
  });
}

session.on('connect', async () => {
  if (window) session.setLocalWindowSize(window);
  const results = await Promise.all(requests.map(request));
  session.ping((error, ms) => {
    say({ event: 'done', results, ping: error ? null : ms });
    session.close(() => say({ event: 'closed' }));
  });
});
