// Signing in as a person does it, in a browser: a link in a mail, GitHub, Discord; two tabs that
// refresh at once; signing out. MUSUBI_LINK is the link of a mail, MUSUBI_EMAIL whose it is.
import assert from 'node:assert/strict';
import path from 'node:path';
import { chromium } from 'playwright-core';

const base = process.env.MUSUBI_URL;
const home = `${base}/graphiql`;
const browser = await chromium.launch({
  executablePath: process.env.MUSUBI_CHROMIUM,
  args: ['--no-proxy-server', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1'],
});
const context = await browser.newContext({ locale: 'en' });
const page = await context.newPage();
page.setDefaultTimeout(30_000);

async function picture(name) {
  const folder = process.env.MUSUBI_SCREENSHOTS;
  if (folder) await page.screenshot({ path: path.join(folder, `${name}.png`) });
}

/** Asks one of our paths as a page's script does, with its cookies. */
const post = (tab, to, token) =>
  tab.evaluate(
    async ([to, token]) => {
      const headers = { 'content-type': 'application/json' };
      if (token) headers.authorization = `Bearer ${token}`;
      const query = '{ viewer { user { email } } }';
      const body = to === '/graphql' ? JSON.stringify({ query }) : '{}';
      const reply = await fetch(to, { method: 'POST', headers, body });
      return { status: reply.status, body: reply.status === 204 ? null : await reply.json() };
    },
    [to, token],
  );

async function isSignedIn(tab) {
  const { status, body } = await post(tab, '/auth/refresh');
  assert.equal(status, 200);
  const { body: answer } = await post(tab, '/graphql', body.accessToken);
  assert.equal(answer.data.viewer.user.email, process.env.MUSUBI_EMAIL);
  return body;
}

async function signsOut() {
  assert.equal((await post(page, '/auth/sign-out')).status, 204);
  assert.equal((await post(page, '/auth/refresh')).status, 401);
}

// A mail scanner follows the link first, without our cookies, and presses nothing.
await (await browser.newContext()).request.get(process.env.MUSUBI_LINK);
await page.goto(process.env.MUSUBI_LINK);
await picture('sign-in');
await page.getByRole('button', { name: 'Sign in' }).click();
await page.waitForURL(home);
assert.equal(await page.evaluate(() => document.cookie), '', 'a script sees no cookie');
await isSignedIn(page);
console.log('signed in by mail');

const second = await context.newPage();
await second.goto(home);
const pairs = await Promise.all([isSignedIn(page), isSignedIn(second), isSignedIn(page)]);
assert.equal(new Set(pairs.map(pair => pair.sessionId)).size, 1);
await isSignedIn(second);
console.log('two tabs went on');
await signsOut();

await page.goto(process.env.MUSUBI_LINK);
await page.getByRole('button', { name: 'Sign in' }).click();
await page.getByText('used before').waitFor();
await picture('used');
console.log('the link was good once');

for (const provider of ['github', 'discord']) {
  await page.goto(`${base}/auth/${provider}?returnTo=${encodeURIComponent(home)}`);
  await page.waitForURL(home);
  await isSignedIn(page);
  await signsOut();
  console.log(`signed in by ${provider}`);
}
await browser.close();
