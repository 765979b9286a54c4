//! A disk that can lose its power: an ext4 image that keeps only flushed data at a cut.
//!
//! The image is mounted in a mount namespace of the broker's own, so only the broker sees it, and the kernel removes mount and
//! loop device with the last process in there, however it ends. There is nothing to clean up.
//!
//! A cut copies the image while the broker is paused, and continues with the copy. Data that the file system had not yet given
//! to the device is not in the copy. Data that it had given unflushed is: a drive that loses its own cache is not simulated.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::process::Launch;

/// The current image of a disk.
#[derive(Debug)]
pub struct Image {
    file: PathBuf,
    cuts: u32,
}

/// Sparse: it takes only the room of its content.
const SIZE: u64 = 256 << 20;
/// A loop device that still holds the image would be a second mount of one file system. The journal commits of itself only
/// every ten minutes, so that unflushed data is still in memory at the power cut.
const MOUNT: &str = r#"
while [ -n "$(losetup --associated "$0")" ]; do sleep 0.05; done
mkdir -p "$1" && mount -n -t ext4 -o loop,commit=600 "$0" "$1" && shift && exec "$@"
"#;
const OWN_NAMESPACE: &str = r#"exec unshare --mount /bin/sh -c "$@""#;

/// Whether this machine supports it, or why not: it needs root, a loop device and the usual programs.
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
    /// Makes the file, with an empty file system in it.
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

    /// From the next mount on the disk is what a power cut now leaves of it. No process may be writing.
    pub fn cut(&mut self) -> io::Result<()> {
        let copy = self.file.with_extension(format!("cut-{}", self.cuts + 1));
        run(Command::new("cp")
            .arg("--sparse=always")
            .arg(&self.file)
            .arg(&copy))?;
        // A process that has the old image mounted keeps it until its end.
        std::fs::remove_file(&self.file)?;
        *self = Image {
            file: copy,
            cuts: self.cuts + 1,
        };
        Ok(())
    }
}

/// Flushes the file system that a running process has mounted, as a machine does by itself sooner or later.
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
