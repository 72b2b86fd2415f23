// Builds ../assets from ./src. Run `npm ci && npm run build`.
import { build } from 'esbuild';
import { copyFile, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const out = path.resolve(here, '../assets');
process.chdir(here);

const common = {
  bundle: true,
  minify: true,
  sourcemap: false,
  legalComments: 'none', // every licence is in LICENSES.txt
  target: ['es2022'],
  define: { 'process.env.NODE_ENV': '"production"' },
  metafile: true,
  logLevel: 'warning',
};

// GraphiQL's "prettify" formats the JSON editors with Prettier's Babel and
// ESTree plugins, more than half a megabyte; jsonc-parser, which it also uses, can do it.
const smallJsonFormatter = {
  name: 'small-json-formatter',
  setup({ onLoad }) {
    onLoad({ filter: /@graphiql\/react\/dist\/utility\/jsonc\.js$/ }, async ({ path: file }) => {
      const source = await readFile(file, 'utf8');
      const contents = source.replace(
        /^async function formatJSONC\(content\) \{\n.*?^\}$/ms,
        `async function formatJSONC(content) {
          parseJSONC(content); // throws on a syntax error
          const options = { insertSpaces: true, tabSize: 2, eol: '\\n' };
          return applyEdits(content, format(content, undefined, options));
        }`,
      ).replace('import { parse,', 'import { applyEdits, format, parse,');
      if (contents.includes('prettier') || !contents.includes('import { applyEdits')) {
        throw new Error(`${file} has changed: adapt small-json-formatter in build.mjs`);
      }
      return { contents, loader: 'js' };
    });
  },
};

// GraphiQL titles its icons by the names of their functions, which minifying cuts to one letter:
// tooltips and screen readers would say "c et icon". Say the names as texts.
const namedIcons = {
  name: 'named-icons',
  setup({ onLoad }) {
    onLoad({ filter: /@graphiql\/react\/dist\/icons\/index\.js$/ }, async ({ path: file }) => {
      const source = await readFile(file, 'utf8');
      const contents = source
        .replaceAll(/generateIcon\((Svg\w+)\)/g, 'generateIcon($1, "$1")')
        .replace('function generateIcon(RawComponent)', 'function generateIcon(RawComponent, name)')
        .replaceAll('RawComponent.name', 'name');
      if (!contents.includes('generateIcon(RawComponent, name)') || !contents.includes('SvgPlay, "SvgPlay"')) {
        throw new Error(`${file} has changed: adapt named-icons in build.mjs`);
      }
      return { contents, loader: 'js' };
    });
  },
};

// The explorer puts the cursor into the arguments that it finds, and so opens scrolled away from
// its beginning.
const calmExplorer = {
  name: 'calm-explorer',
  setup({ onLoad }) {
    onLoad({ filter: /graphiql-explorer\/dist\/Explorer\.js$/ }, async ({ path: file }) => {
      const source = await readFile(file, 'utf8');
      const contents = source.replaceAll('input.focus();', 'input.focus({ preventScroll: true });');
      if (contents === source) throw new Error(`${file} has changed: adapt calm-explorer in build.mjs`);
      return { contents, loader: 'js' };
    });
  },
};

const banner = { js: '/*! Third-party licences: LICENSES.txt */', css: '/*! Third-party licences: LICENSES.txt */' };

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });

const page = await build({
  ...common,
  entryPoints: { graphiql: 'src/main.jsx' },
  outdir: out,
  format: 'esm',
  jsx: 'automatic',
  loader: { '.ttf': 'file' },
  assetNames: '[name]',
  alias: { 'prettier/parser-graphql': 'prettier/plugins/graphql' }, // the same module, once
  plugins: [smallJsonFormatter, namedIcons, calmExplorer],
  banner,
});
const workers = await build({
  ...common,
  entryPoints: {
    'editor.worker': 'monaco-editor/esm/vs/editor/editor.worker.js',
    'json.worker': 'monaco-editor/esm/vs/language/json/json.worker.js',
    'graphql.worker': 'monaco-graphql/esm/graphql.worker.js',
  },
  outdir: out,
  format: 'iife',
  banner: { js: banner.js },
});
await copyFile('src/index.html', path.join(out, 'index.html'));
await writeFile(path.join(out, 'LICENSES.txt'), await licences([page.metafile, workers.metafile]));

for (const name of (await readdir(out)).sort()) {
  console.log(String((await stat(path.join(out, name))).size).padStart(9), name);
}
if (process.env.ANALYZE) await writeFile(process.env.ANALYZE, JSON.stringify(page.metafile));

/** The licence texts of every package that has bytes in an output file. */
async function licences(metafiles) {
  const dirs = new Set();
  for (const { outputs } of metafiles) {
    for (const { inputs } of Object.values(outputs)) {
      for (const [file, { bytesInOutput }] of Object.entries(inputs)) {
        const match = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(file);
        if (match && bytesInOutput > 0) dirs.add(match[1]);
      }
    }
  }
  const packages = new Map();
  for (const dir of dirs) {
    const { name, version, license, author, contributors } = JSON.parse(
      await readFile(path.join(dir, 'package.json'), 'utf8'),
    );
    const files = (await readdir(dir)).filter(f => /^(licen[cs]e|notice|thirdpartynotices)/i.test(f)).sort();
    const texts = [];
    for (const file of files) texts.push((await readFile(path.join(dir, file), 'utf8')).replaceAll('\r\n', '\n').trim());
    const people = [author, ...(contributors ?? [])].filter(Boolean).map(p => (typeof p === 'string' ? p : p.name));
    packages.set(`${name} ${version}`, { license: license ?? 'see text', texts, people });
  }
  const names = [...packages.keys()].sort();
  const rule = '='.repeat(78);
  const byText = new Map(); // packages with the same text share it
  for (const name of names) {
    const { license, texts, people } = packages.get(name);
    const text = texts.length
      ? texts.join('\n\n')
      : `Licence: ${license}. The package carries no licence file.${people.length ? ` Authors: ${people.join(', ')}.` : ''}`;
    byText.set(text, [...(byText.get(text) ?? []), `${name} (${license})`]);
  }
  return [
    'Third-party software in the GraphiQL page (graphiql.js, graphiql.css, *.worker.js,',
    'codicon.ttf). Written by page/build.mjs; do not edit.',
    '',
    ...names.map(n => `  ${n} - ${packages.get(n).license}`),
    '  codicon.ttf (from monaco-editor) - icon font (c) Microsoft, CC-BY-4.0,',
    '    https://github.com/microsoft/vscode-codicons',
    '',
    ...[...byText].flatMap(([text, users]) => [rule, ...users, rule, '', text, '']),
  ].join('\n');
}
