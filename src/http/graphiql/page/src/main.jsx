import './workers.js';
// Statically, so that Monaco's stylesheet comes before GraphiQL's.
import 'monaco-graphql/esm/monaco-editor.js';
import { useEffect } from 'react';
import { createRoot } from 'react-dom/client';
import { useMonaco } from '@graphiql/react';
import { GraphiQL, HISTORY_PLUGIN } from 'graphiql';
import { explorerPlugin } from '@graphiql/plugin-explorer';
import '@graphiql/react/style.css';
import '@graphiql/plugin-doc-explorer/style.css';
import '@graphiql/plugin-history/style.css';
import '@graphiql/plugin-explorer/style.css';
import 'graphiql/graphiql.css';
import './page.css';
import { formatJson, normalizeHeaders, readConfig } from './config.js';
import { fetcher } from './fetcher.js';
import { applyPrefill, hasStoredTabs } from './prefill.js';

const config = readConfig();
const prefill = normalizeHeaders(config.headers);
const defaultHeaders = prefill ? formatJson(prefill) : undefined;
const plugins = [HISTORY_PLUGIN, explorerPlugin()];

let stored = false;
try {
  applyPrefill(prefill, localStorage);
  stored = hasStoredTabs(localStorage);
} catch (error) {
  console.warn('localStorage is not usable', error);
}

const asText = value =>
  value === undefined || value === null || typeof value === 'string' ? value : formatJson(value);

const defaultTabs = Array.isArray(config.tabs) && config.tabs.length
  ? config.tabs.map(tab => ({
      query: tab.query,
      variables: asText(tab.variables),
      headers: defaultHeaders,
    }))
  : undefined;

// GraphiQL takes the first tab's query from defaultTabs, but not its variables.
const initialVariables = (!stored && defaultTabs?.[0].variables) || undefined;

// GraphiQL introspects as soon as it is mounted, with whatever the headers
// editor says by then; so mount it when Monaco is there and not before.
function Page() {
  const monaco = useMonaco(state => state.monaco);
  const actions = useMonaco(state => state.actions);
  useEffect(() => {
    actions.initialize();
  }, [actions]);
  if (!monaco) return <p className="musubi-loading">Loading GraphiQL …</p>;
  return (
    <GraphiQL
      fetcher={fetcher}
      plugins={plugins}
      shouldPersistHeaders
      defaultHeaders={defaultHeaders}
      defaultQuery={config.defaultQuery ?? undefined}
      defaultTabs={defaultTabs}
      initialVariables={initialVariables}
    >
      <GraphiQL.Logo>
        <span>Musubi</span>
      </GraphiQL.Logo>
    </GraphiQL>
  );
}

createRoot(document.getElementById('graphiql')).render(<Page />);
