//! The access file of a service, written from outside: tests and `up` add their own operator to it. Other lines stay.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::credentials::Password;

/// Gives the operator of this name this token. Creates the file if it is missing.
pub fn let_in(file: &Path, name: &str, token: &Password) -> io::Result<()> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let who = format!("operator {name} ");
    let line = format!("{who}sha256:{}", hash(token));
    let others = text.lines().filter(|line| !line.starts_with(&who));
    let lines: String = others
        .chain([&*line])
        .flat_map(|line| [line, "\n"])
        .collect();
    let aside = file.with_added_extension("new");
    let _left_by_a_kill = fs::remove_file(&aside);
    let mut out = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)?;
    out.write_all(lines.as_bytes())?;
    fs::rename(aside, file)
}

fn hash(token: &Password) -> String {
    let hash = Sha256::digest(token.reveal());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_line_is_replaced_and_other_lines_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.access");
        let (one, two) = (Password::generate(), Password::generate());
        let_in(&file, "up", &one).expect("written");
        let mut text = fs::read_to_string(&file).expect("there");
        assert_eq!(text, format!("operator up sha256:{}\n", hash(&one)));
        text.push_str("# mine\noperator uppsala sha256:00\n");
        fs::write(&file, text).expect("written");
        let_in(&file, "up", &two).expect("written");
        let text = fs::read_to_string(&file).expect("there");
        let own = format!("operator up sha256:{}\n", hash(&two));
        assert_eq!(text, format!("# mine\noperator uppsala sha256:00\n{own}"));
    }
}
