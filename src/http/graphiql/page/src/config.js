// The server replaces the placeholder in index.html with
//   { "headers": { name: value } | null,
//     "defaultQuery": string?,
//     "tabs": [{ "query": string, "variables": string | object ? }]? }

export function readConfig() {
  const text = document.getElementById('musubi-config')?.textContent ?? '';
  try {
    const config = JSON.parse(text);
    return config && typeof config === 'object' ? config : {};
  } catch {
    return {}; // the placeholder was not replaced
  }
}

/** Header names lower-cased, values as strings; null when there are none. */
export function normalizeHeaders(headers) {
  if (!headers || typeof headers !== 'object') return null;
  const entries = Object.entries(headers)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => [name.trim().toLowerCase(), String(value)])
    .filter(([name]) => name !== '');
  return entries.length ? Object.fromEntries(entries) : null;
}

export const formatJson = value => JSON.stringify(value, null, 2);
