// GraphiQL persists the headers editor in localStorage. The headers the server
// pre-fills (a bearer token, typically) differ from one start of the server to
// the next, so what an earlier start left behind has to make way: in the
// editor, in the stored tabs and in the history.
import { normalizeHeaders, formatJson } from './config.js';

const MARK = 'musubi:graphiql-prefill';
const HEADERS = 'graphiql:headers';
const TABS = 'graphiql:tabState';
const PERSIST = 'graphiql:shouldPersistHeaders';
const HISTORIES = ['queries', 'favorites'];

// Only a fingerprint of each prefilled value is kept (cyrb53; not a secret
// keeper, just no second copy of the token).
function fingerprint(text) {
  let h1 = 0xdeadbeef;
  let h2 = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    h1 = Math.imul(h1 ^ c, 2654435761);
    h2 = Math.imul(h2 ^ c, 1597334677);
  }
  h1 = Math.imul(h1 ^ (h1 >>> 16), 2246822507) ^ Math.imul(h2 ^ (h2 >>> 13), 3266489909);
  h2 = Math.imul(h2 ^ (h2 >>> 16), 2246822507) ^ Math.imul(h1 ^ (h1 >>> 13), 3266489909);
  return (4294967296 * (2097151 & h2) + (h1 >>> 0)).toString(36);
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * Bring the stored headers in line with this start's prefill.
 *
 * - A prefilled header replaces a stored one of the same name.
 * - A header an earlier start prefilled and this one does not is removed,
 *   unless the user has changed its value.
 * - Other headers the user typed stay.
 */
export function applyPrefill(prefill, storage) {
  const marks = Object.fromEntries(
    Object.entries(prefill ?? {}).map(([name, value]) => [name, fingerprint(value)]),
  );
  const oldMarks = parse(storage.getItem(MARK)) ?? {};
  const persists = storage.getItem(PERSIST) !== 'false';

  const merge = text => {
    const stored = normalizeHeaders(parse(text)) ?? {};
    for (const [name, mark] of Object.entries(oldMarks)) {
      if (name in stored && fingerprint(stored[name]) === mark) delete stored[name];
    }
    const merged = { ...stored, ...prefill };
    return Object.keys(merged).length ? formatJson(merged) : null;
  };

  if (JSON.stringify(marks) !== JSON.stringify(oldMarks)) {
    const headers = storage.getItem(HEADERS);
    if (headers) set(storage, HEADERS, merge(headers));

    const tabState = parse(storage.getItem(TABS));
    if (Array.isArray(tabState?.tabs)) {
      for (const tab of tabState.tabs) {
        // With "do not persist headers" the tabs are stored without any, and
        // GraphiQL falls back on the defaults.
        if (persists || tab.headers) tab.headers = merge(tab.headers);
      }
      set(storage, TABS, JSON.stringify(tabState));
    }

    for (const key of HISTORIES) {
      const history = parse(storage.getItem(`graphiql:${key}`));
      if (!Array.isArray(history?.[key])) continue;
      for (const item of history[key]) {
        if (item.headers) item.headers = merge(item.headers) ?? undefined;
      }
      set(storage, `graphiql:${key}`, JSON.stringify(history));
    }

    set(storage, MARK, prefill ? JSON.stringify(marks) : null);
  }

  selectActiveTab(storage, persists);
}

// GraphiQL looks for the last active tab by the query, variables and headers it
// stores apart from the tabs, each only once edited; when no tab matches, it
// opens another one. So make them say what the active tab says.
function selectActiveTab(storage, persists) {
  const tabState = parse(storage.getItem(TABS));
  const tab = tabState?.tabs?.[tabState.activeTabIndex];
  if (!tab) return;
  set(storage, 'graphiql:query', tab.query || null);
  set(storage, 'graphiql:variables', tab.variables || null);
  if (persists) set(storage, HEADERS, tab.headers || null);
}

function set(storage, key, value) {
  if (value === null) storage.removeItem(key);
  else storage.setItem(key, value);
}

export function hasStoredTabs(storage) {
  return Array.isArray(parse(storage.getItem(TABS))?.tabs);
}
