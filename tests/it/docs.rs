//! `/docs` in a real browser: the texts are Markdown, and a person sees no sign of it.

use freehold_tests::{Browser, World, seconds};

#[tokio::test]
async fn the_api_page_shows_code_and_no_backticks_and_breaks_no_rule_of_its_policy() {
    let Some(browser) = Browser::start().await.expect("named programs are good") else {
        return;
    };
    let world = World::start().await;
    for service in [&world.user_service, &world.orders_service] {
        let page = format!("{}/docs", service.url());
        browser.goto(&page).await.expect("it is there");
        browser
            .wait_for("Problems", seconds(30))
            .await
            .expect("it is built");
        let open = "for (const one of document.querySelectorAll('details')) one.open = true;
            for (const one of document.querySelectorAll('pre')) one.remove();
            return document.getElementById('main').textContent;";
        let text = browser.evaluate(open, vec![]).await.expect("a text");
        let text = text.as_str().expect("a text");
        assert!(text.contains("Send Authorization: Bearer TOKEN;"), "{text}");
        let ticks = text.split('`').nth(1);
        assert!(ticks.is_none(), "a raw backtick before {ticks:?}");
        assert!(browser.count(".text code").await.expect("a count") > 10);
        browser.expect_no_console_errors().await.expect("none");
    }
}
