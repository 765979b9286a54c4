//! Who may read the files that a service makes: its own user and nobody else.

use rustix::fs::Mode;

/// To be called first thing, before a file is made. A database holds every user's address and every order; the file,
/// its write-ahead log and its lock are made with what this leaves. A file that is already there keeps its mode.
pub fn keep_files_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}
