// GraphiQL as a person uses it, in a browser that reaches nobody but the server itself.
// MUSUBI_SCREENSHOTS names a folder for pictures.
import assert from 'node:assert/strict';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { origin } from './endpoint.mjs';

const HEADERS = 'section[aria-label="Headers"]';
const complaints = [];

const { hostname } = new URL(origin());
const browser = await chromium.launch({
  executablePath: process.env.MUSUBI_CHROMIUM,
  args: ['--no-proxy-server', `--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE ${hostname}`],
});
const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
page.setDefaultTimeout(30_000);
page.on('console', message => {
  if (!['log', 'info', 'debug'].includes(message.type())) complaints.push(message.text());
});
page.on('pageerror', error => complaints.push(String(error)));
page.on('requestfailed', request => {
  const { errorText } = request.failure();
  // A reload cuts off what is still under way.
  if (errorText !== 'net::ERR_ABORTED') complaints.push(`${errorText}: ${request.url()}`);
});
page.on('response', response => {
  if (response.status() >= 400) complaints.push(`${response.status()}: ${response.url()}`);
});
page.on('request', request => mustBeOurs(request.url()));
page.on('websocket', websocket => mustBeOurs(websocket.url()));

function mustBeOurs(url) {
  const { protocol, host } = new URL(url);
  const isOurs = host === new URL(origin()).host || protocol === 'data:';
  if (!isOurs) complaints.push(`foreign: ${url}`);
}

async function picture(name) {
  const folder = process.env.MUSUBI_SCREENSHOTS;
  if (folder) await page.screenshot({ path: path.join(folder, `${name}.png`) });
}

/** Waits until an editor shows a text. */
const shows = (editor, text) =>
  page.locator(editor).getByText(text).first().waitFor({ state: 'visible' });

async function opens() {
  await page.goto(new URL('/graphiql', origin()).href);
  await page.getByRole('button', { name: 'Execute query' }).waitFor();
  for (const tab of ['Dashboard', 'Balance', 'Execute']) {
    await page.getByRole('button', { name: tab, exact: true }).waitFor();
  }
}

async function runsAQuery() {
  const answered = page.waitForResponse(
    response => response.request().postData()?.includes('query Dashboard') ?? false,
  );
  await page.getByRole('button', { name: 'Execute query' }).click();
  const { data, errors } = await (await answered).json();
  assert.equal(errors, undefined);
  assert.equal(data.viewer.role, 'ADMIN');
  await shows('.graphiql-response', '"creditAccount"');
  await picture('query');
}

async function runsASubscription() {
  await page.getByRole('button', { name: 'Balance', exact: true }).click();
  await page.getByRole('button', { name: 'Execute query' }).click();
  await shows('.graphiql-response', '"creditBalance"');
  await shows('.graphiql-response', '"version"');
  await page.getByRole('button', { name: 'Stop query' }).waitFor();
  await picture('subscription');
  await page.getByRole('button', { name: 'Stop query' }).click();
  await page.getByRole('button', { name: 'Execute query' }).waitFor();
}

async function explores() {
  await page.getByRole('button', { name: 'Show GraphiQL Explorer' }).click();
  const explorer = page.locator('.graphiql-plugin');
  await explorer.getByText('creditAccount', { exact: true }).waitFor();
  const heading = await explorer.getByText('Explorer', { exact: true }).boundingBox();
  await picture('explorer');
  assert.ok(heading.y >= 0, 'it opens at its beginning');
  await page.getByRole('button', { name: 'Hide GraphiQL Explorer' }).click();
  await page.getByRole('button', { name: 'Show Documentation Explorer' }).click();
  await explorer.getByText('Root Types').waitFor();
  await picture('documentation');
  await page.getByRole('button', { name: 'Hide Documentation Explorer' }).click();
}

async function remembersHeaders() {
  await page.getByRole('button', { name: 'Headers' }).click();
  await page.locator(HEADERS).click();
  await page.keyboard.press('Control+Home');
  await page.keyboard.press('ArrowRight');
  await page.keyboard.insertText('"x-remember": "me",');
  await shows(HEADERS, 'x-remember');
  // It is stored after a pause.
  await page.waitForFunction(() => localStorage['graphiql:tabState']?.includes('x-remember'));
  await page.reload();
  await page.getByRole('button', { name: 'Headers' }).click();
  await shows(HEADERS, 'x-remember');
  await shows(HEADERS, 'authorization');
  await picture('headers');
}

/** Icons say what they are, also to those who do not see them. */
async function namesItsIcons() {
  const titles = await page.locator('svg > title').allTextContents();
  assert.ok(titles.length > 5);
  assert.deepEqual(titles.filter(title => !/^[a-z]{3,}( [a-z]+)* icon$/.test(title)), []);
}

try {
  await opens();
  await namesItsIcons();
  await runsAQuery();
  await explores();
  await runsASubscription();
  await remembersHeaders();
  assert.deepEqual(complaints, []);
  console.log('ok');
} catch (error) {
  await picture('failed');
  if (complaints.length) console.error(complaints);
  throw error;
} finally {
  await browser.close();
}
