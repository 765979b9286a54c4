//! What a failed test shows of its world.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::guard::Guard;

/// Shown per log when a test fails.
const LOG_LINES: usize = 40;
/// If it is set, the files of a failed world are kept and their path is printed.
const KEEP_VARIABLE: &str = "FREEHOLD_KEEP_FAILED";

/// From the files, not the children: killed parts have logs, too.
pub(super) fn print(folder: &Path) {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = files.map(|file| file.path()).collect();
    files.sort();
    for file in files {
        let text = fs::read(&file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        eprintln!(
            "── {} ──\n{tail}",
            file.file_name().unwrap_or_default().display()
        );
    }
}

/// The guard would delete them, too.
pub(super) fn keep_files_if_asked(folder: &mut TempDir) {
    if std::env::var_os(KEEP_VARIABLE).is_some() {
        folder.disable_cleanup(true);
        let told = Guard::of_this_process().and_then(|guard| guard.keep(folder.path()));
        let path = folder.path().display();
        eprintln!("── the files of this world are kept in {path} ({told:?}) ──");
    }
}
