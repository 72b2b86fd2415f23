// Queries and mutations over HTTP.
import type { TadaDocumentNode } from 'gql.tada';
import { print } from 'graphql';

export interface Connection {
  /** The server's address. */
  url: string;
  /** Asked before each request, so that a renewed token is used at once. */
  token: () => string;
  /** The language of messages to people: `ja` or `en`. */
  language: string;
}

/** An entry of `errors`: for programs, and for a report to us, not for the person. */
export interface GraphQLFailure {
  message: string;
  path?: (string | number)[];
  extensions?: { code?: string; requestId?: string; retryAfterMs?: number };
}

/** The request failed as a whole or in some fields. */
export class RequestFailed extends Error {
  constructor(
    readonly failures: GraphQLFailure[],
    /** What the other fields answered. */
    readonly data: unknown,
  ) {
    super(failures.map(({ message, extensions }) => `${extensions?.code}: ${message}`).join('; '));
  }

  has(code: string): boolean {
    return this.failures.some(failure => failure.extensions?.code === code);
  }
}

/** A business refusal, with the numbers that its type carries. */
export type Refused = { code: string; field: string[] | null; message: string } & (
  | { __typename: 'GeneralError' | 'InvalidInput' }
  | { __typename: 'InsufficientCredits'; needed: number; available: number; held: number }
  | { __typename: 'RateLimited'; limit: number; remaining: number; retryAfterSeconds: number }
  | { __typename: 'StaleVersion'; currentVersion: number }
  | { __typename: 'SuspiciousActivity'; blockedUntil: string }
);

/** A mutation was refused; the messages are for the person. */
export class MutationRefused extends Error {
  constructor(readonly refusals: readonly Refused[]) {
    super(refusals.map(refusal => refusal.message).join('\n'));
  }
}

/** One request. Answers its data, or throws `RequestFailed` or what the network threw. */
export async function execute<Data, Variables>(
  connection: Connection,
  document: TadaDocumentNode<Data, Variables>,
  variables: Variables,
): Promise<Data> {
  const response = await fetch(new URL('/graphql', connection.url), {
    method: 'POST',
    headers: {
      'accept': 'application/graphql-response+json, application/json;q=0.9',
      'accept-language': connection.language,
      'authorization': `Bearer ${connection.token()}`,
      'content-type': 'application/json',
    },
    body: JSON.stringify({ query: print(document), variables }),
    // `aiExecute` answers within 60 s.
    signal: AbortSignal.timeout(75_000),
  });
  // A refused request answers in the same shape, whatever its status.
  const { data, errors } = (await response.json()) as { data?: Data; errors?: GraphQLFailure[] };
  if (errors?.length || data == null) throw new RequestFailed(errors ?? [], data);
  return data;
}

const ATTEMPTS_MAX = 5;
/** Codes of what may be otherwise in a moment. */
const PASSING = ['UNAVAILABLE', 'TIMEOUT', 'RATE_LIMITED'];

/**
 * Makes a call again when its answer was lost or a part of the server was away. It must only read,
 * or carry an idempotency key that stays the same.
 */
export async function insist<Answer>(call: () => Promise<Answer>): Promise<Answer> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await call();
    } catch (error) {
      const pause = pauseBefore(error, attempt);
      if (pause === null || attempt === ATTEMPTS_MAX) throw error;
      await new Promise(resolve => setTimeout(resolve, pause));
    }
  }
}

/** Milliseconds to wait before the next attempt; null when it would fail as well. */
function pauseBefore(error: unknown, attempt: number): number | null {
  const grown = 200 * 2 ** attempt * (0.5 + Math.random());
  // The network failed, or something between us answered in words of its own.
  if (!(error instanceof RequestFailed)) return grown;
  if (!PASSING.some(code => error.has(code))) return null;
  const told = error.failures.map(failure => failure.extensions?.retryAfterMs ?? 0);
  return Math.max(grown, ...told);
}

/** The payload of a mutation that was done; throws `MutationRefused` when it was not. */
export function done<Payload extends { userErrors: readonly Refused[] }>(
  payload: Payload | null,
): Payload {
  // Null only beside an entry in `errors`, which `execute` has thrown.
  if (payload === null) throw new Error('a payload without errors is never null');
  if (payload.userErrors.length > 0) throw new MutationRefused(payload.userErrors);
  return payload;
}
