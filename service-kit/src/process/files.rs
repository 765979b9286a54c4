//! The files that a service makes: where they lie, and that its own user may read them and nobody else.

use std::path::{Path, PathBuf};

use rustix::fs::Mode;

/// To be called first thing, before a file is made. A database holds every user's address and every order; the file,
/// its write-ahead log and its lock are made with what this leaves. A database that is already there is closed to others when
/// it is opened.
pub fn keep_files_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// `users.db` and its `users.db.door`: beside the file itself, where a link leads to it.
pub(crate) fn beside(database: &Path, what: &str) -> PathBuf {
    let path = relay::real_path(database);
    let path = path.unwrap_or_else(|_| database.to_owned()); // refused when it is opened
    path.with_added_extension(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_beside_the_database_that_a_link_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("real.db");
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink("real.db", &link).unwrap();
        let door = real.with_added_extension("door");
        assert_eq!(beside(&link, "door"), door, "before the database exists");
        std::fs::write(&real, "").unwrap();
        assert_eq!(beside(&link, "door"), door);
    }
}
