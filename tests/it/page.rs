//! The driver's page as a driver uses it: with the real program, orders-service behind an unreliable network, and a real browser.
//!
//! Afterwards `target/page` has pictures of it, on a phone and on a desktop, in light and dark.

use std::fs;
use std::path::PathBuf;

use freehold_tests::browser::ColourScheme;
use freehold_tests::http::Reply;
use freehold_tests::{Browser, Driver, OrderApi, Part, Port, World, eventually, paths, seconds};
use reqwest::Method;
use serde_json::{Value, json};

/// The driver, their phone, and the office.
struct Day {
    driver: Driver,
    phone: Browser,
    office: OrderApi,
    pictures: PathBuf,
}

const SCREENS: [(&str, u32, u32); 2] = [("phone", 390, 844), ("desk", 1280, 800)];
const SCHEMES: [(&str, ColourScheme); 2] =
    [("light", ColourScheme::Light), ("dark", ColourScheme::Dark)];
/// A busy machine, a device that waits before it retries, and a page that polls every eight seconds.
const SOON: std::time::Duration = seconds(60);

#[tokio::test]
async fn a_driver_works_offline_through_reloads_and_kills_decides_a_conflict_and_leaves() {
    let Some(phone) = Browser::start().await.expect("named programs are good") else {
        return;
    };
    let world = World::start().await;
    let mut day = Day::begin(&world, phone).await;
    day.enrols().await;
    let [first, second] = day.is_given_orders(&world).await;
    day.delivers_without_a_network(&first).await;
    day.keeps_it_through_a_reload_and_a_kill(&first).await;
    day.comes_back(&first).await;
    day.learns_of_a_conflict_and_accepts(&second).await;
    day.is_told_to_go().await;
    println!("pictures of the page: {}", day.pictures.display());
}

impl Day {
    async fn begin(world: &World, phone: Browser) -> Day {
        let port = Port::any().expect("a free port");
        let orders = &world.orders_service;
        let mut driver = Driver::new(world.home(), port, "mia", orders).expect("a place");
        driver
            .app
            .start()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let pictures = paths::workspace().join("target/page");
        fs::create_dir_all(&pictures).expect("a folder");
        phone.screen(390, 844).await.expect("a phone");
        phone.goto(&driver.app.url()).await.expect("it is there");
        Day {
            driver,
            phone,
            office: world.orders(),
            pictures,
        }
    }

    /// With the code from the office, typed as people type.
    async fn enrols(&mut self) {
        self.sees("Enrol this device").await;
        self.picture("enrol").await;
        let person = self
            .office
            .enrol_driver("Mia Santos")
            .await
            .expect_status(201);
        person.id().clone_into(&mut self.driver.id);
        let code = self.office.code(&self.driver.id).await.expect_status(201);
        let code = code.body["code"].as_str().expect("text").to_lowercase();
        self.phone
            .type_into("#code", &code.replace('-', ""))
            .await
            .expect("a field");
        self.taps("[data-action=enrol]").await;
        self.sees("No deliveries yet").await;
        self.sees("Mia Santos").await;
    }

    /// They appear by themselves.
    async fn is_given_orders(&self, world: &World) -> [String; 2] {
        let people = [
            ("Ada Lovelace", 4820),
            ("Grace Hopper", 1250),
            ("Katherine Johnson", 3400),
            ("Mary Jackson", 795),
        ];
        let mut orders = Vec::new();
        for (name, amount_minor) in people {
            let address = format!("{}@example.org", name.to_lowercase().replace(' ', "."));
            let user = world.users().register(name, &address).await;
            let user = user.expect_status(201);
            let order = placed(world, &user, amount_minor).await;
            let assigned = self.office.assign(order.id(), None, &self.driver.id).await;
            assigned.expect_status(200);
            self.sees(name).await;
            orders.push(order.id().to_owned());
        }
        self.sees("Everything is sent").await;
        self.taps(&format!("{} [data-action=pick_up]", card(&orders[1])))
            .await;
        self.office_has(&orders[1], "picked_up").await;
        self.sees("Everything is sent").await;
        self.picture("deliveries").await;
        self.complains_about_nothing().await;
        [orders.remove(0), orders.remove(0)]
    }

    async fn delivers_without_a_network(&self, order: &str) {
        self.driver.switch.off();
        self.sees("Offline").await;
        self.sees("The office does not answer").await;
        let card = card(order);
        self.taps(&format!("{card} [data-action=pick_up]")).await;
        self.taps(&format!("{card} [data-action=deliver]")).await;
        let note = format!("{card} textarea[name=note]");
        self.phone
            .type_into(&note, "Left with the neighbour at no. 12")
            .await
            .expect("a field");
        self.picture("delivering").await;
        self.taps(&format!("{card} [data-action=confirm]")).await;
        self.shows_what_is_unsent(order).await;
        self.picture("offline").await;
        let known = self.office.order(order).await.expect_status(200);
        assert_eq!(
            known.body["status"], "assigned",
            "the office cannot know yet"
        );
    }

    async fn shows_what_is_unsent(&self, order: &str) {
        self.sees("Offline").await;
        self.sees("2 changes wait").await;
        self.sees("Left with the neighbour at no. 12").await;
        let unsent = format!("[data-list=unsent] {}[data-status=delivered]", card(order));
        assert_eq!(self.phone.count(&unsent).await.expect("a number"), 1);
    }

    async fn keeps_it_through_a_reload_and_a_kill(&mut self, order: &str) {
        self.phone.reload().await.expect("it reloads");
        self.shows_what_is_unsent(order).await;
        self.complains_about_nothing().await;
        self.driver.app.kill();
        self.sees("The app is not answering").await;
        self.picture("silent").await;
        let app = &mut self.driver.app;
        app.start().await.unwrap_or_else(|error| panic!("{error}"));
        self.phone
            .wait_until_gone("The app is not answering", SOON)
            .await
            .expect("it answers");
        self.shows_what_is_unsent(order).await;
    }

    async fn comes_back(&self, order: &str) {
        self.hears_of_a_network().await;
        self.sees("Everything is sent").await;
        self.phone
            .wait_until_gone("Offline", SOON)
            .await
            .expect("the badge goes");
        self.office_has(order, "delivered").await;
        let known = self.office.order(order).await.expect_status(200);
        assert_eq!(known.body["note"], "Left with the neighbour at no. 12");
        let unsent = self.phone.count("[data-list=unsent] article").await;
        assert_eq!(unsent.expect("a number"), 0);
    }

    /// Delivered offline, and cancelled meanwhile.
    async fn learns_of_a_conflict_and_accepts(&self, order: &str) {
        self.driver.switch.off();
        self.sees("Offline").await;
        self.taps(&format!("{} [data-action=deliver]", card(order)))
            .await;
        self.phone
            .tap_words("At the door")
            .await
            .expect("a note to pick");
        self.taps(&format!("{} [data-action=confirm]", card(order)))
            .await;
        self.sees("1 change waits").await;
        let cancelled = self.office.cancel(order, None, "customer_request").await;
        cancelled.expect_status(200);
        self.hears_of_a_network().await;
        for words in [
            "You delivered it",
            "Left at the door",
            "The office cancelled it",
            "customer request",
        ] {
            self.sees(words).await;
        }
        self.sees("Everything is sent").await;
        self.picture("conflict").await;

        self.taps("[data-list=conflicts] [data-action=accept]")
            .await;
        self.phone
            .wait_until_gone("Two versions", SOON)
            .await
            .expect("it is decided");
        eventually("the office knows the decision", SOON, async || {
            let intents = self
                .office
                .intents("verdict=conflict")
                .await
                .expect("a list");
            let decisions: Vec<&Value> = intents.values().map(|it| &it["decision"]).collect();
            (decisions == ["accepted"])
                .then_some(())
                .ok_or(format!("{decisions:?}"))
        })
        .await;
        self.office_has(order, "cancelled").await;
        let shown = self.driver.api().until_quiet(1).await;
        assert_eq!(shown.conflicts().count(), 0, "{shown}");
    }

    async fn is_told_to_go(&self) {
        let revoked = self.office.revoke_driver(&self.driver.id).await;
        revoked.expect_status(200);
        self.sees("This device is not enrolled any more").await;
        eventually("the deliveries leave the device", SOON, async || {
            let count = self.phone.count("article").await.expect("a number");
            (count == 0)
                .then_some(())
                .ok_or(format!("{count} are shown"))
        })
        .await;
        self.picture("revoked").await;
        self.complains_only_about_the_kill().await;
    }

    /// The page's "Try now" disappears by itself when the device was quicker, so the test does not tap it.
    async fn hears_of_a_network(&self) {
        self.driver.switch.on();
        self.driver.api().sync().await.expect_status(202);
    }

    async fn office_has(&self, order: &str, status: &str) {
        eventually("the office has it", SOON, async || {
            let order = self.office.order(order).await.expect_status(200).body;
            (order["status"] == status).then_some(()).ok_or(order)
        })
        .await;
    }

    async fn sees(&self, words: &str) {
        self.phone
            .wait_for(words, SOON)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
    }

    async fn taps(&self, css: &str) {
        self.phone
            .tap(css)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
    }

    async fn complains_about_nothing(&self) {
        self.phone
            .expect_no_console_errors()
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// A request to a killed program has no answer, and the browser logs that.
    async fn complains_only_about_the_kill(&self) {
        let errors = self.phone.console_errors().await.expect("a list");
        let unanswered =
            |error: &&String| error.contains("/api/state") && error.contains("net::ERR_");
        let others: Vec<_> = errors.iter().filter(|error| !unanswered(error)).collect();
        assert!(others.is_empty(), "{others:?}");
    }

    /// Of each screen by day and by night; the phone by day is what goes on.
    async fn picture(&self, name: &str) {
        let opacity = "return getComputedStyle(document.querySelector('#toast')).opacity";
        eventually("the word in passing has passed", SOON, async || {
            let opacity = self.phone.evaluate(opacity, vec![]).await.expect("it runs");
            (opacity == "0").then_some(()).ok_or(opacity)
        })
        .await;
        for (screen, width, height) in SCREENS {
            self.phone.screen(width, height).await.expect("a screen");
            let wide = "scrollTo(0, 0); return document.documentElement.scrollWidth";
            let wide = self.phone.evaluate(wide, vec![]).await.expect("it runs");
            assert!(
                wide.as_u64() <= Some(width.into()),
                "{wide} of {width} in {name}"
            );
            for (word, scheme) in SCHEMES {
                self.phone.colour_scheme(scheme).await.expect("a scheme");
                let file = self.pictures.join(format!("{name}-{screen}-{word}.png"));
                self.phone.screenshot(&file).await.expect("a picture");
            }
        }
        self.phone.screen(390, 844).await.expect("a phone");
        self.phone
            .colour_scheme(ColourScheme::Light)
            .await
            .expect("by day");
    }
}

/// Once orders-service knows the customer's name: a device is told of an order when the order changes, not when a name
/// becomes known.
async fn placed(world: &World, user: &Reply, amount_minor: i64) -> Reply {
    let known = user
        .header("freehold-position")
        .expect("a write has a place");
    let request = world.orders().request(Method::POST, "/orders");
    let request = request.header("Freehold-Wait-For", known);
    let order = json!({"user_id": user.id(), "amount_minor": amount_minor, "currency": "EUR"});
    Reply::of(request.json(&order)).await.expect_status(201)
}

fn card(order: &str) -> String {
    format!("article[data-order='{order}']")
}
