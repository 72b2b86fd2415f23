// `graphql()` knows schema.graphql: a document that does not fit it does not compile.
import { initGraphQLTada } from 'gql.tada';
import type { introspection } from './graphql-env.d.ts';

export const graphql = initGraphQLTada<{
  introspection: introspection;
  // Fragments are read like plain objects; without this they are opaque until `readFragment`.
  disableMasking: true;
  scalars: {
    /** RFC 3339 in UTC. */
    DateTime: string;
    /** `YYYY-MM-DD`, in the tenant's calendar. */
    Date: string;
    /** Exact: keep it a string, or give it to a decimal library; never to `Number`. */
    Decimal: string;
    JSON: unknown;
  };
}>();
