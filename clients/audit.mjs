// Every audit of graphql-over-http against MUSUBI_URL; fails when one does not pass.
import { auditServer } from 'graphql-http';
import { endpoint } from './endpoint.mjs';

const counts = { ok: 0, notice: 0, warn: 0, error: 0 };
for (const result of await auditServer({ url: endpoint() })) {
  counts[result.status] += 1;
  if (result.status !== 'ok') {
    console.log(`${result.status}: ${result.id} ${result.name}: ${result.reason}`);
  }
}
console.log(Object.entries(counts).map(([status, count]) => `${status} ${count}`).join(', '));
// A suite that lost its audits proves nothing.
if (counts.warn + counts.error > 0 || counts.ok < 50) process.exitCode = 1;
