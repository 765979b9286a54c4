//! The driver's page in every state that it can receive, in a real browser. The program is simulated here, so that it can be slow,
//! silent and contradictory on demand; `page` tests it with the real program.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use freehold_tests::{Browser, eventually, paths, seconds};
use serde_json::{Value, json};

/// The states sent to the page, and its requests.
#[derive(Default)]
struct Played {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    revision: u64,
    state: Value,
    silent: bool,
    posts: Vec<(String, Value)>,
    /// The Idempotency-Key of each.
    keys: Vec<Option<String>>,
    /// Accepts a POST, and loses the answer.
    loses_answers: bool,
    refusal: Option<Value>,
}

/// Long enough for a second tap before the first is answered.
const ANSWERS_AFTER: Duration = Duration::from_millis(300);
const MINUTE: i64 = 60_000;

impl Played {
    /// The program and a browser at its page, or nothing on a machine without a browser.
    async fn showing(state: Value) -> Option<(Arc<Played>, Browser)> {
        let browser = Browser::start().await.expect("named programs are good")?;
        let played = Arc::new(Played::default());
        played.tell(state);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let serving = Arc::clone(&played);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let played = Arc::clone(&serving);
                thread::spawn(move || played.serve(connection));
            }
        });
        browser.screen(390, 844).await.expect("a phone");
        browser.goto(&url).await.expect("it is there");
        Some((played, browser))
    }

    fn tell(&self, state: Value) {
        self.change(|now| now.state = state);
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        let mut now = self.now.lock().expect("no test panics with it");
        change(&mut now);
        now.revision += 1;
        self.changed.notify_all();
    }

    fn keys(&self) -> Vec<Option<String>> {
        self.now
            .lock()
            .expect("no test panics with it")
            .keys
            .clone()
    }

    fn posts(&self) -> Vec<(String, Value)> {
        self.now
            .lock()
            .expect("no test panics with it")
            .posts
            .clone()
    }

    /// Once the page has posted so often; and not once more in the time that a second answer would take.
    async fn posts_settle_at(&self, count: usize) -> Vec<(String, Value)> {
        eventually("the page posts", seconds(60), async || {
            let posts = self.posts();
            (posts.len() >= count)
                .then_some(())
                .ok_or(format!("{posts:?}"))
        })
        .await;
        tokio::time::sleep(ANSWERS_AFTER * 2).await; // nothing to wait for: it must not happen
        let posts = self.posts();
        assert_eq!(posts.len(), count, "{posts:?}");
        posts
    }

    /// One request; a silent program hangs up.
    fn serve(&self, connection: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(connection.try_clone().ok()?);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (body, idempotency_key) = read(&mut reader)?;
        let (status, kind, answer) = match method.as_str() {
            "POST" => self.post(&path, &body, idempotency_key)?,
            _ if path.starts_with("/api/state") => self.state(&path)?,
            _ => page(&path),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            answer.len()
        );
        let mut connection = connection;
        connection.write_all(head.as_bytes()).ok()?;
        connection.write_all(&answer).ok()
    }

    fn post(
        &self,
        path: &str,
        body: &[u8],
        key: Option<String>,
    ) -> Option<(&'static str, &'static str, Vec<u8>)> {
        let refusal = {
            let mut now = self.now.lock().expect("no test panics with it");
            if now.silent {
                return None;
            }
            let said = serde_json::from_slice(body).unwrap_or(Value::Null);
            now.posts.push((path.to_owned(), said));
            now.keys.push(key);
            if now.loses_answers {
                return None;
            }
            now.refusal.clone()
        };
        thread::sleep(ANSWERS_AFTER);
        Some(match refusal {
            Some(problem) => ("409 Conflict", "application/problem+json", bytes(&problem)),
            None => (
                "202 Accepted",
                "application/json",
                bytes(&json!({"intent_id": "new"})),
            ),
        })
    }

    fn state(&self, path: &str) -> Option<(&'static str, &'static str, Vec<u8>)> {
        let known = path.split_once("after=");
        let known = known.and_then(|(_, rest)| rest.split('&').next()?.parse().ok());
        let now = self.now.lock().expect("no test panics with it");
        let (now, _) = self
            .changed
            .wait_timeout_while(now, seconds(8), |now| Some(now.revision) == known)
            .expect("no test panics with it");
        if now.silent {
            return None;
        }
        let mut state = now.state.clone();
        state["revision"] = json!(now.revision);
        Some(("200 OK", "application/json", bytes(&state)))
    }
}

/// A request's body and its Idempotency-Key.
fn read(reader: &mut impl BufRead) -> Option<(Vec<u8>, Option<String>)> {
    let (mut length, mut key) = (0, None);
    for line in reader.by_ref().lines() {
        let line = line.ok()?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if let Some(value) = line.strip_prefix("idempotency-key:") {
            key = Some(value.trim().to_owned());
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((body, key))
}

fn page(path: &str) -> (&'static str, &'static str, Vec<u8>) {
    let (file, kind) = match path {
        "/" => ("index.html", "text/html; charset=utf-8"),
        "/app.js" => ("app.js", "text/javascript"),
        "/app.css" => ("app.css", "text/css"),
        _ => ("icon.svg", "image/svg+xml"),
    };
    let file = paths::workspace().join("driver-app/page").join(file);
    ("200 OK", kind, fs::read(file).expect("a file of the page"))
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn ago(ms: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(now.as_millis()).expect("before the year 292 million") - ms
}

/// Online, enrolled, nothing unsent; each test changes what it is about.
fn state(deliveries: &[Value]) -> Value {
    json!({
        "driver": {"driver_id": "d", "name": "Mia"},
        "sync": {"online": true, "last_contact_ms": ago(0), "oldest_unsent_ms": null, "pending": 0, "in_flight": 0,
            "conflicts": 0, "refused": 0, "waiting_because": null, "as_of": 1, "now_ms": ago(0), "clock_off_by_ms": 0,
            "enrolment": "valid"},
        "deliveries": deliveries, "conflicts": [], "refused": [],
    })
}

fn delivery(id: &str, status: &str, can: &[&str]) -> Value {
    json!({
        "order_id": id, "status": status, "version": 2, "customer": "Ada", "amount_minor": 1250, "currency": "EUR",
        "note": null, "cancel_reason": null, "problems": 0, "created_at_ms": ago(90 * MINUTE),
        "changed_at_ms": ago(80 * MINUTE), "pending": [], "can": can,
    })
}

fn with(mut value: Value, path: &str, new: Value) -> Value {
    *value.pointer_mut(path).expect("it is there") = new;
    value
}

async fn page_is_no_wider_than(browser: &Browser, width: u32) {
    browser.screen(width, 700).await.expect("a screen");
    let page = browser
        .evaluate("return document.documentElement.scrollWidth", vec![])
        .await
        .expect("it runs");
    assert!(
        page.as_u64().expect("a number") <= width.into(),
        "{page} at {width}"
    );
}

#[tokio::test]
async fn names_are_text_in_any_script_and_amounts_have_their_currencys_digits() {
    let markup = with(
        delivery("1", "assigned", &["pick_up"]),
        "/customer",
        json!("<b>Robert</b>"),
    );
    let dinar = with(
        delivery("2", "assigned", &[]),
        "/customer",
        json!("محمد بن سلمان"),
    );
    let dinar = with(
        with(dinar, "/currency", json!("KWD")),
        "/amount_minor",
        json!(12345),
    );
    let yen = with(delivery("3", "assigned", &[]), "/currency", json!("JPY"));
    let yen = with(
        with(yen, "/amount_minor", json!(4800)),
        "/customer",
        json!("W".repeat(150)),
    );
    let Some((_, browser)) = Played::showing(state(&[markup, dinar, yen])).await else {
        return;
    };
    browser
        .wait_for("<b>Robert</b>", seconds(60))
        .await
        .unwrap();
    let amount = async |order: &str| {
        let css = format!("[data-order='{order}'] [data-field=amount]");
        browser.text(&css).await.unwrap()
    };
    assert!(amount("1").await.contains("12.50"));
    assert!(amount("2").await.contains("12.345"));
    assert!(amount("3").await.ends_with("4,800"));
    assert_eq!(browser.count("[data-order='1'] button").await.unwrap(), 1);
    assert_eq!(browser.count("[data-order='2'] button").await.unwrap(), 0);
    let direction =
        "return getComputedStyle(document.querySelector(\"[data-order='2'] h3\")).direction";
    assert_eq!(browser.evaluate(direction, vec![]).await.unwrap(), "rtl");
    for width in [320, 390, 1280] {
        page_is_no_wider_than(&browser, width).await;
    }
    browser.expect_no_console_errors().await.unwrap();
}

#[tokio::test]
async fn typed_text_survives_updates_and_is_sent_once() {
    let mine = delivery("1", "picked_up", &["deliver", "report_problem"]);
    let Some((played, browser)) = Played::showing(state(std::slice::from_ref(&mine))).await else {
        return;
    };
    let (note, confirm) = ("[data-field=note][name=note]", "[data-action=confirm]");
    let typed = async || browser.attribute(note, "value").await.unwrap().unwrap();
    eventually("its button is shown", seconds(60), async || {
        let shown = browser.count("[data-action=deliver]").await;
        matches!(shown, Ok(1))
            .then_some(())
            .ok_or(format!("{shown:?}"))
    })
    .await;
    let twice = "for (const tap of ['deliver', 'confirm']) document.querySelector(`[data-action=${tap}]`).click()";
    browser.evaluate(twice, vec![]).await.unwrap();
    browser.type_into(note, "with the neigh").await.unwrap();

    played.tell(state(&[delivery("1", "cancelled", &[])]));
    browser
        .wait_for("This delivery has changed: cancelled", seconds(60))
        .await
        .unwrap();
    assert_eq!(
        browser.count(&format!("{confirm}:disabled")).await.unwrap(),
        1
    );
    played.tell(state(&[]));
    browser
        .wait_for("no longer yours", seconds(60))
        .await
        .unwrap();
    assert_eq!(typed().await, "with the neigh");
    played.tell(state(&[mine]));
    browser
        .wait_until_gone("no longer yours", seconds(60))
        .await
        .unwrap();
    let focus = browser.evaluate("return document.activeElement.name", vec![]);
    assert_eq!(focus.await.unwrap(), "note", "it kept the focus");
    browser.reload().await.unwrap();
    assert_eq!(typed().await, "with the neigh");

    browser.type_into(note, "bour").await.unwrap();
    let thrice =
        "for (let tap = 0; tap < 3; tap += 1) document.querySelector(arguments[0]).click()";
    browser
        .evaluate(thrice, vec![json!(confirm)])
        .await
        .unwrap();
    let posts = played.posts_settle_at(1).await;
    let note = json!({"note": "with the neighbour"});
    assert_eq!(posts, [("/api/deliveries/1/deliver".to_owned(), note)]);
    browser.expect_no_console_errors().await.unwrap();
}

#[tokio::test]
async fn an_action_whose_answer_was_lost_keeps_its_key_at_the_second_tap_and_after_a_reload() {
    let mine = delivery("1", "assigned", &["pick_up", "report_problem"]);
    let Some((played, browser)) = Played::showing(state(&[mine])).await else {
        return;
    };
    let confirm = "[data-action=confirm]";
    let report = async || {
        browser.tap("[data-action=report_problem]").await.unwrap();
        browser.tap_words("Damaged").await.unwrap();
        browser.tap(confirm).await.unwrap();
    };
    played.change(|now| now.loses_answers = true);
    report().await;
    for so_far in [1, 2] {
        played.posts_settle_at(so_far).await;
        browser
            .wait_for("did not answer", seconds(60))
            .await
            .unwrap();
        if so_far == 2 {
            browser.reload().await.unwrap();
            played.change(|now| now.loses_answers = false);
        }
        browser.tap(confirm).await.unwrap();
    }
    let posts = played.posts_settle_at(3).await;
    assert!(posts.iter().all(|post| *post == posts[0]), "{posts:?}");
    let keys = played.keys();
    assert!(
        keys[0].as_ref().is_some_and(|key| key.len() == 36),
        "{keys:?}"
    );
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");

    browser
        .wait_until_gone("What is the problem", seconds(60))
        .await
        .unwrap();
    report().await; // the same once more is another deed
    played.posts_settle_at(4).await;
    browser
        .wait_until_gone("What is the problem", seconds(60))
        .await
        .unwrap();
    browser.tap("[data-action=pick_up]").await.unwrap();
    played.posts_settle_at(5).await;
    let keys = played.keys();
    let others: HashSet<_> = keys[2..].iter().flatten().collect();
    assert_eq!(others.len(), 3, "{keys:?}");
}

#[tokio::test]
async fn a_form_reopened_after_a_lost_answer_sends_the_same_key() {
    let mine = delivery("1", "assigned", &["pick_up", "report_problem"]);
    let Some((played, browser)) = Played::showing(state(&[mine])).await else {
        return;
    };
    let report = async || {
        browser.tap("[data-action=report_problem]").await.unwrap();
        browser.tap_words("Damaged").await.unwrap();
        browser.tap("[data-action=confirm]").await.unwrap();
    };
    played.change(|now| now.loses_answers = true);
    report().await;
    played.posts_settle_at(1).await;
    let lost = browser.wait_for("did not answer", seconds(60));
    lost.await.unwrap();
    played.change(|now| now.loses_answers = false);
    browser.tap("[data-action=back]").await.unwrap();
    report().await;
    let posts = played.posts_settle_at(2).await;
    assert_eq!(posts[0], posts[1]);
    let keys = played.keys();
    assert!(keys[0].is_some() && keys[0] == keys[1], "{keys:?}");
}

#[tokio::test]
async fn offline_is_shown_with_the_unsent_actions() {
    let intent = json!([{"intent_id": "i", "kind": "deliver", "device_time_ms": ago(MINUTE), "state": "unsent"}]);
    let done = with(delivery("1", "delivered", &[]), "/pending", intent);
    let offline = with(state(&[done]), "/sync/online", json!(false));
    let offline = with(offline, "/sync/last_contact_ms", json!(ago(12 * MINUTE)));
    let offline = with(offline, "/sync/pending", json!(1));
    let offline = with(offline, "/sync/waiting_because", json!("no network"));
    let Some((played, browser)) = Played::showing(offline).await else {
        return;
    };
    for words in ["Offline", "12 min ago", "1 change waits", "No network"] {
        browser.wait_for(words, seconds(60)).await.unwrap();
    }
    let card = "[data-list=unsent] [data-order='1']";
    let card = browser.text(card).await.unwrap();
    assert!(card.contains("Will be sent when you are online"), "{card}");
    browser.tap("[data-action=sync]").await.unwrap();
    let posts = played.posts_settle_at(1).await;
    assert_eq!(posts, [("/api/sync".to_owned(), json!({}))]);
    played.tell(state(&[delivery("1", "delivered", &[])]));
    browser
        .wait_for("Everything is sent", seconds(60))
        .await
        .unwrap();
    assert_eq!(
        browser.count("[data-list=unsent] article").await.unwrap(),
        0
    );
}

#[tokio::test]
async fn a_conflict_shows_both_versions_and_a_refusal_its_reason_and_each_can_be_answered() {
    let theirs = with(
        delivery("1", "cancelled", &[]),
        "/cancel_reason",
        json!("customer request"),
    );
    let conflict = json!({"intent_id": "c", "order_id": "1", "kind": "deliver", "note": "left with neighbour",
        "problem": null, "device_time_ms": ago(MINUTE), "code": "cancelled", "detail": "", "current": theirs,
        "decision": null, "deciding": false});
    let refused = json!({"intent_id": "r", "order_id": "1", "kind": "report_problem", "note": null,
        "problem": "nobody_home", "device_time_ms": ago(MINUTE), "code": "not_yours", "detail": "it is another driver's",
        "gave_up": false});
    let both = with(state(&[theirs]), "/conflicts", json!([conflict]));
    let both = with(both, "/refused", json!([refused]));
    let Some((played, browser)) = Played::showing(both.clone()).await else {
        return;
    };
    for words in [
        "You delivered it",
        "left with neighbour",
        "The office cancelled it",
        "customer request",
    ] {
        browser.wait_for(words, seconds(60)).await.unwrap();
    }
    browser.wait_for("no one home", seconds(60)).await.unwrap();
    browser
        .wait_for("It is another driver's", seconds(60))
        .await
        .unwrap();
    assert_eq!(
        browser.count("[data-action=retry]").await.unwrap(),
        0,
        "it did not give up"
    );

    browser.tap_words("Insist").await.unwrap();
    played.posts_settle_at(1).await;
    let deciding = with(both, "/conflicts/0/deciding", json!(true));
    played.tell(with(deciding, "/conflicts/0/decision", json!("insisted")));
    browser.wait_for("You insisted", seconds(60)).await.unwrap();
    browser.tap_words("OK, I have read it").await.unwrap();
    let posts = played.posts_settle_at(2).await;
    let insisted = json!({"decision": "insisted"});
    assert_eq!(posts[0], ("/api/conflicts/c/decide".to_owned(), insisted));
    assert_eq!(posts[1], ("/api/refused/r/dismiss".to_owned(), json!({})));
}

#[tokio::test]
async fn a_silent_program_is_reported_calmly_and_no_input_is_lost() {
    let mine = delivery("1", "assigned", &["pick_up"]);
    let Some((played, browser)) = Played::showing(state(&[mine])).await else {
        return;
    };
    browser
        .wait_for("Everything is sent", seconds(60))
        .await
        .unwrap();
    played.change(|now| now.silent = true);
    browser
        .wait_for("The app is not answering", seconds(20))
        .await
        .unwrap();
    assert_eq!(browser.text("[data-order='1'] h3").await.unwrap(), "Ada");
    assert_eq!(
        browser
            .count("[data-action=pick_up]:disabled")
            .await
            .unwrap(),
        1
    );
    played.change(|now| now.silent = false);
    browser
        .wait_for("Everything is sent", seconds(20))
        .await
        .unwrap();
    assert_eq!(
        browser
            .count("[data-action=pick_up]:enabled")
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn a_code_is_accepted_in_any_spelling_and_a_wrong_one_is_explained() {
    let unassigned = with(state(&[]), "/driver", Value::Null);
    let Some((played, browser)) =
        Played::showing(with(unassigned, "/sync/enrolment", json!("none"))).await
    else {
        return;
    };
    played.change(|now| now.refusal = Some(json!({"code": "invalid_code", "detail": "no"})));
    browser.type_into("#code", "abcde").await.unwrap();
    let shown = browser.attribute("#code", "value").await.unwrap();
    assert_eq!(shown.as_deref(), Some("ABCD-E"), "tidied while typing");
    let pasted = "document.querySelector('#code').value = 'abcd efgh–jk mn'";
    browser.evaluate(pasted, vec![]).await.unwrap();
    browser.tap("[data-action=enrol]").await.unwrap();
    browser
        .wait_for("This code does not work", seconds(60))
        .await
        .unwrap();
    let posts = played.posts_settle_at(1).await;
    let code = json!({"code": "ABCD-EFGH-JKMN"});
    assert_eq!(posts, [("/api/enrol".to_owned(), code)]);
    let refused = |revoked: bool| {
        let mut state = with(state(&[]), "/sync/enrolment", json!("expired_or_revoked"));
        state["sync"]["revoked"] = json!(revoked);
        state
    };
    for (revoked, words) in [
        (false, "keeps asking by itself"),
        (true, "not enrolled any more"),
    ] {
        played.tell(refused(revoked));
        browser.wait_for(words, seconds(60)).await.unwrap();
    }
    assert_eq!(
        browser
            .attribute("#code", "value")
            .await
            .unwrap()
            .as_deref(),
        Some("ABCD-EFGH-JKMN")
    );
}
