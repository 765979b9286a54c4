//! The delivery platform's services in one process: the fast way to test what one does about the other's events.

use serde_json::json;
use service_program::testing::InProcess;

#[tokio::test]
async fn an_order_shows_its_users_name_and_is_cancelled_with_the_user() {
    let mut world = InProcess::new();
    let users = world.start(user_service::service()).await;
    let orders = world.start(orders_service::service()).await;
    let ada = json!({"name": "Ada", "email": "ada@example.org"});
    let ada = users.api.post("/users", &ada).await.json();
    world.settle().await;

    let order = json!({"user_id": ada["id"], "amount_minor": 1250, "currency": "EUR"});
    let order = orders.api.post("/orders", &order).await.json();
    let order = format!(
        "/orders/{}?include=user",
        order["id"].as_str().expect("an id")
    );
    let shown = orders.api.get(&order).await.json();
    assert_eq!(shown["user"]["name"], "Ada");

    let user = format!("/users/{}", ada["id"].as_str().expect("an id"));
    assert_eq!(users.api.json("DELETE", &user, "").await.status, 204);
    world.settle().await;
    let shown = orders.api.get(&order).await.json();
    assert_eq!(shown["status"], "cancelled");
}
