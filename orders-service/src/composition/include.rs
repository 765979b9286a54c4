//! `?include=`: what a client wants beside what it asks for.

use serde::Deserialize;

/// Names, with commas between them. There is one so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Include {
    pub user: bool,
}

const KNOWN: &str = "user";

impl TryFrom<String> for Include {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut include = Self::default();
        for name in text.split(',') {
            match name {
                "user" => include.user = true,
                other => {
                    return Err(format!(
                        "nothing with the name `{other}` can be included, expected names with commas between them, of: {KNOWN}"
                    ));
                }
            }
        }
        Ok(include)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_can_be_included() {
        let read = |text: &str| Include::try_from(text.to_owned());
        assert_eq!(read("user"), Ok(Include { user: true }));
        assert_eq!(read("user,user"), Ok(Include { user: true }));
        for bad in ["", "users", "User", "user,", "user, user", "user,driver"] {
            let refusal = read(bad).unwrap_err();
            assert!(refusal.ends_with("of: user"), "{refusal}");
        }
    }
}
