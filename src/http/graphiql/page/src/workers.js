// Monaco's web workers are plain files next to this bundle: a strict CSP
// (`worker-src 'self'`) allows neither blob: URLs nor a CDN.
// This module has to be evaluated before Monaco.
const FILES = {
  json: 'json.worker.js',
  graphql: 'graphql.worker.js',
};

globalThis.MonacoEnvironment = {
  getWorker(_workerId, label) {
    const file = FILES[label] ?? 'editor.worker.js';
    return new Worker(new URL(file, import.meta.url), { name: label });
  },
};
