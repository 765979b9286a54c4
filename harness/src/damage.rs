//! Bytes on a disk that differ from what was written.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Flips every bit of these bytes. They must be in the file: it does not grow, and flipping nothing is an error.
pub fn flip(file: &Path, bytes: Range<u64>) -> io::Result<()> {
    let length = usize::try_from(bytes.end - bytes.start).map_err(io::Error::other)?;
    assert!(length > 0, "nothing would be flipped");
    let file = File::options().read(true).write(true).open(file)?;
    let mut kept = vec![0; length];
    file.read_exact_at(&mut kept, bytes.start)?;
    let flipped: Vec<u8> = kept.iter().map(|byte| !byte).collect();
    file.write_all_at(&flipped, bytes.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_given_bytes_are_flipped_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        fs::write(&file, [0, 1, 2, 3]).unwrap();
        flip(&file, 1..3).unwrap();
        assert_eq!(fs::read(&file).unwrap(), [0, 254, 253, 3]);
        flip(&file, 3..5).expect_err("beyond the end");
        assert_eq!(fs::read(&file).unwrap(), [0, 254, 253, 3]);
    }
}
