#!/usr/bin/env node
// What somebody would write on the Node Broker for want of a gateway: each request on, its answer back.

import http from 'node:http';
import { parseArgs } from 'node:util';
import { Broker } from '../tests/interop/peer/broker.mjs';
import { CLIENT_FLAGS, print, tlsOptions } from '../tests/interop/peer/cli.mjs';

const { values: flags } = parseArgs({ options: { ...CLIENT_FLAGS, domain: { type: 'string' } } });

const broker = new Broker({ hostUrl: flags['host-url'], id: 'node-gateway', tls: tlsOptions(flags), leaseTimeoutMs: 30_000 });
await broker.connect();
await broker.waitForRoute(flags.domain, 30_000);

const server = http.createServer(async (request, response) => {
  try {
    const hasBody = 'content-length' in request.headers || 'transfer-encoding' in request.headers;
    const answer = await broker.request({
      url: `http://${request.headers.host}${request.url}`,
      method: request.method,
      headers: request.headers,
      ...(hasBody && { body: request }),
    });
    const headers = Object.fromEntries(Object.entries(answer.headers).filter(([name]) => !name.startsWith(':')));
    response.writeHead(answer.status, headers);
    for await (const chunk of answer.body) response.write(chunk);
    response.end();
  } catch (error) {
    response.writeHead(502).end(error.message);
  }
});
server.listen(0, '127.0.0.1', () => print('listening', { port: server.address().port }));
process.on('SIGTERM', () => process.exit(0));
