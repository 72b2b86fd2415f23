//! Node, npm and a browser, when they are there. Without them their tests say so and do nothing;
//! under `CI=true` they fail.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::process::until;

const NODE_VERSION_MIN: u32 = 20;
const BROWSERS: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

/// Where the scripts are.
pub(crate) fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/clients"))
}

/// Whether scripts can run: Node is there and the packages are installed.
pub(crate) async fn is_ready() -> bool {
    static INSTALLED: OnceCell<Result<(), String>> = OnceCell::const_new();
    is_there(INSTALLED.get_or_init(install).await)
}

/// Whether the typed client can run, too.
pub(crate) async fn is_built() -> bool {
    static BUILT: OnceCell<()> = OnceCell::const_new();
    if !is_ready().await {
        return false;
    }
    let build = async || {
        Script::start("npm", &["run", "build"], folder(), &[]).succeeds().await;
    };
    BUILT.get_or_init(build).await;
    true
}

/// The browser's path.
pub(crate) fn chromium() -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = BROWSERS.iter().flat_map(|name| {
        std::env::split_paths(&path).map(move |folder| folder.join(name)).collect::<Vec<_>>()
    });
    let found = places.into_iter().find(|place| place.is_file());
    let found = found.ok_or_else(|| "there is no Chromium".to_owned());
    is_there(&found).then(|| found.unwrap().to_str().unwrap().to_owned())
}

/// Whether something is there; what is missing is told, and fails under `CI=true`.
pub(crate) fn is_there<T>(found: &Result<T, String>) -> bool {
    let Err(missing) = found else { return true };
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!is_ci, "under CI=true everything must be tested: {missing}");
    // Not by a macro, whose words are kept back when a test succeeds.
    let words = format!("== NOT TESTED with programs of others: {missing}\n");
    std::io::stderr().write_all(words.as_bytes()).unwrap();
    false
}

async fn install() -> Result<(), String> {
    let version = Command::new("node").arg("--version").output();
    let version = version.map_err(|error| format!("node does not run: {error}"))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next().unwrap_or_default();
    if major.parse::<u32>().is_ok_and(|major| major < NODE_VERSION_MIN) {
        return Err(format!("node is {version}, and {NODE_VERSION_MIN} is needed"));
    }
    let npm = Command::new("npm").arg("--version").output();
    npm.map_err(|error| format!("npm does not run: {error}"))?;
    if is_current() {
        return Ok(());
    }
    let installing = Script::start("npm", &["ci"], folder(), &[]);
    let (status, said) = installing.ends().await;
    if status.success() { Ok(()) } else { Err(format!("npm ci failed: {said}")) }
}

/// Whether what is installed is younger than what is to be installed.
fn is_current() -> bool {
    let changed = |path: &str| fs::metadata(folder().join(path)).and_then(|file| file.modified());
    match (changed("node_modules/.package-lock.json"), changed("package-lock.json")) {
        (Ok(installed), Ok(wanted)) => installed >= wanted,
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// A running script; killed when dropped.
pub(crate) struct Script {
    child: Child,
    output: TempDir,
}

impl Script {
    pub(crate) fn start(
        program: &str,
        arguments: &[&str],
        folder: &Path,
        settings: &[(&str, String)],
    ) -> Self {
        let output = TempDir::new().unwrap();
        let file = File::create(output.path().join("said")).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .env("NO_COLOR", "1")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        Self { child, output }
    }

    /// All that it said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.output.path().join("said")).unwrap()
    }

    /// Waits until it says something; it must not end before.
    pub(crate) async fn says(&mut self, words: &str) {
        until(words, async || {
            let is_over = self.child.try_wait().unwrap().is_some();
            let is_said = self.said().contains(words);
            assert!(is_said || !is_over, "it never said {words:?}: {}", self.said());
            is_said.then_some(())
        })
        .await;
    }

    /// Waits for its end; answers what it said.
    pub(crate) async fn succeeds(self) -> String {
        let (status, said) = self.ends().await;
        assert!(status.success(), "{status}: {said}");
        said
    }

    /// Waits for its failure; answers what it said.
    pub(crate) async fn fails(self) -> String {
        let (status, said) = self.ends().await;
        assert!(!status.success(), "{said}");
        said
    }

    async fn ends(mut self) -> (ExitStatus, String) {
        let status = until("the script ends", async || self.child.try_wait().unwrap()).await;
        (status, self.said())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
