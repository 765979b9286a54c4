//! The descriptions in an OpenAPI document are Markdown. The page gets each of them as HTML, made here once.

use std::collections::BTreeSet;

use pulldown_cmark::html::push_html;
use pulldown_cmark::{CodeBlockKind, Event, LinkType, Options, Parser, Tag, TagEnd};
use serde_json::Value;

/// For each text a `section`: the Markdown itself, by which the page finds it, and the HTML made from it.
pub(super) fn rendered<'a>(openapi: &'a Value, titles: impl Iterator<Item = &'a str>) -> String {
    let mut texts: BTreeSet<&str> = titles.collect();
    collect(openapi, &mut texts);
    let sections = texts.into_iter().map(section);
    sections.collect()
}

fn collect<'a>(value: &'a Value, texts: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            let named = ["summary", "description"].map(|name| fields.get(name));
            texts.extend(named.into_iter().flatten().filter_map(Value::as_str));
            fields.values().for_each(|field| collect(field, texts));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        _ => {}
    }
}

fn section(markdown: &str) -> String {
    let source = [
        Event::Start(Tag::CodeBlock(CodeBlockKind::Indented)),
        Event::Text(markdown.into()),
        Event::End(TagEnd::CodeBlock),
    ];
    let parser = Parser::new_ext(markdown, Options::ENABLE_TABLES);
    let events: Vec<Event<'_>> = parser.filter_map(harmless).collect();
    let mut html = "<section>".to_owned();
    push_html(&mut html, source.into_iter());
    push_html(&mut html, without_lone_paragraph(&events).iter().cloned());
    html + "</section>\n"
}

/// HTML in the Markdown is shown as the text that it is, an image as its description. The page's policy allows no style of its
/// own, so columns are not aligned.
fn harmless(event: Event<'_>) -> Option<Event<'_>> {
    match event {
        Event::Html(html) | Event::InlineHtml(html) => Some(Event::Text(html)),
        Event::Start(Tag::Image { .. }) | Event::End(TagEnd::Image) => None,
        Event::Start(Tag::Table(columns)) => {
            let none = pulldown_cmark::Alignment::None;
            Some(Event::Start(Tag::Table(vec![none; columns.len()])))
        }
        Event::Start(Tag::Link {
            link_type,
            dest_url,
            title,
            id,
        }) => Some(Event::Start(Tag::Link {
            dest_url: match link_type == LinkType::Email || leads_to_a_page(&dest_url) {
                true => dest_url,
                false => "#".into(),
            },
            link_type,
            title,
            id,
        })),
        other => Some(other),
    }
}

/// Only a scheme has a colon; `javascript:` is one.
fn leads_to_a_page(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://") || !url.contains(':')
}

/// A text of one paragraph stands in a table's cell or behind a word.
fn without_lone_paragraph<'e, 'a>(events: &'e [Event<'a>]) -> &'e [Event<'a>] {
    let starts = |event: &&Event<'_>| matches!(event, Event::Start(Tag::Paragraph));
    match events {
        [
            Event::Start(Tag::Paragraph),
            inner @ ..,
            Event::End(TagEnd::Paragraph),
        ] if !inner.iter().any(|event| starts(&event)) => inner,
        all => all,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The HTML alone.
    fn html(markdown: &str) -> String {
        let section = section(markdown);
        let (_, html) = section.split_once("</code></pre>\n").unwrap();
        html.trim_end().strip_suffix("</section>").unwrap().into()
    }

    #[test]
    fn markdown_becomes_html_and_a_lone_paragraph_stays_inline() {
        assert_eq!(
            html("Send `If-Match: *`, *now*, see [why](https://example.org/a?b&c)"),
            "Send <code>If-Match: *</code>, <em>now</em>, see <a href=\"https://example.org/a?b&amp;c\">why</a>"
        );
        assert_eq!(html("one\n\ntwo"), "<p>one</p>\n<p>two</p>\n");
        assert_eq!(
            html("such as\n\n- a\n- b"),
            "<p>such as</p>\n<ul>\n<li>a</li>\n<li>b</li>\n</ul>\n"
        );
        let table = html("| Code | When |\n| ---: | :-- |\n| `a` | b |");
        assert!(
            table.contains("<td><code>a</code></td><td>b</td>"),
            "{table}"
        );
        assert!(!table.contains("style"), "{table}");
    }

    #[test]
    fn hostile_text_becomes_text_and_no_link_runs_a_script() {
        for hostile in [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "</template></section></pre><b onclick=alert(1)>",
            "<!-- --><style>*{}</style>",
            "<div>\n\n*a*\n\n</div>",
            "`</code><script>`",
            "```\"><script>\n</pre><script>\n```",
            "![alt <b>](https://example.org/pixel.png \"\\\"><script>\")",
            "[a](https://example.org/\"><script> \"\\\"><script>\")",
            "[a](<\"onclick=\"alert(1)>)",
        ] {
            // Every `<` that is left begins an element of ours, and no attribute ends early.
            for tag in section(hostile).split('<').skip(1) {
                let ours = [
                    "section>",
                    "/section>",
                    "pre>",
                    "/pre>",
                    "code>",
                    "/code>",
                    "p>",
                    "/p>",
                    "em>",
                    "/em>",
                    "code class=\"language-",
                    "a href=\"",
                    "/a>",
                ];
                assert!(
                    ours.iter().any(|our| tag.starts_with(our)),
                    "{hostile}: {tag}"
                );
                let outside: Vec<&str> = tag
                    .split('>')
                    .next()
                    .unwrap()
                    .split('"')
                    .step_by(2)
                    .collect();
                assert!(!outside.concat().contains("onclick"), "{hostile}: {tag}");
            }
        }
        for script in [
            "[a](javascript:alert(1))",
            "[a](JaVaScRiPt:alert(1))",
            "[a](&#106;avascript:alert(1))",
            "[a](java&#10;script:alert(1))",
            "[a](data:text/html,x)",
            "[a]\n\n[a]: vbscript:x",
            "<javascript:alert(1)>",
        ] {
            let html = html(script);
            assert!(html.contains("<a href=\"#\">"), "{script}: {html}");
        }
    }

    #[test]
    fn the_texts_of_the_whole_document_are_there_once_each() {
        let document = json!({
            "info": {"description": "whole"},
            "paths": {"/a": {"get": {"summary": "one", "parameters": [{"description": "two"}, {"description": "one"}]}}},
        });
        let texts = rendered(&document, ["title"].into_iter());
        for text in ["whole", "one", "two", "title"] {
            assert_eq!(
                texts.matches(&format!("<code>{text}</code>")).count(),
                1,
                "{text}"
            );
        }
    }
}
