// The npm client graphql-ws as a dashboard uses it: several subscriptions and calls on one socket
// that outlives the server's process. Whoever runs this stops the server when it reads
// `watching <version>` on standard output, starts another on the same port, and waits for `ok`.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { socket, token } from './endpoint.mjs';

const BALANCE = 'subscription { creditBalance { current held available version } }';
const EXECUTE = `mutation ($input: AiExecuteInput!) { aiExecute(input: $input) {
  execution { id status } balance { version } userErrors { code message } } }`;
const EVENTS = `subscription ($id: ID!) { aiExecutionEvents(executionId: $id) { __typename seq } }`;

/** Closes and connections, in their order. */
const seen = { connected: 0, codes: [] };

const open = options =>
  createClient({
    url: socket(),
    webSocketImpl: WebSocket,
    connectionParams: () => ({ authorization: `Bearer ${token()}` }),
    on: {
      connected: () => (seen.connected += 1),
      closed: event => seen.codes.push(event.code),
    },
    ...options,
  });

/** A subscription whose results can be awaited one by one; `ended` says how it ended, if it did. */
function watch(client, query, variables) {
  const watched = { results: [], ended: null };
  const sink = {
    next: result => watched.results.push({ ...result, connection: seen.connected }),
    error: error => (watched.ended = { error }),
    complete: () => (watched.ended = { complete: true }),
  };
  watched.stop = client.subscribe({ query, variables }, sink);
  return watched;
}

/** A query or mutation over the socket. */
async function ask(client, query, variables) {
  const answers = client.iterate({ query, variables });
  const { value } = await answers.next();
  assert.equal((await answers.next()).done, true, 'one answer, then complete');
  assert.equal(value.errors, undefined, JSON.stringify(value.errors));
  return value.data;
}

async function until(what, look) {
  for (const end = Date.now() + 60_000; Date.now() < end; await pause(20)) {
    if (look()) return;
  }
  assert.fail(`waited in vain: ${what}; ${JSON.stringify(seen)}`);
}

async function execute(client) {
  const parameters = { input: 'When is breakfast?', maxTokens: 50 };
  const input = { functionType: 'CHATBOT', parameters, idempotencyKey: randomUUID() };
  const { aiExecute } = await ask(client, EXECUTE, { input });
  assert.deepEqual(aiExecute.userErrors, []);
  assert.equal(aiExecute.execution.status, 'SUCCEEDED');
  return aiExecute;
}

const versions = watched => watched.results.map(result => result.data.creditBalance.version);

/** Versions rise strictly on a connection, and never fall from one to the next. */
function rises({ results }) {
  for (const [at, { connection, data }] of results.entries()) {
    if (at === 0) continue;
    const before = results[at - 1];
    const least = before.data.creditBalance.version + (connection === before.connection ? 1 : 0);
    assert.ok(data.creditBalance.version >= least, JSON.stringify(results));
  }
}

/** Several operations on one socket; none disturbs another. */
async function sharesOneSocket(client) {
  const first = watch(client, BALANCE);
  const second = watch(client, BALANCE);
  await until('both snapshots', () => first.results.length && second.results.length);
  const { viewer } = await ask(client, '{ viewer { role permissions } }');
  assert.ok(viewer.permissions.includes('AI_EXECUTE'));

  const { execution, balance } = await execute(client);
  const reached = watched => versions(watched).at(-1) >= balance.version;
  await until('both see the charge', () => reached(first) && reached(second));
  const events = watch(client, EVENTS, { id: execution.id });
  await until('the steps complete', () => events.ended);
  const names = events.results.map(result => result.data.aiExecutionEvents.__typename);
  assert.deepEqual([names[0], names.at(-1)], ['AiExecutionStarted', 'AiExecutionFinished']);
  assert.deepEqual(events.ended, { complete: true });

  const refused = watch(client, 'subscription { nothingOfTheSort }');
  await until('the refusal', () => refused.ended);
  assert.deepEqual(refused.results, []);
  assert.equal(refused.ended.error[0].extensions.code, 'GRAPHQL_VALIDATION_FAILED');

  second.stop();
  const known = second.results.length;
  await execute(client);
  await until('the first sees it', () => versions(first).at(-1) > balance.version);
  assert.equal(second.results.length, known, 'nothing comes after unsubscribing');
  assert.deepEqual(seen, { connected: 1, codes: [] }, 'one socket for all');
  return first;
}

/** The process goes and another comes; the subscriber just goes on. */
async function outlivesTheServer(client, watched) {
  const last = versions(watched).at(-1);
  const known = watched.results.length;
  console.log(`watching ${last}`);
  await until('another connection', () => seen.connected > 1);
  assert.equal(seen.codes[0], 1012, 'a close that tells to come back');
  await until('a fresh snapshot', () => watched.results.length > known);
  // The snapshot of the new process has at least the version of before.
  const snapshot = versions(watched)[known];
  assert.ok(snapshot >= last, `${snapshot} after ${last}`);
  const { balance } = await execute(client);
  await until('a further change', () => versions(watched).at(-1) >= balance.version);
  assert.ok(balance.version > snapshot);
  rises(watched);
  assert.equal(watched.ended, null, `neither error nor complete: ${JSON.stringify(watched.ended)}`);
}

/** The last operation closes a lazy socket, in order. */
async function leaves(client, watched) {
  const closed = seen.codes.length;
  watched.stop();
  await until('the lazy socket closes', () => seen.codes.length > closed);
  assert.equal(seen.codes.at(-1), 1000, 'the server says goodbye, too');
  assert.deepEqual(watched.ended, { complete: true }, 'the client completes what it stopped');
  const connected = seen.connected;
  assert.equal((await ask(client, '{ __typename }')).__typename, 'Query');
  assert.equal(seen.connected, connected + 1, 'and opens again when it is needed');
}

/** A bad token ends with 4403, and without another try when the client says so. */
async function isTurnedAway() {
  const stranger = open({
    connectionParams: { authorization: 'Bearer nonsense' },
    shouldRetry: event => event.code !== 4403,
    on: {},
  });
  const watched = watch(stranger, BALANCE);
  await until('the refusal of the token', () => watched.ended);
  assert.equal(watched.ended.error.code, 4403);
}

const client = open({
  retryAttempts: 100,
  // Besides closes, which it knows, the client meets refused connections while no server is there.
  shouldRetry: () => true,
  retryWait: () => pause(50 + Math.random() * 100),
});
const watched = await sharesOneSocket(client);
await outlivesTheServer(client, watched);
await leaves(client, watched);
await isTurnedAway();
await client.dispose();
console.log('ok');
