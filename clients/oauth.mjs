// Discord and GitHub for tests, on one port: `oauth2-mock-server` for each, and in front of them what
// these two do differently. Says {"base": "http://127.0.0.1:…"} when it listens.
//
//   /discord/authorize  /discord/token  /discord/user
//   /github/authorize   /github/token   /github/user   /github/emails
//
// Both know the client `musubi-client` with the secret `musubi-secret`, insist on PKCE with S256, and
// give a code for one use by the same redirect_uri. Whoever comes to `authorize` has said yes already.
//
// POST /control takes JSON; what is left out stays as it was:
//   user    {id, name, email, verified}: who says yes next. A null email is none.
//   emails  all that GitHub tells, as [{email, primary, verified}]; null is the user's one.
//   denies  true: the person says no.
//   fault   null, or {at: "token" | "user" | "emails", kind}. Kinds: "500", "403", "hang", "huge",
//           "garbage", "redirect".
// GET /control tells how often each path was asked.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { OAuth2Issuer, OAuth2Service } from 'oauth2-mock-server';

const CLIENT = { id: 'musubi-client', secret: 'musubi-secret' };
const state = {
  user: { id: '583231', name: '椿 花子', email: 'hanako@tsubaki.test', verified: true },
  emails: null,
  denies: false,
  fault: null,
};
const asked = {};

const answer = (res, status, body) => {
  res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
};

const faults = {
  500: res => answer(res, 500, { message: 'Internal Server Error' }),
  403: res => answer(res, 403, { message: `Forbidden to ${state.user.email}` }),
  hang: () => {},
  // Without an end, as long as somebody listens.
  huge: res => {
    res.writeHead(200, { 'content-type': 'application/json' });
    const more = () => {
      while (!res.destroyed && res.write(' '.repeat(16_384)));
    };
    res.on('drain', more);
    more();
  },
  garbage: res => answer(res, 200, [`not what ${state.user.email} wants`]),
  redirect: res => res.writeHead(302, { location: '/github/user' }).end(),
};

// One provider: the mock, and what it knows of its codes and tokens.
const provider = async (name, profile) => {
  const issuer = new OAuth2Issuer();
  await issuer.keys.generate('RS256');
  const paths = ['authorize', 'token', 'userinfo'].map(path => [path, `/${name}/${path}`]);
  const endpoints = { ...Object.fromEntries(paths), userinfo: `/${name}/user` };
  const service = new OAuth2Service(issuer, endpoints);
  const codes = new Map();
  const tokens = new Map();

  service.on('beforeAuthorizeRedirect', ({ url }, { query }) => {
    if (state.denies) {
      url.searchParams.delete('code');
      url.searchParams.set('error', 'access_denied');
      return;
    }
    const { redirect_uri, scope } = query;
    codes.set(url.searchParams.get('code'), { redirect_uri, scope, user: state.user });
  });
  // Two tokens of one second would be the same.
  service.on('beforeTokenSigning', token => Object.assign(token.payload, { jti: randomUUID() }));
  service.on('beforeResponse', (response, { body }) => {
    const code = codes.get(body.code);
    codes.delete(body.code);
    const isClient = body.client_id === CLIENT.id && body.client_secret === CLIENT.secret;
    const refuse = error => Object.assign(response, { statusCode: 400, body: { error } });
    if (!isClient) return refuse('invalid_client');
    if (body.grant_type !== 'authorization_code' || !body.code_verifier) {
      return refuse('invalid_request');
    }
    if (!code || code.redirect_uri !== body.redirect_uri) return refuse('invalid_grant');
    tokens.set(response.body.access_token, code.user);
    response.body = {
      access_token: response.body.access_token,
      token_type: 'bearer',
      // GitHub separates by commas.
      scope: name === 'github' ? code.scope.replaceAll(' ', ',') : code.scope,
    };
  });
  const owner = req => tokens.get(req.headers.authorization?.replace(/^Bearer /, ''));
  service.on('beforeUserinfo', (response, req) => {
    const user = owner(req);
    Object.assign(response, user ? { body: profile(user) } : unauthorized);
  });
  return { issuer, handle: service.requestHandler, owner };
};

const unauthorized = { statusCode: 401, body: { message: 'Bad credentials' } };

const providers = {
  discord: await provider('discord', ({ id, name, email, verified }) => ({
    id, username: 'user', global_name: name, email, verified,
  })),
  // GitHub's ids are numbers; the address in the profile is what the person shows in public.
  github: await provider('github', ({ id, name }) => ({
    id: Number(id), login: 'user', name, email: 'public@example.test',
  })),
};

const emails = (res, user) => {
  const own = user?.email ? [{ email: user.email, primary: true, verified: user.verified }] : [];
  return user ? answer(res, 200, state.emails ?? own) : answer(res, 401, unauthorized.body);
};

// GitHub refuses codes with a success.
const alwaysSucceeds = res => {
  Object.defineProperty(res, 'statusCode', { get: () => 200, set: () => {} });
};

const control = async (req, res) => {
  if (req.method === 'POST') {
    const pieces = await req.toArray();
    Object.assign(state, JSON.parse(Buffer.concat(pieces).toString()));
  }
  answer(res, 200, asked);
};

const server = createServer((req, res) => {
  const url = new URL(req.url, 'http://localhost');
  asked[url.pathname] = (asked[url.pathname] ?? 0) + 1;
  if (url.pathname === '/control') return control(req, res);
  const [, name, path] = url.pathname.split('/');
  const there = providers[name];
  if (!there) return answer(res, 404, {});
  if (state.fault?.at === path) return faults[state.fault.kind](res);
  if (path === 'emails') return emails(res, there.owner(req));
  if (path === 'authorize' && url.searchParams.get('code_challenge_method') !== 'S256') {
    return answer(res, 400, { error: 'invalid_request' });
  }
  if (name === 'github' && path === 'token') alwaysSucceeds(res);
  return there.handle(req, res);
});

server.listen(0, '127.0.0.1', () => {
  const base = `http://127.0.0.1:${server.address().port}`;
  for (const { issuer } of Object.values(providers)) issuer.url = base;
  process.stdout.write(`${JSON.stringify({ base })}\n`);
});
