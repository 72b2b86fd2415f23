//! A certificate authority of a test's own, by the system's `openssl`. Its keys live in a folder
//! that goes with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::npm;

/// What a certificate of an authority says, and one of a server; `@` stands for the server's names.
const EXTENSIONS: &str = "[req]\ndistinguished_name = name\n[name]\n\
    [authority]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\n\
    subjectKeyIdentifier = hash\n\
    [server]\nbasicConstraints = critical, CA:FALSE\nextendedKeyUsage = serverAuth\n\
    subjectAltName = @\n";

/// An authority; gone when dropped.
pub(crate) struct Authority(TempDir);

impl Authority {
    /// None when there is no `openssl`, which is told.
    pub(crate) fn make() -> Option<Self> {
        let version = Command::new("openssl").arg("version").output();
        let version = version.map_err(|error| format!("openssl does not run: {error}"));
        if !npm::is_there(&version) {
            return None;
        }
        let own = Self(TempDir::new().unwrap());
        own.new_key("ca.key");
        own.write_extensions("DNS:none.test");
        own.openssl(
            "req -x509 -new -key ca.key -sha256 -days 2 -subj /CN=Test -config said \
             -extensions authority -out ca.pem",
        );
        Some(own)
    }

    /// Its own certificate, in PEM.
    pub(crate) fn pem(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    /// The file of its own certificate.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder().join("ca.pem")
    }

    /// The files of a key and of a certificate for these names, such as `DNS:localhost,IP:0.0.0.0`.
    pub(crate) fn certify(&self, names: &str) -> (PathBuf, PathBuf) {
        self.new_key("server.key");
        self.write_extensions(names);
        self.openssl("req -new -key server.key -subj /CN=server -config said -out server.csr");
        self.openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -sha256 -days 2 \
             -extfile said -extensions server -out server.pem",
        );
        (self.folder().join("server.key"), self.folder().join("server.pem"))
    }

    fn new_key(&self, name: &str) {
        self.openssl(&format!(
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}"
        ));
    }

    fn write_extensions(&self, names: &str) {
        fs::write(self.folder().join("said"), EXTENSIONS.replace('@', names)).unwrap();
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(self.folder());
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{arguments}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }
}
