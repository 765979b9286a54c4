//! What can happen to the broker's disk while the broker is down: copied, restored, lost, truncated, damaged.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::Broker;
use crate::damage;
use crate::part::Part;

/// Which file of a stream's messages. A stream of less than 8 MB has one only, and then both are that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// The file of the oldest messages.
    First,
    /// The file of the newest messages.
    Last,
}

impl Broker {
    /// A backup of the store.
    pub fn copy_store(&mut self, to: &Path) -> io::Result<()> {
        copy_folder(self.idle_store(), to)
    }

    /// Replaces the store by this copy of it. The copy stays and can be used again.
    pub fn swap_store(&mut self, from: &Path) -> io::Result<()> {
        self.wipe_store()?;
        copy_folder(from, self.idle_store())
    }

    /// Deletes the store: a lost disk.
    pub fn wipe_store(&mut self) -> io::Result<()> {
        match fs::remove_dir_all(self.idle_store()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Cuts this many bytes off the end of a block: a write that never reached the disk.
    pub fn truncate_block(&mut self, stream: &str, block: Block, bytes: u64) -> io::Result<()> {
        let file = File::options()
            .write(true)
            .open(self.block(stream, block)?)?;
        let length = file.metadata()?.len();
        assert!(bytes < length, "the block has {length} bytes only");
        file.set_len(length - bytes)
    }

    /// Flips this many bytes in the middle of a block: a bad disk.
    pub fn flip_block(&mut self, stream: &str, block: Block, bytes: u64) -> io::Result<()> {
        let file = self.block(stream, block)?;
        let middle = fs::metadata(&file)?.len() / 2;
        damage::flip(&file, middle..middle + bytes)
    }

    /// The stream and the account of its owner have the same name in nats.conf.
    fn block(&mut self, stream: &str, block: Block) -> io::Result<PathBuf> {
        let messages = format!("jetstream/{stream}/streams/{stream}/msgs");
        let mut blocks = blocks_in(&self.idle_store().join(messages))?;
        let place = match block {
            Block::First => 0,
            Block::Last => blocks.len().saturating_sub(1),
        };
        match place < blocks.len() {
            true => Ok(blocks.swap_remove(place).1),
            false => Err(io::Error::other(format!("{stream} has no block"))),
        }
    }

    /// No other process may read the store meanwhile; an image of its own is visible to the broker only.
    fn idle_store(&mut self) -> &Path {
        assert!(
            !self.is_running(),
            "stop or kill the broker before its store is touched"
        );
        assert!(
            self.image.is_none(),
            "the store is on an image that only the broker sees"
        );
        &self.store
    }
}

/// `1.blk`, `2.blk`, … with their numbers, in order.
fn blocks_in(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut blocks = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_suffix(".blk"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            blocks.push((number, path));
        }
    }
    blocks.sort();
    Ok(blocks)
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &copy)?,
            false => fs::copy(entry.path(), copy).map(drop)?,
        }
    }
    Ok(())
}
