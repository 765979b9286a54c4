//! A real headless Chromium, driven through chromedriver the way a person drives it: look, tap, type, wait.
//!
//! Like every child of the harness it runs in a process group of its own, which is killed when the [`Browser`] is dropped; its
//! profile is a temporary folder that is deleted then. It contacts no hosts except those that the page contacts.

mod find;
mod install;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use fantoccini::elements::{Element, ElementRef};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, test_kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::eventually::{seconds, within};
use crate::ports::Port;
use crate::process::{Launch, Process};

pub use find::{BROWSER_TESTS, CHROMEDRIVER, CHROMIUM, Programs, find};
pub use install::find_or_install;

/// One browser with one page.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    /// For Chromium's own extensions, which WebDriver does not cover.
    extensions: reqwest::Client,
    session: String,
    /// The driver returns each error once; they are collected here.
    errors: Mutex<Vec<String>>,
    // Fields are dropped in this order: processes first, then what they use.
    _driver: Driver,
    _files: TempDir,
    _port: Port,
}

/// The value of `prefers-color-scheme`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColourScheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// How long to wait for an element to exist and accept a tap, before the call fails.
pub const PATIENCE: Duration = seconds(10);
/// A first start on a cold, busy machine reads 300 MB.
const START_LIMIT: Duration = seconds(90);
/// Below this width a screen is a phone's: scrollbars overlay the page and its viewport settings apply.
const PHONE_BELOW: u32 = 600;

/// It shows only our own pages, so it needs no sandbox (which root and containers refuse). It looks for no updates.
const ARGUMENTS: [&str; 14] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--lang=en-GB",
];

impl Browser {
    /// `None` on a machine without a browser, after a line on stderr: the calling test returns.
    pub async fn start() -> Result<Option<Browser>> {
        match find()?.or_skip("browser tests") {
            Some(programs) => Browser::of(&programs).await.map(Some),
            None => Ok(None),
        }
    }

    /// With these programs.
    pub async fn of(programs: &Programs) -> Result<Browser> {
        let files = TempDir::with_prefix("freehold-browser-").context("no place for a profile")?;
        let port = Port::any().context("no port for chromedriver")?;
        let mut driver = Driver::start(programs, &port, files.path())?;
        let client = driver.session(programs, &port, files.path());
        let client = timeout(START_LIMIT, client).await;
        let client = client.unwrap_or_else(|_| Err(anyhow!("no answer within {START_LIMIT:?}")));
        let client = client.map_err(|error| driver.failed(&error))?;
        let session = client.session_id().await?.context("a session has an id")?;
        Ok(Browser {
            client,
            extensions: reqwest::Client::builder().no_proxy().build()?,
            session: format!("http://{}/session/{session}", port.address()),
            errors: Mutex::default(),
            _driver: driver,
            _files: files,
            _port: port,
        })
    }

    /// Opens a page and waits until it is loaded.
    pub async fn goto(&self, url: &str) -> Result<()> {
        let there = self.client.goto(url).await;
        there.with_context(|| format!("cannot go to {url}"))
    }

    /// Loads the page again.
    pub async fn reload(&self) -> Result<()> {
        self.client.refresh().await.context("cannot reload")
    }

    /// Taps the first element of this selector, once it exists, is enabled, and nothing covers it.
    pub async fn tap(&self, css: &str) -> Result<()> {
        self.patiently(css, || self.try_tap(BY_CSS, css)).await
    }

    /// The same by the text of a button, link, label or fold: exactly these words, else a text that contains them.
    pub async fn tap_words(&self, words: &str) -> Result<()> {
        self.patiently(words, || self.try_tap(BY_WORDS, words))
            .await
    }

    /// Types at the end of a field's text.
    pub async fn type_into(&self, css: &str, text: &str) -> Result<()> {
        self.patiently(css, || async move {
            let field = self.locate(BY_CSS, css).await?;
            Ok(field.send_keys(text).await?)
        })
        .await
    }

    /// The visible text of the first element of this selector, once it exists.
    pub async fn text(&self, css: &str) -> Result<String> {
        self.patiently(css, || async move {
            Ok(self.locate(BY_CSS, css).await?.text().await?)
        })
        .await
    }

    /// An attribute (or a property such as `value`) of the first element of this selector, once it exists.
    pub async fn attribute(&self, css: &str, name: &str) -> Result<Option<String>> {
        self.patiently(css, || async move {
            let element = self.locate(BY_CSS, css).await?;
            match element.prop(name).await? {
                Some(value) => Ok(Some(value)),
                None => Ok(element.attr(name).await?),
            }
        })
        .await
    }

    /// How many elements of this selector are visible now.
    pub async fn count(&self, css: &str) -> Result<u64> {
        let count = self.evaluate(COUNT, vec![json!(css)]).await?;
        count.as_u64().context("a count is a number")
    }

    /// Waits until these words are visible on the page.
    pub async fn wait_for(&self, words: &str, deadline: Duration) -> Result<()> {
        self.wait(deadline, words, true).await
    }

    /// Waits until they are not visible any more.
    pub async fn wait_until_gone(&self, words: &str, deadline: Duration) -> Result<()> {
        self.wait(deadline, words, false).await
    }

    /// All visible text of the page.
    pub async fn page(&self) -> Result<String> {
        let text = self.evaluate("return document.body.innerText", vec![]);
        Ok(text.await?.as_str().unwrap_or_default().to_owned())
    }

    /// Runs JavaScript in the page, with these `arguments`; `return` gives the result.
    pub async fn evaluate(&self, script: &str, arguments: Vec<Value>) -> Result<Value> {
        let answer = self.client.execute(script, arguments).await;
        answer.with_context(|| format!("the page does not run {script}"))
    }

    /// The visible part of the page, as a PNG file.
    pub async fn screenshot(&self, path: &Path) -> Result<()> {
        let png = self.client.screenshot().await.context("no screenshot")?;
        fs::write(path, png).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Sets the screen to exactly this many CSS pixels.
    pub async fn screen(&self, width: u32, height: u32) -> Result<()> {
        let phone = width < PHONE_BELOW;
        let screen =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone});
        self.chromium("Emulation.setDeviceMetricsOverride", screen)
            .await
    }

    /// What the page is told that the person prefers.
    pub async fn colour_scheme(&self, scheme: ColourScheme) -> Result<()> {
        let value = match scheme {
            ColourScheme::Light => "light",
            ColourScheme::Dark => "dark",
        };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.chromium("Emulation.setEmulatedMedia", media).await
    }

    /// Every error on the page's console since the start: exceptions, policy violations, and requests that failed or were
    /// answered with 4xx or 5xx (with their address).
    pub async fn console_errors(&self) -> Result<Vec<String>> {
        let said = self.extension("se/log", json!({"type": "browser"})).await?;
        let said = said.as_array().cloned().unwrap_or_default();
        let new = said.iter().filter(|entry| entry["level"] == "SEVERE");
        let new = new.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned());
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.extend(new);
        Ok(errors.clone())
    }

    /// For the end of a test whose page should report no error.
    pub async fn expect_no_console_errors(&self) -> Result<()> {
        let errors = self.console_errors().await?;
        if !errors.is_empty() {
            bail!("the page's console has errors:\n{}", errors.join("\n"));
        }
        Ok(())
    }

    async fn wait(&self, deadline: Duration, words: &str, there: bool) -> Result<()> {
        let waited = within(deadline, || async move {
            let page = self.page().await.map_err(|error| format!("{error:#}"))?;
            if page.contains(words) == there {
                Ok(())
            } else {
                Err(format!("the page shows:\n{page}"))
            }
        });
        let what = if there {
            "does not show"
        } else {
            "still shows"
        };
        waited
            .await
            .map_err(|reason| anyhow!("after {deadline:?} the page {what} {words:?}; {reason}"))
    }

    /// A page changes while it is used: an element that is missing, covered or disabled now may be ready in a moment.
    async fn patiently<T, F>(&self, what: &str, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let done = within(PATIENCE, || {
            let attempt = attempt();
            async move { attempt.await.map_err(|error| format!("{error:#}")) }
        });
        let reason = match done.await {
            Ok(value) => return Ok(value),
            Err(reason) => reason,
        };
        let page = self.page().await.unwrap_or_default();
        bail!("{what:?}: {reason}; the page shows:\n{page}")
    }

    /// An error of `click` precedes the click, so a retry does not tap twice.
    async fn try_tap(&self, finder: &str, what: &str) -> Result<()> {
        let element = self.locate(finder, what).await?;
        let handle = serde_json::to_value(&element)?;
        self.evaluate(TO_THE_MIDDLE, vec![handle]).await?;
        if !element.is_enabled().await? {
            bail!("it is there, but disabled");
        }
        Ok(element.click().await?)
    }

    async fn locate(&self, finder: &str, what: &str) -> Result<Element> {
        let found = self.evaluate(finder, vec![json!(what)]).await?;
        let id = found
            .as_object()
            .and_then(|handle| handle.values().next())
            .and_then(Value::as_str)
            .context("nothing like it can be seen")?;
        let id = ElementRef::from(id.to_owned());
        Ok(Element::from_element_id(self.client.clone(), id))
    }

    async fn chromium(&self, command: &str, parameters: Value) -> Result<()> {
        let call = json!({"cmd": command, "params": parameters});
        self.extension("goog/cdp/execute", call).await.map(|_| ())
    }

    async fn extension(&self, path: &str, body: Value) -> Result<Value> {
        let url = format!("{}/{path}", self.session);
        let answer = self.extensions.post(&url).json(&body).send().await?;
        let mut answer: Value = answer.json().await.context("chromedriver speaks JSON")?;
        let value = answer["value"].take();
        match value["error"].as_str() {
            Some(error) => bail!("{path}: {error}: {}", value["message"]),
            None => Ok(value),
        }
    }
}

/// The first visible element of a selector; the element with these words, the closest match first.
const BY_CSS: &str =
    "return [...document.querySelectorAll(arguments[0])].find(node => node.checkVisibility())";
const BY_WORDS: &str = r"
const read = node => node.innerText.replace(/\s+/g, ' ').trim();
const nodes = [...document.querySelectorAll('button, a, label, summary, [role=button]')]
  .filter(node => node.checkVisibility());
return nodes.find(node => read(node) === arguments[0]) ?? nodes.find(node => read(node).includes(arguments[0]));";
const COUNT: &str = "return [...document.querySelectorAll(arguments[0])].filter(node => node.checkVisibility()).length";
const TO_THE_MIDDLE: &str =
    "arguments[0].scrollIntoView({block: 'center', inline: 'nearest', behavior: 'instant'})";

/// chromedriver and its child processes.
#[derive(Debug)]
struct Driver(Process);

impl Driver {
    fn start(programs: &Programs, port: &Port, files: &Path) -> Result<Driver> {
        // A killed browser leaves files behind, so they go into our temporary folder.
        let files_of_its_own = files.display().to_string();
        let launch = Launch::of("chromedriver", &programs.chromedriver, files)
            .arg(format!("--port={port}"))
            .env("TMPDIR", &files_of_its_own)
            .env("XDG_CONFIG_HOME", &files_of_its_own);
        Ok(Driver(Process::spawn(launch)?))
    }

    async fn session(&mut self, programs: &Programs, port: &Port, files: &Path) -> Result<Client> {
        self.answers(port).await?;
        let wanted = wanted(programs, &files.join("profile"));
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wanted);
        let url = format!("http://{}", port.address());
        Ok(builder.connect(&url).await?)
    }

    async fn answers(&mut self, port: &Port) -> Result<()> {
        let mut ended = || match self.0.exit_status() {
            Some(status) => Err(format!("it ended ({status})")),
            None => Ok(()),
        };
        let up = within(START_LIMIT, || {
            let ended = ended();
            async move {
                let up = TcpStream::connect(port.address()).await;
                ended.and(up.map_err(|error| error.to_string()))
            }
        });
        up.await.map(|_| ()).map_err(|reason| anyhow!(reason))
    }

    fn failed(&mut self, error: &anyhow::Error) -> anyhow::Error {
        anyhow!(
            self.0
                .failed("chromedriver", format!("gives no browser: {error:#}"))
        )
    }
}

/// The kernel needs a moment to end the whole group, and a process that still runs writes into the profile.
impl Drop for Driver {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.pid()).ok().and_then(Pid::from_raw);
        self.0.kill();
        let end = Instant::now() + seconds(5);
        while group.is_some_and(|group| test_kill_process_group(group).is_ok())
            && Instant::now() < end
        {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn wanted(programs: &Programs, profile: &Path) -> fantoccini::wd::Capabilities {
    let mut arguments: Vec<String> = ARGUMENTS.map(str::to_owned).into();
    arguments.push(format!("--user-data-dir={}", profile.display()));
    let wanted = json!({
        "browserName": "chrome",
        "goog:loggingPrefs": {"browser": "ALL"},
        "goog:chromeOptions": {"binary": programs.chromium, "args": arguments},
    });
    match wanted {
        Value::Object(wanted) => wanted,
        _ => unreachable!("it was written as an object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream as Connection};

    const PAGE: &str = r##"<!doctype html><html lang="en"><meta charset="utf-8"><title>t</title>
<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width">
<style>p { height: 1500px } @media (prefers-color-scheme: dark) { #light { display: none } }</style>
<label>Name <input id="name" value="A"></label><b id="light">broad daylight</b><output></output><p></p>
<button id="late" disabled>Say   hello</button><button id="broken">Break it, please</button><i hidden>unseen</i>
<script>
const out = document.querySelector("output"), late = document.querySelector("#late");
setTimeout(() => { late.disabled = false; }, 300);
let taps = 0;
late.onclick = () => { taps += 1; out.textContent = `hello ${document.querySelector("#name").value}, tap ${taps}`; };
document.querySelector("#broken").onclick = () => { throw new Error("broken on purpose"); };
</script>"##;

    /// Answers every request with the page, as long as the test runs.
    fn site() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                std::thread::spawn(move || answer(&connection));
            }
        });
        url
    }

    fn answer(mut connection: &Connection) -> Option<()> {
        let request = BufReader::new(connection.try_clone().ok()?);
        request
            .lines()
            .find(|line| !matches!(line, Ok(line) if !line.is_empty()));
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length";
        write!(connection, "{head}: {}\r\n\r\n{PAGE}", PAGE.len()).ok()
    }

    /// `None` on a machine without a browser, after a line on stderr.
    async fn at_the_page() -> Option<Browser> {
        let browser = Browser::start().await.expect("named programs are good")?;
        browser.goto(&site()).await.expect("it is there");
        Some(browser)
    }

    #[tokio::test]
    async fn a_page_is_typed_into_and_tapped_as_soon_as_it_is_ready() {
        let Some(browser) = at_the_page().await else {
            return;
        };
        browser.type_into("#name", "da").await.unwrap();
        browser.tap_words("Say hello").await.unwrap();
        browser
            .wait_for("hello Ada, tap 1", seconds(5))
            .await
            .unwrap();
        browser.tap("#late").await.unwrap();
        assert_eq!(browser.text("output").await.unwrap(), "hello Ada, tap 2");
        let value = browser.attribute("#name", "value").await.unwrap();
        assert_eq!(value.as_deref(), Some("Ada"));
        assert_eq!(browser.count("button").await.unwrap(), 2);
        assert_eq!(browser.count("i").await.unwrap(), 0, "hidden is not seen");
        browser.expect_no_console_errors().await.unwrap();
    }

    #[tokio::test]
    async fn a_screen_has_the_given_size_and_colour_scheme() {
        let Some(browser) = at_the_page().await else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("page.png");
        for (width, height) in [(390, 844), (1280, 800)] {
            browser.screen(width, height).await.unwrap();
            let seen = browser.evaluate("return innerWidth", vec![]).await.unwrap();
            assert_eq!(seen, width);
            browser.screenshot(&file).await.unwrap();
            let png = fs::read(&file).unwrap();
            // The header of a PNG: signature, chunk length, "IHDR", then width and height (RFC 2083, 4.1.1).
            let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
            assert!(png.starts_with(b"\x89PNG") && png[16..24] == size);
        }
        browser.colour_scheme(ColourScheme::Dark).await.unwrap();
        browser
            .wait_until_gone("daylight", seconds(5))
            .await
            .unwrap();
        browser.colour_scheme(ColourScheme::Light).await.unwrap();
        browser.wait_for("daylight", seconds(5)).await.unwrap();
    }

    #[tokio::test]
    async fn errors_of_a_page_are_collected_and_kept() {
        let Some(browser) = at_the_page().await else {
            return;
        };
        browser.tap_words("Break it").await.unwrap();
        for _ in 0..2 {
            let errors = browser.console_errors().await.unwrap();
            assert!(
                errors.len() == 1 && errors[0].contains("broken on purpose"),
                "{errors:?}"
            );
        }
        let refusal = browser
            .expect_no_console_errors()
            .await
            .expect_err("there is one");
        assert!(refusal.to_string().contains("broken on purpose"));
    }

    #[tokio::test]
    async fn a_missing_text_is_reported_with_the_visible_one() {
        let Some(browser) = at_the_page().await else {
            return;
        };
        let waited = browser
            .wait_for("the moon", Duration::from_millis(100))
            .await;
        let reason = waited.expect_err("it never comes").to_string();
        assert!(
            reason.contains("does not show \"the moon\"") && reason.contains("daylight"),
            "{reason}"
        );
        let refusal = browser
            .try_tap(BY_WORDS, "unseen")
            .await
            .expect_err("hidden");
        assert!(refusal.to_string().contains("nothing like it"), "{refusal}");
    }

    #[tokio::test]
    async fn no_process_is_left_once_it_is_dropped() {
        let Some(browser) = at_the_page().await else {
            return;
        };
        let profile = browser._files.path().to_owned();
        assert!(running(&profile) > 1, "it runs");
        drop(browser);
        assert_eq!(running(&profile), 0);
        assert!(!profile.exists(), "its profile is gone");
    }

    /// How many processes have this path on their command line; zombies have none.
    fn running(path: &Path) -> usize {
        let path = path.to_str().expect("ours");
        let processes = fs::read_dir("/proc").expect("this is Linux").flatten();
        let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        lines
            .filter(|line| String::from_utf8_lossy(line).contains(path))
            .count()
    }
}
