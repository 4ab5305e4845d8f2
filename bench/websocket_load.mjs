#!/usr/bin/env node
// WebSockets that echo: one message in flight on each, one JSON line of results as load.mjs prints it.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Broker } from '../tests/interop/peer/broker.mjs';
import { CLIENT_FLAGS, tlsOptions } from '../tests/interop/peer/cli.mjs';

const { values: flags } = parseArgs({
  options: {
    ...CLIENT_FLAGS,
    domain: { type: 'string' },
    path: { type: 'string', default: '/' },
    concurrency: { type: 'string', default: '16' },
    seconds: { type: 'string', default: '5' },
    warmup: { type: 'string', default: '1' },
    'body-bytes': { type: 'string', default: '100' },
    pid: { type: 'string' },
  },
});

const round = (value, digits = 2) => Number(value.toFixed(digits));

/** CPU milliseconds used so far, and resident megabytes, of a process. */
function usage(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return { cpuMs: (Number(fields[11]) + Number(fields[12])) * 10, rssMb: Number(/VmRSS:\s+(\d+)/.exec(status)[1]) / 1_024 };
}

const broker = new Broker({ hostUrl: flags['host-url'], id: `ws-load-${process.pid}`, tls: tlsOptions(flags) });
await broker.connect();
await broker.waitForRoute(flags.domain, 30_000);

const text = 'x'.repeat(Number(flags['body-bytes']));
let latencies = [];
const channels = [];
for (let count = 0; count < Number(flags.concurrency); count += 1) {
  // A Guest keeps a few idle leases for WebSockets: a moment for the next one
  if (count > 0 && count % 2 === 0) await sleep(50);
  const channel = await broker.websocket(`http://${flags.domain}${flags.path}`);
  let started = performance.now();
  channel.on('message', () => {
    latencies.push(performance.now() - started);
    started = performance.now();
    channel.sendText(text);
  });
  channel.on('close', (code) => {
    process.stderr.write(`a WebSocket closed with ${code}\n`);
    process.exit(1);
  });
  channel.sendText(text);
  channels.push(channel);
}

await sleep(Number(flags.warmup) * 1_000);
latencies = [];
const before = usage(flags.pid);
const start = performance.now();
await sleep(Number(flags.seconds) * 1_000);
const seconds = (performance.now() - start) / 1_000;
const after = usage(flags.pid);
const measured = latencies.sort((a, b) => a - b);
const quantile = (share) => round(measured[Math.min(measured.length - 1, Math.floor(measured.length * share))] ?? 0);
process.stdout.write(`${JSON.stringify({
  requests: measured.length,
  errors: {},
  unfinished: 0,
  rps: round(measured.length / seconds, 0),
  p50_ms: quantile(0.5),
  p99_ms: quantile(0.99),
  cpu_ms_per_request: round((after.cpuMs - before.cpuMs) / measured.length, 4),
  rss_mb: round(after.rssMb, 0),
})}\n`);
process.exit(0);
