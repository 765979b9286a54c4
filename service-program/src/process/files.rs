//! The files that a service creates: their paths and their permissions.

use std::path::{Path, PathBuf};

use rustix::fs::Mode;

/// Call it before the first file is created: a database holds every user's address and every order. It covers the file, its
/// write-ahead log and its lock. A database that exists already is closed to other users when it is opened.
pub fn keep_files_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// `users.db.admin` for `users.db`: next to the file itself, which the given path may link to.
pub(crate) fn sibling(database: &Path, what: &str) -> PathBuf {
    let path = relay::database::real_path(database);
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
        let admin = real.with_added_extension("admin");
        assert_eq!(sibling(&link, "admin"), admin, "before the database exists");
        std::fs::write(&real, "").unwrap();
        assert_eq!(sibling(&link, "admin"), admin);
    }
}
