// A dashboard without its pictures: everything that it would do, once, against a running server.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import WebSocket from 'ws';
import {
  done,
  execute,
  insist,
  MutationRefused,
  RequestFailed,
  type Connection,
  type Refused,
} from './client.js';
import * as documents from './documents.js';
import { connect, follow, newest } from './live.js';
import { entries } from './pages.js';

const need = (name: string): string => {
  const value = process.env[name];
  assert.ok(value, `${name} is missing`);
  return value;
};

const connection: Connection = {
  url: need('MUSUBI_URL'),
  token: () => need('MUSUBI_TOKEN'),
  language: 'en',
};

const chat = (input: string, maxTokens = 50) => ({
  functionType: 'CHATBOT' as const,
  parameters: { input, maxTokens },
});

async function showsTheAccount(): Promise<string> {
  const { viewer } = await execute(connection, documents.ViewerQuery, {});
  assert.equal(viewer?.role, 'ADMIN');
  assert.ok(viewer.tenant && viewer.permissions.includes('LEDGER_READ'));
  const { creditAccount } = await execute(connection, documents.AccountQuery, { days: 7 });
  assert.ok(creditAccount);
  const { current, held, available } = creditAccount.balance;
  assert.equal(available, current - held);
  assert.equal(creditAccount.usage.dailyUsage.length, 7);
  assert.equal(typeof creditAccount.runway.dailyRate, 'string');
  return viewer.tenant.id;
}

/** Quotes, runs, and runs again under the same key as after a lost answer: it is charged once. */
async function paysOnce(): Promise<string> {
  const call = chat('When does the bath open?');
  const { aiExecutionQuote } = await execute(connection, documents.QuoteQuery, { input: call });
  assert.equal(aiExecutionQuote?.affordable, true);

  const input = { ...call, idempotencyKey: randomUUID() };
  const run = () => execute(connection, documents.ExecuteMutation, { input });
  const first = done((await insist(run)).aiExecute);
  assert.equal(first.execution?.status, 'SUCCEEDED');
  const again = done((await insist(run)).aiExecute);
  assert.deepEqual(again.execution, first.execution);
  assert.equal(again.balance?.current, first.balance?.current);
  const found = await execute(connection, documents.ExecutionOfKeyQuery, {
    key: input.idempotencyKey,
  });
  assert.deepEqual(found.aiExecutions?.nodes, [first.execution]);

  const other = { ...chat('Something else'), idempotencyKey: input.idempotencyKey };
  await refuses(other, 'IDEMPOTENCY_CONFLICT');
  await refuses({ ...chat(''), idempotencyKey: randomUUID() }, 'INVALID_INPUT');
  return first.execution.id;
}

/** Spends what a poor account has, then asks for more than is left. */
async function learnsWhatIsMissing(): Promise<void> {
  const { creditAccount } = await execute(connection, documents.AccountQuery, { days: 1 });
  const available = creditAccount?.balance.available ?? 0;
  if (available > 50) return;
  for (let left = available; left >= 4; left -= 2) {
    const input = { ...chat('And tomorrow?'), idempotencyKey: randomUUID() };
    done((await execute(connection, documents.ExecuteMutation, { input })).aiExecute);
  }
  const long = { ...chat('word '.repeat(6_000), 4_000), idempotencyKey: randomUUID() };
  const refusal = await refuses(long, 'INSUFFICIENT_CREDITS');
  assert.ok(refusal.__typename === 'InsufficientCredits');
  assert.ok(refusal.needed > refusal.available);
}

/** A provider's failure is no refusal: the run exists and says what became of it. */
async function toldOfFailures(): Promise<void> {
  const input = { ...chat('sandbox:fail-500'), idempotencyKey: randomUUID() };
  const { aiExecute } = await execute(connection, documents.ExecuteMutation, { input });
  const { execution } = done(aiExecute);
  assert.equal(execution?.status, 'FAILED');
  assert.equal(execution.failure?.code, 'PROVIDER_UNAVAILABLE');
  assert.equal(execution.failure.retryable, true);
  assert.equal(execution.charge.creditsUsed, 0);
}

type Call = ReturnType<typeof chat> & { idempotencyKey: string };

/** The refusal that a call meets. */
async function refuses(input: Call, code: string): Promise<Refused> {
  const { aiExecute } = await execute(connection, documents.ExecuteMutation, { input });
  try {
    done(aiExecute);
  } catch (error) {
    assert.ok(error instanceof MutationRefused);
    const [refusal] = error.refusals;
    assert.equal(refusal?.code, code);
    return refusal;
  }
  assert.fail(`${code} was expected`);
}

async function pages(): Promise<void> {
  const list = (first: number) =>
    entries(async after => {
      const variables = { first, after, where: { type: { eq: 'USAGE' as const } } };
      const { creditAccount } = await execute(connection, documents.TransactionsQuery, variables);
      assert.ok(creditAccount);
      return creditAccount.transactions;
    });
  const ids = [];
  for await (const line of list(2)) {
    assert.equal(line.type, 'USAGE');
    ids.push(line.id);
    if (ids.length === 7) break;
  }
  const atOnce = [];
  for await (const line of list(7)) {
    atOnce.push(line.id);
    if (atOnce.length === ids.length) break;
  }
  assert.ok(ids.length >= 3);
  assert.deepEqual(ids, atOnce);
  assert.equal(new Set(ids).size, ids.length);
}

async function watches(): Promise<void> {
  const client = connect(connection, WebSocket);
  const balances = newest(onlyBalances(follow(client, documents.BalanceSubscription, {})));
  const snapshot = (await balances.next()).value;
  assert.ok(snapshot);

  const input = { ...chat('What is for dinner?'), idempotencyKey: randomUUID() };
  const { execution } = done(
    (await execute(connection, documents.StartMutation, { input })).aiExecutionStart,
  );
  assert.ok(execution);
  const variables = { id: execution.id, after: null };
  const steps = [];
  for await (const { aiExecutionEvents } of follow(
    client,
    documents.ExecutionEventsSubscription,
    variables,
  )) {
    steps.push(aiExecutionEvents.__typename);
    if (aiExecutionEvents.__typename !== 'AiExecutionFinished') continue;
    assert.equal(aiExecutionEvents.execution.status, 'SUCCEEDED');
    const charged = snapshot.current - aiExecutionEvents.execution.charge.creditsUsed;
    for await (const { current } of balances) if (current === charged) break;
  }
  assert.deepEqual(steps, ['AiExecutionStarted', 'AiExecutionFinished']);
  await client.dispose();
}

async function* onlyBalances<Balance>(events: AsyncIterable<{ creditBalance: Balance }>) {
  for await (const { creditBalance } of events) yield creditBalance;
}

/** What costs the platform money is not the tenant's to do. */
async function staysInItsPlace(tenantId: string, executionId: string): Promise<void> {
  const idempotencyKey = randomUUID();
  const bonus = { tenantId, credits: 10, idempotencyKey };
  const refund = { tenantId, executionId, idempotencyKey };
  const isForbidden = (error: unknown) =>
    error instanceof RequestFailed && error.has('FORBIDDEN') && error.data !== undefined;
  const give = execute(connection, documents.BonusMutation, { input: bonus });
  await assert.rejects(give, isForbidden);
  const giveBack = execute(connection, documents.RefundMutation, { input: refund });
  await assert.rejects(giveBack, isForbidden);
}

/** What the platform's own dashboard does. */
async function givesAndGivesBack(
  platform: Connection,
  tenantId: string,
  executionId: string,
): Promise<void> {
  const bonus = { tenantId, credits: 10, description: 'Sorry', idempotencyKey: randomUUID() };
  const give = () => execute(platform, documents.BonusMutation, { input: bonus });
  const given = done((await insist(give)).creditBonusGrant);
  assert.equal(given.grant?.granted, 10);

  const refund = { tenantId, executionId, credits: 1, idempotencyKey: randomUUID() };
  const giveBack = () => execute(platform, documents.RefundMutation, { input: refund });
  const returned = done((await insist(giveBack)).creditRefund);
  assert.equal(returned.transaction?.credits, 1);
  assert.ok(given.balance && returned.balance);
  assert.equal(returned.balance.current, given.balance.current + 1);
}

const tenantId = await showsTheAccount();
const executionId = await paysOnce();
await toldOfFailures();
await watches();
await learnsWhatIsMissing();
await pages();
await staysInItsPlace(tenantId, executionId);
const platformToken = process.env.MUSUBI_PLATFORM_TOKEN;
if (platformToken) {
  const platform = { ...connection, token: () => platformToken };
  await givesAndGivesBack(platform, tenantId, executionId);
}
console.log('ok');
