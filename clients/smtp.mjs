// A mail server for tests. Says one line of JSON for everything that happens:
//   {"port": 2525}                                it listens
//   {"connection": "a1b2"}                        somebody connects
//   {"auth": {user, password, isEncrypted}}       somebody signs in; everybody may
//   {"mail": {from, to, subject, text, html, messageId, headers, isEncrypted}}   one came in whole
// Settings: SMTP_PORT (any free one), SMTP_TLS=1 (from the first byte), SMTP_STARTTLS=1 (offered),
// SMTP_KEY and SMTP_CERT (PEM files; without them a certificate that nobody trusts),
// SMTP_NEEDS_AUTH=1.
// Addresses that begin with `refuse-550@` are refused with that code, `refuse-mail-554@` after the
// mail; `hang@` is never answered.
import { readFileSync } from 'node:fs';
import { SMTPServer } from 'smtp-server';
import { simpleParser } from 'mailparser';

const { SMTP_PORT = '0', SMTP_TLS, SMTP_STARTTLS, SMTP_KEY, SMTP_CERT, SMTP_NEEDS_AUTH } = process.env;
const certificate = SMTP_KEY && { key: readFileSync(SMTP_KEY), cert: readFileSync(SMTP_CERT) };
const say = line => process.stdout.write(`${JSON.stringify(line)}\n`);
// As real servers do, it repeats what it was told.
const refusal = (code, words) => Object.assign(new Error(words), { responseCode: Number(code) });
const addresses = list => (list?.value ?? []).map(one => one.address);

const server = new SMTPServer({
  secure: SMTP_TLS === '1',
  disabledCommands: SMTP_STARTTLS === '1' ? [] : ['STARTTLS'],
  ...certificate,
  authOptional: SMTP_NEEDS_AUTH !== '1',
  allowInsecureAuth: true,
  disableReverseLookup: true,
  onConnect(session, done) {
    say({ connection: session.id });
    done();
  },
  onAuth({ username, password }, session, done) {
    say({ auth: { user: username, password, isEncrypted: session.secure } });
    done(null, { user: username });
  },
  onRcptTo({ address }, session, done) {
    if (address.startsWith('hang@')) return;
    const code = /^refuse-(\d{3})@/.exec(address)?.[1];
    done(code && refusal(code, `<${address}> is not wanted here`));
  },
  onData(stream, session, done) {
    const parsed = simpleParser(stream, { skipTextToHtml: true, skipHtmlToText: true });
    parsed.then(mail => {
      const { mailFrom, rcptTo } = session.envelope;
      const code = /^refuse-mail-(\d{3})@/.exec(rcptTo[0].address)?.[1];
      if (code) return done(refusal(code, `no mail like "${mail.subject}"`));
      say({
        mail: {
          from: mail.from?.text,
          to: addresses(mail.to),
          envelope: { from: mailFrom.address, to: rcptTo.map(one => one.address) },
          subject: mail.subject,
          text: mail.text,
          html: mail.html || null,
          messageId: mail.messageId,
          headers: mail.headerLines.map(header => header.line),
          isEncrypted: session.secure,
        },
      });
      done();
    }, done);
  },
});

// A client that leaves in the middle is no fault of the server.
server.on('error', () => {});
server.listen(Number(SMTP_PORT), '127.0.0.1', () => say({ port: server.server.address().port }));
