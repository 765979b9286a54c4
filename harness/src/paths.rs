//! The cache on this machine that all processes of a user share.

use std::env;
use std::path::PathBuf;

/// `$XDG_CACHE_HOME/freehold`, else `~/.cache/freehold`, else a folder in the temporary directory.
pub fn cache() -> PathBuf {
    cache_below(
        env::var_os("XDG_CACHE_HOME").map(PathBuf::from),
        env::var_os("HOME").map(PathBuf::from),
    )
}

/// A relative path is ignored, as the XDG specification asks: it would move with the working directory.
fn cache_below(xdg: Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    let absolute = |path: &PathBuf| path.is_absolute();
    xdg.filter(absolute)
        .or_else(|| home.filter(absolute).map(|home| home.join(".cache")))
        .unwrap_or_else(env::temp_dir)
        .join("freehold")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_cache_follows_xdg_then_home_and_ignores_relative_paths() {
        let at = |xdg: Option<&str>, home: Option<&str>| {
            cache_below(xdg.map(Into::into), home.map(Into::into))
        };
        assert_eq!(at(Some("/x"), Some("/h")), Path::new("/x/freehold"));
        assert_eq!(at(Some("x"), Some("/h")), Path::new("/h/.cache/freehold"));
        assert_eq!(at(Some(""), Some("/h")), Path::new("/h/.cache/freehold"));
        assert!(at(None, None).starts_with(env::temp_dir()));
    }
}
