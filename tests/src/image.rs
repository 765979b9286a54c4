//! A disk that can lose its power: an ext4 image, of which a cut leaves what had been flushed.
//!
//! The image is mounted in a mount namespace of the broker's own, so only the broker sees it, and the kernel takes mount
//! and loop device down with the last process in there, however that ended. There is nothing to clean up, and nothing to forget.
//!
//! A cut copies the image while the broker stands still and goes on with the copy. What the file system had not yet handed
//! to the device is in no copy. What it had handed over unflushed is: a drive that loses its own cache is not played here.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::process::Launch;

/// The image a disk is on now.
#[derive(Debug)]
pub struct Image {
    file: PathBuf,
    cuts: u32,
}

/// Sparse: it takes the room of what is in it.
const SIZE: u64 = 256 << 20;
/// A loop device that still holds the image would be a second mount of one file system. The journal commits of itself only
/// every ten minutes, so that what was not flushed is still in memory when the power goes.
const MOUNT: &str = r#"
while [ -n "$(losetup --associated "$0")" ]; do sleep 0.05; done
mkdir -p "$1" && mount -n -t ext4 -o loop,commit=600 "$0" "$1" && shift && exec "$@"
"#;
const OWN_NAMESPACE: &str = r#"exec unshare --mount /bin/sh -c "$@""#;

/// Whether this machine can do it, or why not: it takes root, a loop device and the usual programs.
pub fn available() -> Result<(), String> {
    let tried = || -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let image = Image::create(folder.path().join("image"))?;
        let launch = Launch::of("true", "/bin/true", folder.path());
        let launch = image.mounted(launch, &folder.path().join("mount"));
        run(Command::new(launch.program).args(launch.args)).map(drop)
    };
    tried().map_err(|error| format!("no power cuts on this machine: {error}"))
}

impl Image {
    pub fn create(file: PathBuf) -> io::Result<Image> {
        File::create_new(&file)?.set_len(SIZE)?;
        run(Command::new("mkfs.ext4").arg("-q").arg(&file))?;
        Ok(Image { file, cuts: 0 })
    }

    /// The same program, which finds the image mounted at this place.
    #[must_use]
    pub fn mounted(&self, launch: Launch, at: &Path) -> Launch {
        let Launch { program, args, .. } = launch;
        let before = ["-c", OWN_NAMESPACE, "sh", MOUNT].map(Into::into);
        let paths = [self.file.clone(), at.to_owned(), program].map(Into::into);
        Launch {
            program: PathBuf::from("/bin/sh"),
            args: before.into_iter().chain(paths).chain(args).collect(),
            ..launch
        }
    }

    /// From the next mount on the disk is what a power cut at this moment leaves of it. Nobody may be writing.
    pub fn cut(&mut self) -> io::Result<()> {
        let copy = self.file.with_extension(format!("cut-{}", self.cuts + 1));
        run(Command::new("cp")
            .arg("--sparse=always")
            .arg(&self.file)
            .arg(&copy))?;
        // Whoever has the old one mounted keeps it until the end.
        std::fs::remove_file(&self.file)?;
        *self = Image {
            file: copy,
            cuts: self.cuts + 1,
        };
        Ok(())
    }
}

/// Flushes the file system a running process has mounted there, as a machine does of itself sooner or later.
pub fn flush(pid: u32, mounted_at: &Path) -> io::Result<()> {
    let seen_by_it = format!("/proc/{pid}/root{}", mounted_at.display());
    run(Command::new("sync").arg("--file-system").arg(seen_by_it)).map(drop)
}

fn run(command: &mut Command) -> io::Result<Output> {
    let program = command.get_program().display().to_string();
    let output = command.output();
    let output = output.map_err(|error| io::Error::other(format!("{program}: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(output),
        false => Err(io::Error::other(format!("{program}: {}", said.trim()))),
    }
}
