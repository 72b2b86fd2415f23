//! The sandbox: each mail becomes a file that only we may read, and mail programs can open.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use futures_util::future::{self, BoxFuture, FutureExt};
use tracing::info;

use super::{InvalidMailSettings, Letter, MailFailure, Mailer, host_of};

/// Between the parts of a mail that has HTML, too.
const BOUNDARY: &str = "=_musubi";

/// Sends nothing; writes `001.eml`, `002.eml` … into a folder, as plain UTF-8.
#[derive(Debug)]
pub struct MailFolder {
    folder: PathBuf,
    from: String,
    host: String,
}

impl MailFolder {
    /// The folder is made with the first mail.
    pub fn new(folder: PathBuf, from: &str, public_url: &str) -> Result<Self, InvalidMailSettings> {
        if from.chars().any(char::is_control) {
            return Err(InvalidMailSettings::From);
        }
        Ok(Self { folder, from: from.to_owned(), host: host_of(public_url)? })
    }

    fn write(&self, letter: &Letter) -> Result<(), MailFailure> {
        letter.mail.check()?;
        let text = self.text(letter);
        let path = create(&self.folder).and_then(|(path, mut file)| {
            file.write_all(text.as_bytes())?;
            Ok(path)
        });
        let path =
            path.map_err(|error| MailFailure::Unavailable(format!("the mail folder: {error}")))?;
        info!(path = %path.display(), "Wrote a mail to {}", path.display());
        Ok(())
    }

    fn text(&self, letter: &Letter) -> String {
        let Letter { id, written_at, mail } = letter;
        let (from, host) = (&self.from, &self.host);
        let head = format!(
            "Date: {date}\nFrom: {from}\nTo: {to}\nSubject: {subject}\nMessage-ID: <{id}@{host}>\n\
             MIME-Version: 1.0\n",
            date = written_at.to_rfc2822(),
            to = mail.to,
            subject = mail.subject,
        );
        let part = |kind: &str, body: &str| {
            format!(
                "Content-Type: text/{kind}; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n\
                 {body}\n"
            )
        };
        let plain = part("plain", &mail.text);
        let Some(html) = &mail.html else { return format!("{head}{plain}") };
        let html = part("html", html);
        format!(
            "{head}Content-Type: multipart/alternative; boundary=\"{BOUNDARY}\"\n\n\
             --{BOUNDARY}\n{plain}\n--{BOUNDARY}\n{html}\n--{BOUNDARY}--\n"
        )
    }
}

impl Mailer for MailFolder {
    fn send<'a>(&'a self, letter: &'a Letter) -> BoxFuture<'a, Result<(), MailFailure>> {
        // A small file on a developer's machine.
        future::ready(self.write(letter)).boxed()
    }
}

/// Makes the file after the last one.
fn create(folder: &Path) -> io::Result<(PathBuf, File)> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut last = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        last = last.max(stem.parse().unwrap_or(0_u32));
    }
    loop {
        last += 1;
        let path = folder.join(format!("{last:03}.eml"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((path, file)),
            // Another process was quicker.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}
