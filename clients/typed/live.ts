// Subscriptions over one WebSocket that comes back by itself.
import type { TadaDocumentNode } from 'gql.tada';
import { print } from 'graphql';
import { createClient, type Client, type FormattedExecutionResult } from 'graphql-ws';
import type { Connection } from './client.js';

/**
 * A browser has a WebSocket of its own; Node before 22 is given one. The socket opens with the
 * first operation and closes with the last.
 */
export function connect(connection: Connection, webSocketImpl?: unknown): Client {
  return createClient({
    url: new URL('/graphql', connection.url).href.replace(/^http/, 'ws'),
    webSocketImpl,
    // Asked at each connection, so that the next one uses the renewed token.
    connectionParams: () => ({
      'authorization': `Bearer ${connection.token()}`,
      'accept-language': connection.language,
    }),
    retryAttempts: Infinity,
    shouldRetry: event => mayRetry(event),
    retryWait: async attempt => {
      const pause = Math.min(200 * 2 ** attempt, 10_000) * (0.5 + Math.random() / 2);
      await new Promise(resolve => setTimeout(resolve, pause));
    },
  });
}

/**
 * The client never retries what another try cannot help: 4400, 4401, 4409, 4429, and most codes
 * below 2000. It does after 1012 (the server restarts) and 1013 (a part of it is away). 4403 says
 * that the token is bad or over: sign in again, then connect.
 */
function mayRetry(event: unknown): boolean {
  const code = (event as { code?: unknown } | null)?.code;
  return code !== 4403;
}

/** Results of a subscription as they come, across reconnections, until the loop is left. */
export async function* follow<Data, Variables extends Record<string, unknown>>(
  client: Client,
  document: TadaDocumentNode<Data, Variables>,
  variables: Variables,
): AsyncGenerator<Data> {
  const results = client.iterate<Data>({ query: print(document), variables });
  for await (const { data, errors } of results as AsyncIterable<FormattedExecutionResult<Data>>) {
    if (errors?.length || data == null) throw new Error(errors?.[0]?.message ?? 'no data');
    yield data;
  }
}

/** Balances in their order: what an older connection still says about the past is dropped. */
export async function* newest<Event extends { version: number }>(
  events: AsyncIterable<Event>,
): AsyncGenerator<Event> {
  let version = -1;
  for await (const event of events) {
    if (event.version <= version) continue;
    version = event.version;
    yield event;
  }
}
