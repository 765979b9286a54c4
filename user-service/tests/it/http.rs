//! The API: what it stores, what it emits, what it refuses.

use axum::body::Body;
use event_schema::UserId;
use serde_json::json;
use service_kit::testing::{Answer, GUEST, OPERATOR, SERVICE, assert_documented, request};

use crate::world::World;

#[tokio::test]
async fn a_user_is_registered_read_changed_and_deleted() {
    let world = World::start().await;
    let registered = world.register("Ada", "ada@example.org").await;
    let path = registered.header("location").to_owned();
    let id = registered.json()["id"].clone();
    assert_eq!(
        (registered.status, registered.header("etag")),
        (201, "\"1\"")
    );
    assert_eq!(
        registered.json(),
        json!({"id": id, "name": "Ada", "email": "ada@example.org", "version": 1})
    );
    assert_eq!(world.api.get(&path).await.json(), registered.json());

    let both = json!({"name": "Ada King", "email": "king@example.org"});
    let changed = world.api.json("PATCH", &path, both).await;
    assert_eq!((changed.status, changed.header("etag")), (200, "\"3\""));
    assert_eq!(
        changed.json(),
        json!({"id": id, "name": "Ada King", "email": "king@example.org", "version": 3})
    );
    assert_eq!(world.api.get(&path).await.json(), changed.json());

    assert_eq!(world.api.json("DELETE", &path, "").await.status, 204);
    assert_eq!(world.api.get(&path).await.problem(), "404 user_not_found");
    assert_eq!(world.rows().await, 0);
    assert_eq!(
        world.events().await,
        [
            ("users.created.v1", 1),
            ("users.renamed.v1", 2),
            ("users.email_changed.v1", 3),
            ("users.deleted.v1", 4)
        ]
        .map(|(event_type, version)| (event_type.to_owned(), version))
    );
}

#[tokio::test]
async fn a_change_that_changes_nothing_emits_nothing() {
    let world = World::start().await;
    let path = world.registered("Ada", "ada@example.org").await;
    let same = world
        .api
        .json(
            "PATCH",
            &path,
            json!({"name": "Ada", "email": "ada@example.org"}),
        )
        .await;
    assert_eq!((same.status, same.header("etag")), (200, "\"1\""));
    assert_eq!(world.events().await.len(), 1);
}

#[tokio::test]
async fn a_change_applies_only_to_the_version_that_the_client_read() {
    let world = World::start().await;
    let path = world.registered("Ada", "ada@example.org").await;
    let patch = |tag: &'static str| {
        let request = request("PATCH", &path)
            .header("if-match", tag)
            .header("content-type", "application/json");
        world
            .api
            .send(request.body(Body::from(r#"{"name": "Ada King"}"#)))
    };
    let stale = patch("\"2\"").await;
    assert_eq!(
        (stale.problem().as_str(), stale.header("etag")),
        ("412 version_mismatch", "\"1\"")
    );
    assert_eq!(patch("1").await.problem(), "400 invalid_if_match");
    assert_eq!(world.events().await.len(), 1);
    assert_eq!(patch("\"1\"").await.status, 200);

    let delete = |tag: &'static str| {
        world.api.send(
            request("DELETE", &path)
                .header("if-match", tag)
                .body(Body::empty()),
        )
    };
    assert_eq!(delete("\"1\"").await.problem(), "412 version_mismatch");
    assert_eq!(delete("*").await.status, 204);
}

#[tokio::test]
async fn an_etag_is_recognised_behind_a_proxy_in_a_list_and_over_several_lines() {
    let world = World::start().await;
    let path = world.registered("Ada", "ada@example.org").await;
    for (version, tags) in [
        (1, ["W/\"1\""].as_slice()),
        (2, &["\"7\", W/\"2\""]),
        (3, &["\"7\"", "\"3\""]),
        (4, &["\"4-gzip\""]),
        (5, &["W/\"5;gzip\""]),
        (6, &["*"]),
    ] {
        let stale = conditional(&world, "PATCH", &path, "if-match", &["W/\"9\", \"8\""]).await;
        assert_eq!(stale.problem(), "412 version_mismatch", "{version}");
        let changed = conditional(&world, "PATCH", &path, "if-match", tags).await;
        let expected = format!("\"{}\"", version + 1);
        assert_eq!(
            (changed.status, changed.header("etag")),
            (200, &*expected),
            "{tags:?}"
        );
    }
    for bad in ["1", "\"1", "\"1\" \"2\"", "*, \"1\"", ""] {
        let refused = conditional(&world, "DELETE", &path, "if-match", &[bad]).await;
        assert_eq!(refused.problem(), "400 invalid_if_match", "{bad}");
        let refused = conditional(&world, "GET", &path, "if-none-match", &[bad]).await;
        assert_eq!(refused.problem(), "400 invalid_if_none_match", "{bad}");
    }
}

#[tokio::test]
async fn a_client_that_has_the_version_gets_304() {
    let world = World::start().await;
    let path = world.registered("Ada", "ada@example.org").await;
    let whole = world.api.get(&path).await;
    for method in ["GET", "HEAD"] {
        for same in ["\"1\"", "W/\"1\"", "\"9\", \"1-gzip\"", "*"] {
            let answer = conditional(&world, method, &path, "if-none-match", &[same]).await;
            let seen = (answer.status, answer.header("etag"), answer.text.as_str());
            assert_eq!(seen, (304, "\"1\"", ""), "{method} {same}");
            assert_eq!(
                (answer.header("content-type"), answer.header("vary")),
                ("", "authorization")
            );
            let length = answer.header("content-length");
            assert!(
                ["", whole.header("content-length")].contains(&length),
                "{answer:?}"
            );
        }
        for other in ["\"2\"", "W/\"01\"", "\"x\""] {
            let answer = conditional(&world, method, &path, "if-none-match", &[other]).await;
            assert_eq!(answer.status, 200, "{method} {other}");
        }
        let stale = conditional(&world, method, &path, "if-match", &["\"2\""]).await;
        assert_eq!((stale.status, stale.header("etag")), (412, "\"1\""));
        let fresh = conditional(&world, method, &path, "if-match", &["\"1\""]).await;
        assert_eq!(fresh.status, 200);
    }
    let listed = conditional(&world, "GET", "/users", "if-none-match", &["*"]).await;
    assert_eq!(listed.status, 200, "a list has no tag");
    let unknown = format!("/users/{}", UserId::new());
    let missing = conditional(&world, "GET", &unknown, "if-none-match", &["*"]).await;
    assert_eq!(missing.problem(), "404 user_not_found");
}

#[tokio::test]
async fn if_none_match_refuses_a_change_at_that_version() {
    let world = World::start().await;
    let path = world.registered("Ada", "ada@example.org").await;
    for method in ["PATCH", "DELETE"] {
        for met in ["*", "\"1\"", "\"7\", W/\"1\""] {
            let refused = conditional(&world, method, &path, "if-none-match", &[met]).await;
            assert_eq!(refused.problem(), "412 version_matches", "{method} {met}");
            assert_eq!(refused.header("etag"), "\"1\"");
        }
    }
    assert_eq!(world.events().await.len(), 1);
    let other = conditional(&world, "PATCH", &path, "if-none-match", &["\"2\""]).await;
    assert_eq!(other.status, 200);
}

/// A request with these lines of one header; a change gives a name that is new each time.
async fn conditional(world: &World, method: &str, path: &str, name: &str, tags: &[&str]) -> Answer {
    let mut request = request(method, path).header("content-type", "application/json");
    for tag in tags {
        request = request.header(name, *tag);
    }
    let body = match method {
        "PATCH" => json!({"name": format!("Ada {}", UserId::new())}).to_string(),
        _ => String::new(),
    };
    world.api.send(request.body(Body::from(body))).await
}

#[tokio::test]
async fn other_services_see_no_address() {
    let world = World::start().await;
    let path = world.registered("Ada", "ada@example.org").await;
    let service = world.api.sending(SERVICE);
    let read = service.get(&path).await;
    let id = path.strip_prefix("/users/").unwrap();
    assert_eq!(read.json(), json!({"id": id, "name": "Ada", "version": 1}));
    let listed = service.get("/users").await;
    assert_eq!(listed.json()["items"], json!([read.json()]));
    let named = service.get(&format!("/users?ids={id}")).await;
    for answer in [&read, &listed, &named] {
        assert!(!answer.text.contains("ada@"), "{answer:?}");
    }

    let shown = world.api.get(&path).await;
    assert_eq!(shown.json()["email"], "ada@example.org");
    assert_eq!(
        [read.header("vary"), shown.header("vary")],
        ["authorization"; 2]
    );
    let tag = read.header("etag");
    let other_view = conditional(&world, "GET", &path, "if-none-match", &[tag]).await;
    assert_eq!(
        other_view.status, 200,
        "what a service was shown is not what an operator is shown"
    );
    let same_view = request("GET", &path).header("if-none-match", tag);
    let same_view = service.send(same_view.body(Body::empty())).await;
    assert_eq!((same_view.status, same_view.header("etag")), (304, tag));

    let document = world.api.get("/openapi.json").await.json();
    let user = &document["components"]["schemas"]["User"];
    let always = user["required"].as_array().unwrap();
    assert!(!always.contains(&json!("email")), "{user}");
    let shown = &document["paths"]["/users/{id}"]["get"];
    assert!(shown["responses"]["304"].is_object(), "{shown}");
}

#[tokio::test]
async fn an_address_belongs_to_one_user_whatever_its_case() {
    let world = World::start().await;
    let ada = world.registered("Ada", "ada@example.org").await;
    let eve = world.registered("Eve", "eve@example.org").await;
    let before = world.state().await;
    let again = world.register("Another", "ADA@example.ORG").await;
    assert_eq!(again.problem(), "409 email_taken");
    assert_eq!(again.json()["errors"][0]["field"], "email");
    let moved = world
        .api
        .json(
            "PATCH",
            &eve,
            json!({"name": "E", "email": "Ada@example.org"}),
        )
        .await;
    assert_eq!(moved.problem(), "409 email_taken");
    assert_eq!(world.state().await, before);
    assert_eq!(world.api.get(&eve).await.json()["name"], "Eve");

    let own_case = world
        .api
        .json("PATCH", &ada, json!({"email": "Ada@example.org"}))
        .await;
    assert_eq!(own_case.status, 200);
    world.api.json("DELETE", &ada, "").await;
    assert_eq!(
        world.register("Another", "ada@example.org").await.status,
        201
    );
}

#[tokio::test]
async fn a_mailbox_belongs_to_one_user_whatever_its_spelling() {
    let world = World::start().await;
    let eve = world.registered("Eve", "eve@example.org").await;
    let (ada, bea) = ("ada@example.org", "bea@münchen.example");
    for (n, (first, second)) in [
        (bea, "bea@MÜNCHEN.example"),
        (bea, "Bea@xn--mnchen-3ya.example"),
        (ada, "ａｄａ@example.org"),
        (ada, "ada@ｅxample.org"),
        (ada, "\"ada\"@example.org"),
        ("jürgen@example.org", "JÜRGEN@example.org"),
        ("bea@straße.example", "bea@STRAẞE.example"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = world.registered(&format!("Ada {n}"), first).await;
        let before = world.state().await;
        let again = world.register("Another", second).await;
        assert_eq!(again.problem(), "409 email_taken", "{second}");
        assert!(!again.text.contains(first), "{again:?}");
        let moved = json!({"email": second});
        let moved = world.api.json("PATCH", &eve, &moved).await;
        assert_eq!(moved.problem(), "409 email_taken", "{second}");
        assert_eq!(world.state().await, before);

        let own = json!({"email": second});
        assert_eq!(
            world.api.json("PATCH", &path, &own).await.json()["email"],
            second
        );
        let taken = world.register("Another", first).await;
        assert_eq!(taken.problem(), "409 email_taken", "{first}");
        assert_eq!(world.api.json("DELETE", &path, "").await.status, 204);
        let free = world.registered("Another", first).await;
        world.api.json("DELETE", &free, "").await;
    }
    for (n, other) in [
        "bea@strasse.example",
        "strasse@example.org",
        "straße@example.org",
        "ada+1@example.org",
    ]
    .iter()
    .enumerate()
    {
        world.registered(&format!("Bea {n}"), other).await;
    }
}

#[tokio::test]
async fn a_name_is_visible_and_changes_no_text_direction() {
    let world = World::start().await;
    let ada = world.registered("Ada", "ada@example.org").await;
    let before = world.state().await;
    for hidden in [
        "\u{202e}adA",
        "\u{2066}Ada",
        "A\u{200b}da",
        "\u{e0041}\u{e0042}",
        "\u{fe0f}",
        "\u{ffa0}",
        "\u{61c}",
        "\u{200f}",
        "\u{200d}",
    ] {
        let refused = world.register(hidden, "eve@example.org").await;
        assert_eq!(refused.problem(), "422 invalid_name", "{hidden:?}");
        let name = json!({"name": hidden});
        let refused = world.api.json("PATCH", &ada, name).await;
        assert_eq!(refused.problem(), "422 invalid_name", "{hidden:?}");
    }
    for hidden in ["e\u{200b}ve@example.org", "eve@exa\u{202e}mple.org"] {
        let refused = world.register("Eve", hidden).await;
        assert_eq!(refused.problem(), "422 invalid_email", "{hidden:?}");
    }
    assert_eq!(world.state().await, before);
    for seen in [
        "می\u{200c}خواهم",
        "👩\u{200d}🚀",
        "❤\u{fe0f}",
        "葛\u{e0100}城",
    ] {
        let renamed = world.api.json("PATCH", &ada, json!({"name": seen})).await;
        assert_eq!(renamed.json()["name"], seen);
    }
}

#[tokio::test]
async fn names_in_every_script_come_back_byte_for_byte() {
    let world = World::start().await;
    for (n, name) in [
        "Ада",
        "李小龍",
        "أبو بكر",
        "👩\u{200d}🚀",
        "e\u{301}",
        " two  blanks ",
        "Ünïcode \"quoted\" \\",
    ]
    .into_iter()
    .enumerate()
    {
        let path = world.registered(name, &format!("u{n}@example.org")).await;
        assert_eq!(world.api.get(&path).await.json()["name"], name);
    }
}

#[tokio::test]
async fn bad_input_is_refused_clearly_and_leaves_no_row_and_no_event() {
    let world = World::start().await;
    let user = world.registered("Ada", "ada@example.org").await;
    let unknown = format!("/users/{}", UserId::new());
    let before = world.state().await;
    let long = "x".repeat(10_240);

    for (body, problem) in [
        ("", "400 malformed_json"),
        ("{\"name\": \"Bob\", ", "400 malformed_json"),
        ("name=Bob", "400 malformed_json"),
        (
            "{\"name\": \"Bob\", \"email\": \"\\ud800@example.org\"}",
            "400 malformed_json",
        ),
        ("null", "422 invalid_body"),
        ("[\"Bob\", \"bob@example.org\"]", "422 invalid_body"),
        (
            "{\"name\": 5, \"email\": \"bob@example.org\"}",
            "422 invalid_body",
        ),
        (
            "{\"name\": null, \"email\": \"bob@example.org\"}",
            "422 invalid_body",
        ),
        ("{\"name\": \"Bob\"}", "422 invalid_body"),
        ("{\"email\": \"bob@example.org\"}", "422 invalid_body"),
        (
            "{\"name\": \"Bob\", \"email\": \"bob@example.org\", \"admin\": true}",
            "422 invalid_body",
        ),
        (
            "{\"name\": \"Bob\", \"name\": \"Eve\", \"email\": \"bob@example.org\"}",
            "422 invalid_body",
        ),
    ] {
        assert_eq!(
            world.api.json("POST", "/users", body).await.problem(),
            problem,
            "{body}"
        );
    }
    for name in ["", "   ", "\0", "Bo\0b", "Bo\nb", "Bo\u{1b}[2Jb", &long] {
        assert_eq!(
            world.register(name, "bob@example.org").await.problem(),
            "422 invalid_name",
            "{name:?}"
        );
        let patch = world.api.json("PATCH", &user, json!({"name": name})).await;
        assert_eq!(patch.problem(), "422 invalid_name", "{name:?}");
    }
    for email in [
        "",
        "bob",
        "bob@",
        "@example.org",
        "bob@example.org\0",
        "a b@example.org",
        &long,
    ] {
        assert_eq!(
            world.register("Bob", email).await.problem(),
            "422 invalid_email",
            "{email:?}"
        );
        let patch = world
            .api
            .json("PATCH", &user, json!({"email": email}))
            .await;
        assert_eq!(patch.problem(), "422 invalid_email", "{email:?}");
    }
    for body in ["{}", "{\"name\": null}", "{\"version\": 7}", "[]"] {
        assert_eq!(
            world.api.json("PATCH", &user, body).await.problem(),
            "422 invalid_body",
            "{body}"
        );
    }
    for (method, path, problem) in [
        ("GET", unknown.as_str(), "404 user_not_found"),
        ("PATCH", &unknown, "404 user_not_found"),
        ("DELETE", &unknown, "404 user_not_found"),
        ("GET", "/users/7", "400 invalid_id"),
        ("PATCH", "/users/7", "400 invalid_id"),
        ("DELETE", "/users/%00", "400 invalid_id"),
        ("GET", "/users/%FF", "400 invalid_id"),
        ("GET", "/users?limit=0", "400 invalid_query"),
        ("GET", "/users?limit=201", "400 invalid_query"),
        ("GET", "/users?limit=many", "400 invalid_query"),
        ("GET", "/users?cursor=7", "400 invalid_query"),
        ("GET", "/users?cursor=", "400 invalid_query"),
        ("GET", "/users?page=2", "400 invalid_query"),
        ("GET", "/user", "404 unknown_route"),
        ("PUT", "/users", "405 method_not_allowed"),
        ("POST", "/users/7", "405 method_not_allowed"),
    ] {
        let answer = world.api.json(method, path, json!({"name": "Bob"})).await;
        assert_eq!(answer.problem(), problem, "{method} {path}");
    }
    let labelled = |label: &'static str| {
        let body = Body::from(r#"{"name": "Bob", "email": "bob@example.org"}"#);
        world.api.send(
            request("POST", "/users")
                .header("content-type", label)
                .body(body),
        )
    };
    assert_eq!(
        labelled("text/plain").await.problem(),
        "415 unsupported_media_type"
    );
    assert_eq!(
        labelled("application/x-www-form-urlencoded")
            .await
            .problem(),
        "415 unsupported_media_type"
    );
    let unlabelled = world
        .api
        .send(request("POST", "/users").body(Body::from("{}")))
        .await;
    assert_eq!(unlabelled.problem(), "415 unsupported_media_type");
    let huge = json!({"name": "x".repeat(70_000), "email": "bob@example.org"});
    assert_eq!(
        world.api.post("/users", &huge).await.problem(),
        "413 body_too_large"
    );

    assert_eq!(world.state().await, before);
    assert_eq!(world.register("Bob", "bob@example.org").await.status, 201);
}

#[tokio::test]
async fn the_missing_field_is_named() {
    let world = World::start().await;
    let answer = world.api.post("/users", &json!({"name": "Bob"})).await;
    assert_eq!(answer.json()["errors"][0]["field"], "email");
    let answer = world
        .api
        .post("/users", &json!({"name": "Bob", "email": 1}))
        .await;
    assert_eq!(answer.json()["errors"][0]["field"], "email");
}

#[tokio::test]
async fn a_refusal_names_the_field_and_says_what_is_expected() {
    let world = World::start().await;
    let limit = "a limit is a number from 1 to 200";
    let cursor = "a cursor is the `next_cursor` of an earlier page";
    let long = "x".repeat(5_000);
    for (path, field, detail) in [
        ("/users?limit=many", "limit", limit),
        ("/users?limit=0", "limit", limit),
        ("/users?limit=", "limit", limit),
        (&format!("/users?limit={long}"), "limit", limit),
        ("/users?cursor=7", "cursor", cursor),
        (&format!("/users?cursor={long}"), "cursor", cursor),
        (
            "/users?page=2",
            "page",
            "unknown field `page`, expected one of `ids`, `cursor`, `limit`",
        ),
        ("/users?limit=1&limit=2", "limit", "duplicate field `limit`"),
        ("/users/%FF", "id", "not UTF-8 once percent-decoded"),
    ] {
        let refused = world.api.get(path).await.json();
        assert_eq!(refused["detail"], detail, "{path}");
        assert_eq!(
            refused["errors"],
            json!([{"field": field, "detail": detail}])
        );
    }
    let twice = r#"{"name": "Bob", "name": "Eve", "email": "bob@example.org"}"#;
    let refused = world.api.json("POST", "/users", twice).await.json();
    assert_eq!(refused["errors"][0]["field"], "name");
    for empty in ["", " \n"] {
        let refused = world.api.json("POST", "/users", empty).await.json();
        assert_eq!(refused["detail"], "the body is empty; send a JSON object");
    }
}

#[tokio::test]
async fn a_refusal_repeats_little_of_the_request() {
    let world = World::start().await;
    let long = "x".repeat(5_000);
    for answer in [
        world.api.get(&format!("/users?{long}=1")).await,
        world.api.get(&format!("/users?cursor={long}")).await,
        world.api.get(&format!("/users/{long}")).await,
        world.api.post("/users", &json!({&long: 1})).await,
        world.api.json("POST", "/users", json!(&long)).await,
        world
            .api
            .json(
                "PATCH",
                &format!("/users/{}", UserId::new()),
                json!({"name": [&long]}),
            )
            .await,
        world.register(&long, "bob@example.org").await,
        world.register("Bob", &long).await,
    ] {
        assert!((400..500).contains(&answer.status), "{answer:?}");
        assert!(answer.text.len() < 600, "{answer:?}");
        assert!(!answer.text.contains(&long[..65]), "{answer:?}");
    }
}

#[tokio::test]
async fn the_pages_of_the_list_show_every_user_once() {
    let world = World::start().await;
    for n in 0..7 {
        world.registered("Ada", &format!("u{n}@example.org")).await;
    }
    let (mut seen, mut path) = (Vec::new(), "/users?limit=3".to_owned());
    loop {
        let page = world.api.get(&path).await.json();
        let items = page["items"].as_array().unwrap();
        assert!((1..=3).contains(&items.len()));
        seen.extend(
            items
                .iter()
                .map(|user| user["email"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/users?limit=3&cursor={cursor}");
    }
    assert_eq!(
        seen,
        (0..7)
            .map(|n| format!("u{n}@example.org"))
            .collect::<Vec<_>>()
    );
    assert_eq!(
        world.api.get("/users").await.json()["items"]
            .as_array()
            .unwrap()
            .len(),
        7
    );
}

#[tokio::test]
async fn many_users_are_read_at_once_by_their_ids_without_their_addresses() {
    let world = World::start().await;
    let ids = |paths: &[&str]| paths.join(",").replace("/users/", "");
    let ada = world.registered("Ada", "ada@example.org").await;
    let eve = world.registered("Eve", "eve@example.org").await;
    let gone = world.registered("Gone", "gone@example.org").await;
    world.registered("Not asked for", "other@example.org").await;
    world.api.json("DELETE", &gone, "").await;
    world.api.json("PATCH", &eve, json!({"name": "Eva"})).await;

    let asked = format!("/users?ids={}", ids(&[&eve, &gone, &ada, &eve]));
    let answer = world.api.get(&asked).await;
    let expected = json!({
        "items": [
            {"id": ids(&[&ada]), "name": "Ada", "version": 1},
            {"id": ids(&[&eve]), "name": "Eva", "version": 2},
        ],
        "missing": [ids(&[&gone])],
    });
    assert_eq!((answer.status, answer.json()), (200, expected));
    assert!(!answer.text.contains("example.org"), "{}", answer.text);

    let many = vec![UserId::new().to_string(); 100];
    let deleted = world
        .api
        .get(&format!("/users?ids={}", many.join(",")))
        .await;
    assert_eq!(deleted.json(), json!({"items": [], "missing": [many[0]]}));
}

#[tokio::test]
async fn a_request_for_many_users_is_not_a_page_and_has_a_limit() {
    let world = World::start().await;
    let id = UserId::new().to_string();
    let too_many = vec![id.as_str(); 101].join(",");
    for (query, says) in [
        (
            format!("ids={id}&limit=1"),
            "`ids` cannot be combined with `cursor`",
        ),
        (
            format!("ids={id}&cursor=c1.1"),
            "`ids` cannot be combined with `cursor`",
        ),
        (format!("ids={too_many}"), "too many ids, expected 1 to 100"),
        ("ids=".to_owned(), "an unreadable id, expected 1 to 100"),
        (
            format!("ids={id},seven"),
            "an unreadable id, expected 1 to 100",
        ),
    ] {
        let refused = world.api.get(&format!("/users?{query}")).await;
        assert_eq!(refused.problem(), "400 invalid_query", "{query}");
        let error = refused.json()["errors"][0].clone();
        assert_eq!(error["field"], "ids", "{query}");
        let detail = error["detail"].as_str().unwrap();
        assert!(detail.starts_with(says), "{detail}");
    }
}

#[tokio::test]
async fn no_byte_of_an_event_reveals_the_address() {
    let world = World::start().await;
    let path = world.registered("Ada", "secret@example.org").await;
    let both = json!({"name": "Ada King", "email": "secret2@example.org"});
    world.api.json("PATCH", &path, both).await;
    world.api.json("DELETE", &path, "").await;
    let mut sealed = Vec::new();
    for record in world.records().await {
        let bytes = String::from_utf8(record.bytes.to_vec()).unwrap();
        // The last is how a sealed part would begin that is not sealed: base64 of {"email":
        for telling in ["secret", "example", "eyJlbWFpbCI6"] {
            assert!(!bytes.contains(telling), "{bytes}");
        }
        sealed.push(bytes.contains(r#""sealed":""#));
    }
    assert_eq!(sealed, [true, false, true, false]);
}

#[tokio::test]
async fn two_equal_addresses_look_different_in_the_stream() {
    let world = World::start().await;
    for _ in 0..2 {
        let path = world.registered("Ada", "ada@example.org").await;
        world.api.json("DELETE", &path, "").await;
    }
    let envelopes = world.envelopes().await;
    assert_ne!(envelopes[0]["sealed"], envelopes[2]["sealed"]);
}

#[tokio::test]
async fn halted_writes_are_refused_with_the_reason_and_reads_go_on() {
    let world = World::start().await;
    let path = world.registered("Ada", "ada@example.org").await;
    assert_eq!(world.api.get("/readyz").await.status, 200);
    world.db.halt("a rival publishes to USERS");
    let refused = world.register("Bob", "bob@example.org").await;
    assert_eq!(refused.problem(), "503 writes_halted");
    assert!(refused.text.contains("a rival publishes to USERS"));
    assert_eq!(world.api.get("/readyz").await.problem(), "503 not_ready");
    assert_eq!(world.api.get(&path).await.status, 200);
    assert_eq!(world.api.get("/livez").await.status, 200);
}

#[tokio::test]
async fn writes_wait_while_the_file_may_be_an_older_copy() {
    let world = World::start().await;
    let path = world.registered("Ada", "ada@example.org").await;
    std::fs::remove_file(world.folder.path().join("users.db.lock")).unwrap();
    let world = world.reopened().await;
    let refused = world.register("Bob", "bob@example.org").await;
    assert_eq!(refused.problem(), "503 must_import");
    assert_eq!(refused.header("retry-after"), "1");
    assert!(refused.text.contains("lock file"), "{refused:?}");
    assert_eq!(world.api.get("/readyz").await.problem(), "503 not_ready");
    assert_eq!(world.api.get(&path).await.status, 200);
}

#[tokio::test]
async fn a_registration_of_a_thousand_at_once_is_a_thousand_rows_and_events() {
    let world = World::start().await;
    let calls = (0..1000).map(|n| {
        let body = json!({"name": "Ada", "email": format!("u{}@example.org", n / 2)});
        let world = &world;
        async move { world.api.post("/users", &body).await.status }
    });
    let mut answers = futures::future::join_all(calls).await;
    answers.sort_unstable();
    assert_eq!(answers[..500], [201; 500]);
    assert_eq!(answers[500..], [409; 500]);
    assert_eq!(world.state().await, (500, 500));
}

#[tokio::test]
async fn a_repeated_registration_registers_no_second_user() {
    let world = World::start().await;
    let register = async |key: &str, name: &str| {
        let body = json!({"name": name, "email": format!("{name}@example.org")});
        let request = request("POST", "/users")
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        world.api.send(request.body(body.to_string().into())).await
    };
    let first = register("a", "ada").await;
    assert_eq!(
        (first.status, first.header("freehold-position")),
        (201, "users@1")
    );
    let again = register("a", "ada").await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    for name in ["location", "etag", "content-type", "freehold-position"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    assert_eq!(again.header("idempotency-replayed"), "true");
    let other = register("a", "eve").await;
    assert_eq!(other.problem(), "422 idempotency_key_reused");
    let taken = register("b", "ada").await;
    assert_eq!(taken.problem(), "409 email_taken");
    assert_eq!(world.state().await, (1, 1));

    // A user that is not deleted is there after a restart, too.
    let world = world.reopened().await;
    let body = json!({"name": "ada", "email": "ada@example.org"}).to_string();
    let request = request("POST", "/users")
        .header("content-type", "application/json")
        .header("idempotency-key", "a");
    let again = world.api.send(request.body(body.into())).await;
    assert_eq!((again.status, again.text), (201, first.text));
}

#[tokio::test]
async fn every_write_returns_its_position_and_a_read_waits_for_it() {
    let world = World::start().await;
    let path = world.registered("Ada", "ada@example.org").await;
    let both = json!({"name": "Ada King", "email": "king@example.org"});
    let changed = world.api.json("PATCH", &path, both.clone()).await;
    assert_eq!(changed.header("freehold-position"), "users@3");
    let same = world.api.json("PATCH", &path, both).await;
    assert_eq!(same.header("freehold-position"), "users@3");
    let read = |place: &'static str| {
        let read = request("GET", &path).header("freehold-wait-for", place);
        let read = read.header("freehold-max-wait-ms", "0");
        world.api.send(read.body(Body::empty()))
    };
    assert_eq!(read("users@3").await.status, 200);
    let late = read("users@4").await;
    assert_eq!(late.problem(), "504 not_caught_up");
    assert!(late.text.contains("has committed users@3 of 4: 1 behind"));
    assert_eq!(read("orders@1").await.problem(), "400 invalid_wait_for");
    let deleted = world.api.json("DELETE", &path, "").await;
    assert_eq!(
        (deleted.status, deleted.header("freehold-position")),
        (204, "users@4")
    );
    assert_eq!(
        world.api.get("/users").await.header("freehold-position"),
        ""
    );
}

#[tokio::test]
async fn every_event_of_a_write_names_its_request() {
    let world = World::start().await;
    let path = world.registered("Ada", "ada@example.org").await;
    let change = request("PATCH", &path)
        .header("content-type", "application/json")
        .header("x-request-id", "r-1");
    let body = r#"{"name": "Ada King", "email": "king@example.org"}"#;
    let changed = world.api.send(change.body(body.into())).await;
    assert_eq!(changed.status, 200);
    for event in &world.envelopes().await[1..] {
        assert_eq!(event["requestid"], "r-1");
        assert_eq!(event["traceparent"], changed.header("traceparent"));
    }
}

#[tokio::test]
async fn the_documentation_is_complete_and_names_the_callers() {
    let world = World::start().await;
    assert_documented(&world.api, &[]).await;
    let document = world.api.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    let own: Vec<_> = paths
        .keys()
        .filter(|path| path.starts_with("/users"))
        .collect();
    assert_eq!(own, ["/users", "/users/{id}"]);
    for name in ["User", "NewUser", "Problem"] {
        let schema = &document["components"]["schemas"][name];
        assert!(schema["description"].is_string(), "{name}: {schema}");
    }
    let problems = world.api.get("/problems").await.text;
    assert!(problems.contains("\"email_taken\""), "{problems}");
}

#[tokio::test]
async fn operators_may_do_everything_services_may_read_and_other_callers_nothing() {
    let world = World::start().await;
    for (token, reads, writes) in [
        (Some(OPERATOR), 200, 400),
        (Some(SERVICE), 200, 403),
        (Some(GUEST), 403, 403),
        (None, 401, 401),
    ] {
        let api = world.api.sending(token);
        assert_eq!(api.get("/users").await.status, reads, "{token:?}");
        let write = api.json("POST", "/users", "{").await;
        assert_eq!(write.status, writes, "{token:?}");
    }
}
