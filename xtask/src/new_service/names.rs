//! The name of a new service, and the names that follow from it.

use anyhow::{Result, bail, ensure};

/// Small words with single hyphens between them: `payments`, `parcel-labels`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

/// It is part of a stream's name, of subjects, variables and consumers' names, so it is shorter than any of them may be.
const MAX_CHARACTERS: usize = 32;
/// Accounts of the broker itself.
const ACCOUNTS: [&str; 2] = ["sys", "observer"];
/// Rust's, those reserved for later too.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];
/// What the template's files call by these names already: a type of the same name would hide them.
const TYPES: &[&str] = &[
    "connection",
    "database",
    "event",
    "idempotency-key",
    "idempotent",
    "json",
    "of",
    "option",
    "path",
    "problem",
    "query",
    "reply",
    "result",
    "routes",
    "row",
    "state",
    "string",
    "uuid",
    "value",
    "vec",
];
/// Tables of SQLite and of Freehold's libraries begin so.
const TABLES: [&str; 3] = ["relay-", "sqlite-", "kit-"];
/// Words that SQLite does not take as the name of a table or a column.
const SQL: &[&str] = &[
    "add",
    "all",
    "alter",
    "and",
    "autoincrement",
    "between",
    "case",
    "check",
    "collate",
    "commit",
    "constraint",
    "create",
    "default",
    "deferrable",
    "delete",
    "distinct",
    "drop",
    "escape",
    "except",
    "exists",
    "foreign",
    "from",
    "group",
    "having",
    "index",
    "insert",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "limit",
    "not",
    "nothing",
    "notnull",
    "null",
    "on",
    "or",
    "order",
    "primary",
    "references",
    "returning",
    "select",
    "set",
    "table",
    "then",
    "to",
    "transaction",
    "union",
    "unique",
    "update",
    "using",
    "values",
    "when",
];

impl Name {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let first = text.starts_with(|c: char| c.is_ascii_lowercase());
        let word = |word: &str| {
            !word.is_empty()
                && word
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        ensure!(
            first && text.split('-').all(word),
            "{text:?} is no name for a service: begin with a small letter, then small letters, digits and single hyphens, such as payments"
        );
        ensure!(
            text.len() <= MAX_CHARACTERS,
            "{text} has {} characters: a name has {MAX_CHARACTERS} at most",
            text.len()
        );
        ensure!(
            !KEYWORDS.contains(&text),
            "{text} is a keyword of Rust: choose another name"
        );
        ensure!(
            !ACCOUNTS.contains(&text),
            "{text} is an account of the broker itself: choose another name"
        );
        if let Some(short) = text
            .strip_suffix("-service")
            .or(text.strip_suffix("-events"))
        {
            bail!("the ending of {text} is added for you: write {short}");
        }
        Ok(Self(text.to_owned()))
    }

    /// A name of many things is the name of a table, too.
    pub(crate) fn of_many(text: &str) -> Result<Self> {
        let name = Self::parse(text)?;
        ensure!(
            !SQL.contains(&text),
            "{text} is a word of SQL, and a table gets this name: choose another"
        );
        let taken = TABLES.iter().find(|start| text.starts_with(**start));
        ensure!(
            taken.is_none(),
            "{text} begins as the tables of SQLite and of Freehold do, and a table gets this name: choose another"
        );
        Ok(name)
    }

    /// A name of one thing is the name of a type, too.
    pub(crate) fn of_one(text: &str) -> Result<Self> {
        let name = Self::parse(text)?;
        ensure!(
            !TYPES.contains(&text),
            "{text} is a type that the template uses: take another name, such as --item lab-{text}"
        );
        Ok(name)
    }

    /// One of them: `payment`, `category`. The names of things that have no plural stay as they are.
    pub(crate) fn one(&self) -> Result<Self> {
        let text = &self.0;
        let one = match text.strip_suffix("ies") {
            Some(stem) => format!("{stem}y"),
            None => {
                let stem = text.strip_suffix('s').filter(|stem| !stem.is_empty());
                stem.unwrap_or(text).to_owned()
            }
        };
        Self::of_one(&one).map_err(|error| {
            error.context(format!(
                "one of {text} needs a name of its own, with --item"
            ))
        })
    }

    /// `parcel-labels`
    pub(crate) fn kebab(&self) -> &str {
        &self.0
    }

    /// `parcel_labels`
    pub(crate) fn snake(&self) -> String {
        self.0.replace('-', "_")
    }

    /// `PARCEL_LABELS`
    pub(crate) fn shouty(&self) -> String {
        self.snake().to_uppercase()
    }

    /// `ParcelLabels`
    pub(crate) fn pascal(&self) -> String {
        let word = |word: &str| word[..1].to_uppercase() + &word[1..];
        self.0.split('-').map(word).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_follows_from_the_name() {
        let name = Name::of_many("parcel-labels2").unwrap();
        assert_eq!(name.kebab(), "parcel-labels2");
        assert_eq!(name.snake(), "parcel_labels2");
        assert_eq!(name.shouty(), "PARCEL_LABELS2");
        assert_eq!(name.pascal(), "ParcelLabels2");
    }

    #[test]
    fn one_of_many_has_a_name() {
        for (many, one) in [
            ("payments", "payment"),
            ("categories", "category"),
            ("stock", "stock"),
            ("s", "s"),
            ("tax-rates", "tax-rate"),
        ] {
            assert_eq!(Name::of_many(many).unwrap().one().unwrap().kebab(), one);
        }
        for many in ["types", "queries", "paths"] {
            let refusal = format!("{:#}", Name::of_many(many).unwrap().one().unwrap_err());
            assert!(refusal.contains("with --item: "), "{refusal}");
        }
    }

    #[test]
    fn other_names_are_refused_with_the_cure() {
        let long = "a".repeat(MAX_CHARACTERS + 1);
        for (text, cure) in [
            ("", "begin with a small letter"),
            ("Payments", "begin with a small letter"),
            ("2payments", "begin with a small letter"),
            ("pay ments", "begin with a small letter"),
            ("pay_ments", "single hyphens"),
            ("pay--ments", "single hyphens"),
            ("payments-", "single hyphens"),
            ("-payments", "begin with a small letter"),
            ("zahlungsauftr\u{e4}ge", "small letters"),
            ("../payments", "begin with a small letter"),
            ("type", "a keyword of Rust: choose another"),
            ("values", "a word of SQL"),
            ("relay-heads", "begins as the tables of SQLite"),
            ("sqlite-files", "choose another"),
            ("kit-replies", "choose another"),
            ("observer", "an account of the broker itself"),
            ("payments-service", "write payments"),
            ("payments-events", "write payments"),
            (&long, "32 at most"),
        ] {
            let refusal = format!("{:#}", Name::of_many(text).unwrap_err());
            assert!(refusal.contains(cure), "{refusal}");
            assert_eq!(refusal.lines().count(), 1, "{refusal}");
        }
        assert!(Name::of_many(&long[1..]).is_ok());
    }
}
