import { Kind, parse } from 'graphql';
import { createClient } from 'graphql-ws';
import { normalizeHeaders } from './config.js';

const HTTP_URL = new URL('/graphql', location.href);
const WS_URL = new URL('/graphql', location.href);
WS_URL.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';

/** GraphiQL's fetcher: queries and mutations over HTTP, subscriptions over a WebSocket. */
export function fetcher(params, options) {
  const headers = normalizeHeaders(options?.headers);
  const operations = operationsOf(params.query);
  const call = withItsOwnName(params, operations);
  const operation = operations.find(({ name }) => name?.value === call.operationName) ?? operations[0];
  return operation?.operation === 'subscription' ? subscribe(call, headers) : post(call, headers);
}

function operationsOf(query) {
  try {
    return parse(query).definitions.filter(({ kind }) => kind === Kind.OPERATION_DEFINITION);
  } catch {
    return []; // let the server say what is wrong with it
  }
}

// GraphiQL learns what a tab's operations are a moment after it shows the tab: who runs it at once
// would run it under the name of the tab before. The document itself knows.
function withItsOwnName(params, operations) {
  const { operationName, ...rest } = params;
  const isKnown = operations.some(({ name }) => name?.value === operationName);
  return isKnown || operations.length !== 1 ? params : rest;
}

async function post(params, headers) {
  const request = {
    method: 'POST',
    headers: {
      accept: 'application/graphql-response+json, application/json;q=0.9',
      'content-type': 'application/json',
      ...headers,
    },
    body: JSON.stringify(params),
  };
  let response;
  let text;
  try {
    response = await fetch(HTTP_URL, request);
    text = await response.text();
  } catch (error) {
    throw failure(`The request failed: ${error.message}`);
  }
  try {
    const result = JSON.parse(text);
    if (result && typeof result === 'object') return result;
  } catch {
    // not JSON: reported below
  }
  throw failure(`HTTP ${response.status} ${response.statusText}: ${text.slice(0, 1000)}`);
}

// A plain object: of an Error, GraphiQL would show the (minified) stack too.
const failure = message => ({ message });

// One connection for each subscription: the headers travel in its
// connection_init, so a changed header takes effect with the next run.
function subscribe(params, headers) {
  return {
    subscribe(observer) {
      const client = createClient({
        url: WS_URL.href,
        connectionParams: headers ?? undefined,
        retryAttempts: 0, // show what went wrong rather than try again silently
      });
      let active = true;
      const finish = () => {
        active = false;
        client.dispose();
      };
      const unsubscribe = client.subscribe(params, {
        next: result => active && observer.next(result),
        error(error) {
          if (!active) return;
          finish();
          observer.error(readable(error));
        },
        complete() {
          if (!active) return;
          finish();
          observer.complete();
        },
      });
      return {
        unsubscribe() {
          if (!active) return;
          active = false;
          unsubscribe(); // sends "complete", then closes the lazy connection
        },
      };
    },
  };
}

function readable(error) {
  if (Array.isArray(error)) return error; // GraphQL errors
  if (typeof error?.code === 'number') {
    const reason = error.reason ? `: ${error.reason}` : '';
    return failure(`WebSocket closed with code ${error.code}${reason}`);
  }
  return failure(error?.message || 'The WebSocket connection failed');
}
