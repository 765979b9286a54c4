//! What travels in these examples: the events of stream VISITS, declared once for the service that emits them and for every reader.

#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Visited {
    pub page: String,
    pub count: u64,
}

relay::events! {
    pub enum VisitEvent on "VISITS" { "visits.counted.v1" => Visited(Visited) about page }
}
