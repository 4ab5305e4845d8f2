#!/usr/bin/env node
// Plain HTTP/1.1 requests on connections that stay open: one JSON line of results as load.mjs prints it.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import { parseArgs } from 'node:util';

const { values: flags } = parseArgs({
  options: {
    url: { type: 'string' },
    domain: { type: 'string' },
    path: { type: 'string', default: '/plain' },
    concurrency: { type: 'string', default: '64' },
    seconds: { type: 'string', default: '4' },
    warmup: { type: 'string', default: '1' },
    'body-bytes': { type: 'string', default: '0' },
    pid: { type: 'string' },
  },
});

const round = (value, digits = 2) => Number(value.toFixed(digits));
const concurrency = Number(flags.concurrency);
const body = Buffer.alloc(Number(flags['body-bytes']), 'x');
const agent = new http.Agent({ keepAlive: true, maxSockets: concurrency });

/** CPU milliseconds used so far, and resident megabytes, of a process. */
function usage(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return { cpuMs: (Number(fields[11]) + Number(fields[12])) * 10, rssMb: Number(/VmRSS:\s+(\d+)/.exec(status)[1]) / 1_024 };
}

let latencies = [];
const errors = {};

/** One request; resolves to the status once the whole answer is there. */
function ask() {
  return new Promise((resolve, reject) => {
    const headers = { host: flags.domain, ...(body.length > 0 && { 'content-length': body.length }) };
    const request = http.request(
      `${flags.url}${flags.path}`,
      { agent, method: body.length > 0 ? 'POST' : 'GET', headers },
      (answer) => {
        answer.on('end', () => (answer.complete ? resolve(answer.statusCode) : reject(new Error('cut off'))));
        answer.on('error', reject);
        answer.resume();
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

async function work(end) {
  while (performance.now() < end) {
    const start = performance.now();
    try {
      const status = await ask();
      if (status !== 200) throw new Error(`status ${status}`);
      latencies.push(performance.now() - start);
    } catch (error) {
      errors[error.message] = (errors[error.message] ?? 0) + 1;
    }
  }
}

async function run(seconds) {
  const end = performance.now() + seconds * 1_000;
  await Promise.all(Array.from({ length: concurrency }, () => work(end)));
}

await run(Number(flags.warmup));
latencies = [];
const before = usage(flags.pid);
const start = performance.now();
await run(Number(flags.seconds));
const seconds = (performance.now() - start) / 1_000;
const after = usage(flags.pid);
latencies.sort((a, b) => a - b);
const quantile = (share) => round(latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0);
process.stdout.write(`${JSON.stringify({
  requests: latencies.length,
  errors,
  rps: round(latencies.length / seconds, 0),
  p50_ms: quantile(0.5),
  p99_ms: quantile(0.99),
  cpu_ms_per_request: round((after.cpuMs - before.cpuMs) / latencies.length, 4),
  rss_mb: round(after.rssMb, 0),
})}\n`);
process.exit(0);
