//! The file of keys that seal parts of a service's events.
//!
//! Everything here that takes a path blocks on the disk. For Unix: it stands on file modes and on flushing folders.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::sealed::{self, Open, Sealed, SealedError};
use crate::error::Cause;

/// The largest key file: some ten thousand keys. A path to something else entirely is not read into memory.
const MAX_FILE_BYTES: u64 = 1_000_000;
const KEY_BYTES: usize = 32;
/// Hexadecimal digits in a key's id.
const ID_DIGITS: usize = 8;
/// A key's line, the ends of it and of the line before included.
const LINE_BYTES: usize = "\n".len() + ID_DIGITS + " ".len() + 2 * KEY_BYTES + "\n".len();

/// What a key file says to the person who finds it.
const ABOUT: &str = "\
# The keys that seal parts of this service's events: what only the service may read, such as e-mail addresses.
# Without this file those parts are lost, and with them a rebuild from the stream. Keep a copy of it, apart
# from the backups of the database: both together open everything.
# One key a line, oldest first: its id, then the key. The last one seals, every one opens. Never edit an id
# and never remove a line: events sealed long ago still name it.
";

/// The keys of one service: the newest seals, every one opens. Clones share them.
#[derive(Clone)]
pub struct Keys(Arc<KeyFile>);

/// A key file as it was read.
struct KeyFile {
    path: PathBuf,
    /// Oldest first, never empty.
    keys: Vec<Key>,
}

struct Key {
    id: String,
    /// Wipes its bytes when it is dropped.
    cipher: XChaCha20Poly1305,
}

/// There are no keys. Nothing may be sealed or opened: the process stops, and a person looks.
#[derive(Debug, thiserror::Error)]
#[error("the key file {} {why}", path.display())]
pub struct KeysError {
    /// The key file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub why: KeysProblem,
}

/// Why there are no keys; the sentence's subject is the key file.
#[derive(Debug, thiserror::Error)]
pub enum KeysProblem {
    /// There is no such file.
    #[error("is missing: put the copy of it back, without it sealed parts cannot be opened")]
    Missing,
    /// Other users of the machine can read it.
    #[error("is open to other users (mode {mode:04o}): chmod 600 it")]
    OpenToOthers {
        /// Its permission bits.
        mode: u32,
    },
    /// The line's content is not shown: it may be most of a key.
    /// A line is not an id of eight and a key of 64 hexadecimal digits.
    #[error(
        "has no key on line {line}, which is 8 and 64 hexadecimal digits in lower case: put the copy of the key file back"
    )]
    BadLine {
        /// Its number, from 1.
        line: usize,
    },
    /// Two keys have one id.
    #[error(
        "has the id {id} on line {line} and on a line before: ids are never edited, put the copy of the key file back"
    )]
    DuplicateId {
        /// The second one, from 1.
        line: usize,
        /// The id.
        id: String,
    },
    /// It holds no key.
    #[error(
        "holds no key: put the copy of the key file back, or delete it if nothing was ever sealed"
    )]
    Empty,
    /// It is larger than a key file can be.
    #[error("is larger than {MAX_FILE_BYTES} bytes: check the path of the key file")]
    TooLarge,
    /// It cannot be read or written; the source says why.
    #[error(
        "cannot be used: it must be a file in a folder that exists; to make or rotate one, the folder must be writable"
    )]
    Unusable(#[source] Cause),
}

impl From<io::Error> for KeysProblem {
    fn from(error: io::Error) -> Self {
        Self::Unusable(error.into())
    }
}

impl Keys {
    /// Reads the key file, or makes it (mode 0600) with one fresh key where there is none.
    ///
    /// Where something may have been sealed already, [`open`](Self::open) is safer: it does not answer a lost key file
    /// with a new one.
    ///
    /// # Errors
    ///
    /// [`KeysError`] when the file cannot be made, or as [`open`](Self::open).
    pub fn open_or_create(path: &Path) -> Result<Keys, KeysError> {
        match Self::open(path) {
            Err(error) if matches!(error.why, KeysProblem::Missing) => {
                at(path, create(path).map_err(Into::into))?;
                Self::open(path)
            }
            opened => opened,
        }
    }

    /// Reads the key file. When this returns, the file is on the disk, also if another program wrote it: a key
    /// that sealed something must not vanish in a power cut.
    ///
    /// # Errors
    ///
    /// [`KeysError`]: the file is missing, can be read by other users, or has a line that is no key. The text names the cure.
    pub fn open(path: &Path) -> Result<Keys, KeysError> {
        let keys = at(path, read_and_flush(path))?;
        let path = path.to_owned();
        Ok(Keys(Arc::new(KeyFile { path, keys })))
    }

    /// Adds a fresh key to the file and returns its id. A process that opens the file from now on seals with it; older keys
    /// still open. `Keys` that are already open go on as they are.
    ///
    /// # Errors
    ///
    /// [`KeysError`] as [`open`](Self::open); the file is then as it was.
    pub fn rotate(path: &Path) -> Result<String, KeysError> {
        at(path, rotate(path))
    }

    /// The ids of all keys, oldest first: the last one seals.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys.iter().map(|key| key.id.as_str())
    }

    /// Seals `plain` for this event with the newest key.
    pub(crate) fn seal(&self, event: Open<'_>, plain: &[u8]) -> Sealed {
        let key = self.0.keys.last().expect("a key file holds a key");
        Sealed {
            key: key.id.clone(),
            text: sealed::seal(&key.cipher, event, plain),
        }
    }

    /// Opens what was sealed for this event with the key of this id.
    pub(crate) fn open_sealed(
        &self,
        event: Open<'_>,
        key: &str,
        text: &str,
    ) -> Result<Vec<u8>, SealedError> {
        let Some(known) = self.0.keys.iter().find(|known| known.id == key) else {
            return Err(SealedError::UnknownKey {
                key: key.to_owned(),
                path: self.0.path.clone(),
            });
        };
        sealed::open(&known.cipher, event, text).ok_or_else(|| {
            let (event_id, key) = (event.id, key.to_owned());
            SealedError::Closed { event_id, key }
        })
    }
}

/// Where the keys are and their ids, never a key.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.ids().collect();
        f.debug_struct("Keys")
            .field("path", &self.0.path)
            .field("ids", &ids)
            .finish()
    }
}

impl Key {
    /// `1a2b3c4d` and 64 more digits, with one space between them. Lower case only: an id has one way to be written.
    fn parse(line: &[u8]) -> Option<Key> {
        let (id, rest) = line.split_at_checked(ID_DIGITS)?;
        let digits = rest.strip_prefix(b" ")?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if HEXLOWER.decode_len(digits.len()) != Ok(KEY_BYTES) {
            return None;
        }
        HEXLOWER.decode_mut(digits, &mut *bytes).ok()?;
        HEXLOWER.decode(id).ok()?;
        Some(Key {
            id: String::from_utf8_lossy(id).into_owned(),
            cipher: XChaCha20Poly1305::new((&*bytes).into()),
        })
    }
}

fn at<T>(path: &Path, done: Result<T, KeysProblem>) -> Result<T, KeysError> {
    done.map_err(|why| KeysError {
        path: path.to_owned(),
        why,
    })
}

fn read_and_flush(path: &Path) -> Result<Vec<Key>, KeysProblem> {
    let (file, text) = read(path)?;
    let keys = parse(&text)?;
    flush(path, &file)?;
    Ok(keys)
}

fn rotate(path: &Path) -> Result<String, KeysProblem> {
    // Behind a link lies the file that has to change; a rename would replace the link.
    let real = fs::canonicalize(path).map_err(unreadable)?;
    let folder = lock_folder(&real)?;
    let (file, mut text) = read(&real)?;
    let id = draw_id(&parse(&text)?);
    append_key(&mut text, &id);
    parse(&text)?; // what could not be read back is never written
    replace(&real, &file, &text, &folder)?;
    Ok(id)
}

/// The keys of a file's text, oldest first.
fn parse(text: &[u8]) -> Result<Vec<Key>, KeysProblem> {
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(KeysProblem::TooLarge);
    }
    let mut keys: Vec<Key> = Vec::new();
    for (line, content) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let content = content.trim_ascii();
        if content.is_empty() || content.starts_with(b"#") {
            continue;
        }
        let key = Key::parse(content).ok_or(KeysProblem::BadLine { line })?;
        if keys.iter().any(|known| known.id == key.id) {
            return Err(KeysProblem::DuplicateId { line, id: key.id });
        }
        keys.push(key);
    }
    match keys.is_empty() {
        true => Err(KeysProblem::Empty),
        false => Ok(keys),
    }
}

/// The file and its text, if no other user can read it.
fn read(path: &Path) -> Result<(File, Zeroizing<Vec<u8>>), KeysProblem> {
    let file = File::open(path).map_err(unreadable)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is no file").into());
    }
    let mode = about.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeysProblem::OpenToOthers { mode });
    }
    let limit = MAX_FILE_BYTES + 1;
    // Room for all of it at once and for a rotation: a buffer that grows leaves a copy behind that is never wiped.
    let room = about.len().min(limit) as usize + LINE_BYTES;
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    (&file).take(limit).read_to_end(&mut text)?;
    Ok((file, text))
}

fn unreadable(error: io::Error) -> KeysProblem {
    match error.kind() {
        ErrorKind::NotFound => KeysProblem::Missing,
        _ => error.into(),
    }
}

/// The file, and its name in the folder that really holds it.
fn flush(path: &Path, file: &File) -> io::Result<()> {
    file.sync_all()?;
    let real = fs::canonicalize(path)?;
    File::open(folder_of(&real))?.sync_all()
}

/// A file with one fresh key. If another process was faster, its file stays.
fn create(path: &Path) -> io::Result<()> {
    let folder = lock_folder(path)?;
    let mut text = Zeroizing::new(ABOUT.as_bytes().to_vec());
    append_key(&mut text, &draw_id(&[]));
    let aside = with_suffix(path);
    write_private(&aside, &text)?;
    // Unlike a rename a link never replaces anything, and unlike `create_new` it never shows half a file.
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(aside)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => folder.sync_all(),
    }
}

/// The new text in one step, with the owner of the old: an operator who rotates as root must not shut the service out.
fn replace(path: &Path, old: &File, text: &[u8], folder: &File) -> io::Result<()> {
    let aside = with_suffix(path);
    let new = write_private(&aside, text)?;
    fchown(&new, Some(old.metadata()?.uid()), None)?;
    fs::rename(aside, path)?;
    folder.sync_all()
}

/// A new file on the disk that only its owner can read. What a crash left under this name goes first, since it may
/// have another mode.
fn write_private(path: &Path, text: &[u8]) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    if written.is_err() {
        let _full = fs::remove_file(path);
    }
    written.map(|()| file)
}

/// Held while a key file is made or rotated: of two rotations at once, one would lose a key that has perhaps sealed.
/// The folder is locked, not the file, because the file is replaced. The kernel frees it with the handle.
fn lock_folder(path: &Path) -> io::Result<File> {
    let folder = File::open(folder_of(path))?;
    folder.lock()?;
    Ok(folder)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// `users.keys` is written as `users.keys.new` first.
fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// A fresh key as the text's last line. A person's editor may have left the line before without its end.
fn append_key(text: &mut Zeroizing<Vec<u8>>, id: &str) {
    text.reserve(LINE_BYTES);
    let end = if text.ends_with(b"\n") { "" } else { "\n" };
    let key = Zeroizing::new(draw::<KEY_BYTES>());
    let hex = Zeroizing::new(HEXLOWER.encode(&*key));
    for part in [end, id, " ", &hex, "\n"] {
        text.extend_from_slice(part.as_bytes());
    }
}

/// An id that no key of the file has.
fn draw_id(taken: &[Key]) -> String {
    loop {
        let id = HEXLOWER.encode(&draw::<{ ID_DIGITS / 2 }>());
        if !taken.iter().any(|key| key.id == id) {
            return id;
        }
    }
}

fn draw<const N: usize>() -> [u8; N] {
    let mut random = [0; N];
    getrandom::fill(&mut random).expect("the operating system has random bytes");
    random
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use tempfile::TempDir;

    use data_encoding::BASE64;

    use super::*;
    use crate::environment::System;
    use crate::event::EventId;
    use crate::event::sealed::{SECOND, STEP_BYTES};

    const PLAIN: &[u8] = br#"{"email":"ada@example.org"}"#;
    const ID: &str = "1a2b3c4d";
    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    /// A folder of its own, and the path of a key file in it.
    fn scratch() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.keys");
        (folder, path)
    }

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    /// An event that seals something.
    fn draw_event() -> Open<'static> {
        an_event(EventId::draw(&System))
    }

    fn an_event(id: EventId) -> Open<'static> {
        Open {
            id,
            event_type: "users.created.v1",
            subject: "ada",
            data: r#"{"name":"Ada"}"#,
        }
    }

    fn fresh() -> Keys {
        let (_folder, path) = scratch();
        Keys::open_or_create(&path).unwrap()
    }

    fn refusal(text: &str) -> String {
        let (_folder, path) = scratch();
        write(&path, text, 0o600);
        let refusal = Keys::open(&path).unwrap_err();
        format!("{refusal} {refusal:?}")
    }

    fn names_in(folder: &TempDir) -> Vec<String> {
        let names = fs::read_dir(folder.path()).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn what_is_sealed_opens() {
        let (keys, event) = (fresh(), draw_event());
        let long = vec![0; 200_000];
        for plain in [PLAIN, b"", b"\0", b"\x80", b"\x80\0\0", &long] {
            let sealed = keys.seal(event, plain);
            let opened = keys.open_sealed(event, &sealed.key, &sealed.text);
            assert_eq!(opened.unwrap(), plain);
        }
    }

    /// Sealed by libsodium (`crypto_aead_xchacha20poly1305_ietf_encrypt`), not by this code.
    #[test]
    fn what_was_sealed_once_opens_for_ever() {
        let (_folder, path) = scratch();
        write(&path, &format!("{ID} {HEX}\n"), 0o600);
        let keys = Keys::open(&path).unwrap();
        let event = an_event("0190a5f0-1234-7abc-8def-0123456789ab".parse().unwrap());
        let first = "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXrxtgHbGJFTS11ubaztwA6vPX3ah2dzzoDROAxQkEI5AW+QJuVZKEEP+y9EwK2trxm2t96G+FtJy2/Aj0E7JMVCByhs4YechP0tOji93jRUE=";
        let second = "2.QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXrxtgHbGJFTS11ubaztwA6vPX3ah2dzzoDROAxQkEI5AW+QJuVZKEEP+y9EwK2trxm2t96G+FtJy2/Aj0E7JMVG+Uw9xeVu7zTUrpXURbIEk=";
        for recorded in [first, second] {
            assert_eq!(keys.open_sealed(event, ID, recorded).unwrap(), PLAIN);
        }
    }

    #[test]
    fn a_part_moved_to_another_event_does_not_open() {
        let keys = fresh();
        let sealed = keys.seal(draw_event(), PLAIN);
        let other = draw_event();
        let refusal = keys.open_sealed(other, &sealed.key, &sealed.text);
        let refusal = refusal.unwrap_err();
        assert!(matches!(refusal, SealedError::Closed { .. }));
        let words = refusal.to_string();
        assert!(words.contains(&format!("event {}'s sealed part does not open", other.id)));
    }

    #[test]
    fn a_part_whose_event_was_changed_does_not_open() {
        let (keys, event) = (fresh(), draw_event());
        let sealed = keys.seal(event, PLAIN);
        let changed = [
            Open {
                event_type: "users.renamed.v1",
                ..event
            },
            Open {
                subject: "eve",
                ..event
            },
            Open {
                data: r#"{"name":"Eve"}"#,
                ..event
            },
            Open {
                subject: "ad", // and its last letter is the next part's first
                data: r#"a{"name":"Ada"}"#,
                ..event
            },
        ];
        for changed in changed {
            let opened = keys.open_sealed(changed, &sealed.key, &sealed.text);
            assert!(matches!(opened, Err(SealedError::Closed { .. })));
        }
        let first = sealed.text.strip_prefix(SECOND).unwrap();
        let opened = keys.open_sealed(event, &sealed.key, first);
        assert!(
            matches!(opened, Err(SealedError::Closed { .. })),
            "an older version is no way around"
        );
    }

    #[test]
    fn another_key_under_the_same_id_does_not_open() {
        let (_folder, path) = scratch();
        let event = draw_event();
        write(&path, &format!("{ID} {HEX}\n"), 0o600);
        let sealed = Keys::open(&path).unwrap().seal(event, PLAIN);
        write(&path, &format!("{ID} {}\n", HEX.replace("1f", "1e")), 0o600);
        let opened = Keys::open(&path).unwrap();
        let opened = opened.open_sealed(event, ID, &sealed.text);
        assert!(matches!(opened, Err(SealedError::Closed { .. })));
    }

    #[test]
    fn a_part_with_any_bit_flipped_does_not_open() {
        let (keys, event) = (fresh(), draw_event());
        let sealed = keys.seal(event, PLAIN);
        let text = sealed.text.strip_prefix(SECOND).unwrap();
        let bytes = BASE64.decode(text.as_bytes()).unwrap();
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let text = SECOND.to_owned() + &BASE64.encode(&flipped);
            let opened = keys.open_sealed(event, &sealed.key, &text);
            assert!(matches!(opened, Err(SealedError::Closed { .. })), "{bit}");
        }
    }

    #[test]
    fn what_is_no_sealed_part_at_all_does_not_open() {
        let (keys, event) = (fresh(), draw_event());
        let sealed = keys.seal(event, PLAIN);
        for text in [
            "",
            "AAAA",
            "no base64!",
            &sealed.text[..sealed.text.len() - 4],
        ] {
            let opened = keys.open_sealed(event, &sealed.key, text);
            assert!(matches!(opened, Err(SealedError::Closed { .. })), "{text}");
        }
    }

    #[test]
    fn the_same_sealed_twice_differs() {
        let (keys, event) = (fresh(), draw_event());
        let (once, twice) = (keys.seal(event, PLAIN), keys.seal(event, PLAIN));
        assert_ne!(once.text, twice.text);
        assert_ne!(once.text[..32], twice.text[..32], "the nonces are the same");
    }

    #[test]
    fn the_length_tells_only_its_step() {
        let (keys, event) = (fresh(), draw_event());
        let length = |plain: usize| keys.seal(event, &vec![b'a'; plain]).text.len();
        assert_eq!(length(0), length(STEP_BYTES - 1));
        assert!(length(STEP_BYTES - 1) < length(STEP_BYTES));
    }

    #[test]
    fn after_a_rotation_the_new_key_seals_and_the_old_one_opens() {
        let (folder, path) = scratch();
        let event = draw_event();
        let before = Keys::open_or_create(&path).unwrap();
        let old = before.seal(event, PLAIN);
        let id = Keys::rotate(&path).unwrap();
        let after = Keys::open(&path).unwrap();
        assert_eq!(after.ids().collect::<Vec<_>>(), [&old.key, &id]);
        assert_eq!(
            after.open_sealed(event, &old.key, &old.text).unwrap(),
            PLAIN
        );
        let new = after.seal(event, PLAIN);
        assert_eq!(new.key, id);
        assert_eq!(after.open_sealed(event, &id, &new.text).unwrap(), PLAIN);
        let refusal = before.open_sealed(event, &id, &new.text).unwrap_err();
        let path = path.display();
        let words =
            format!("sealed with key {id}, which is not in {path}: put the old key file back");
        assert_eq!(refusal.to_string(), words);
        assert_eq!(names_in(&folder), ["users.keys"]);
    }

    #[test]
    fn a_rotation_keeps_what_people_wrote_and_takes_over_what_a_crash_left() {
        let (folder, path) = scratch();
        let text = format!("# ours\r\n\r\n{ID} {HEX}"); // and no end of the line
        write(&path, &text, 0o400);
        write(&with_suffix(&path), "half", 0o644);
        let id = Keys::rotate(&path).unwrap();
        let rotated = fs::read_to_string(&path).unwrap();
        assert!(rotated.starts_with(&format!("{text}\n{id} ")));
        assert_eq!((mode(&path), names_in(&folder).len()), (0o600, 1));
        assert_eq!(Keys::open(&path).unwrap().ids().count(), 2);
    }

    #[test]
    fn a_rotation_changes_the_file_behind_a_link() {
        let (folder, path) = scratch();
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        let made = Keys::open_or_create(&link).unwrap_err(); // the volume behind it is away
        assert!(matches!(made.why, KeysProblem::Missing), "{made:?}");
        Keys::open_or_create(&path).unwrap();
        let id = Keys::rotate(&link).unwrap();
        assert!(link.is_symlink());
        assert_eq!(Keys::open(&path).unwrap().ids().last(), Some(id.as_str()));
    }

    #[test]
    fn rotations_at_once_lose_no_key() {
        let (_folder, path) = scratch();
        Keys::open_or_create(&path).unwrap();
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| Keys::rotate(&path).unwrap());
            }
        });
        assert_eq!(Keys::open(&path).unwrap().ids().count(), 9);
    }

    #[test]
    fn of_many_that_create_at_once_all_have_the_same_key() {
        let (folder, path) = scratch();
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| Keys::open_or_create(&path).unwrap());
            }
        });
        assert_eq!(Keys::open(&path).unwrap().ids().count(), 1);
        assert_eq!(names_in(&folder), ["users.keys"]);
    }

    /// The faster process finished between our look and our making.
    #[test]
    fn creating_never_replaces_a_key_file() {
        let (_folder, path) = scratch();
        write(&path, &format!("{ID} {HEX}\n"), 0o600);
        create(&path).unwrap();
        assert_eq!(Keys::open(&path).unwrap().ids().collect::<Vec<_>>(), [ID]);
    }

    #[test]
    fn a_missing_file_is_refused_where_none_may_be_made() {
        let (folder, path) = scratch();
        for refused in [Keys::open(&path).map(drop), Keys::rotate(&path).map(drop)] {
            assert!(matches!(refused.unwrap_err().why, KeysProblem::Missing));
        }
        assert!(names_in(&folder).is_empty());
    }

    #[test]
    fn a_folder_that_is_missing_or_in_the_files_place_is_refused() {
        let (folder, path) = scratch();
        for path in [path.join("users.keys"), folder.path().to_owned()] {
            fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
            let refused = Keys::open_or_create(&path).unwrap_err();
            assert!(
                matches!(refused.why, KeysProblem::Unusable(_)),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn the_file_is_its_owners_alone_and_says_what_it_is() {
        let (_folder, path) = scratch();
        let keys = Keys::open_or_create(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        Keys::rotate(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        let text = fs::read_to_string(&path).unwrap();
        let first = text.strip_prefix(ABOUT).unwrap().lines().next().unwrap();
        let (id, hex) = first.split_once(' ').unwrap();
        assert_eq!((id.len(), hex.len()), (8, 64));
        assert_eq!(keys.ids().collect::<Vec<_>>(), [id]);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_cure() {
        for open in [0o644, 0o640, 0o604, 0o602] {
            let (_folder, path) = scratch();
            write(&path, &format!("{ID} {HEX}\n"), open);
            let words = Keys::open_or_create(&path).unwrap_err().to_string();
            let cure = format!("(mode {open:04o}): chmod 600 it");
            assert!(words.ends_with(&cure), "{words}");
            let refused = Keys::rotate(&path).unwrap_err().why;
            assert!(matches!(refused, KeysProblem::OpenToOthers { .. }));
            assert_eq!(mode(&path), open);
        }
    }

    #[test]
    fn a_line_that_is_no_key_is_refused_by_its_number_and_not_shown() {
        let longer = format!("{ID} {HEX}0");
        let bare = HEX.to_owned();
        let capital = format!("{ID} {}", HEX.to_uppercase());
        let capital_id = format!("1A2B3C4D {HEX}");
        let signed = format!("{ID} +f{}", &HEX[2..]);
        let shorter = format!("{ID} {}", &HEX[1..]);
        let spaced = format!("{ID}  {HEX}");
        let id_only = ID.to_owned();
        for line in [
            longer, bare, capital, capital_id, signed, shorter, spaced, id_only,
        ] {
            let words = refusal(&format!("# ours\n\nffffffff {HEX}\n{line}\n"));
            assert!(words.contains("on line 4,"), "{words}");
            assert!(!words.contains("1a2b3c4d") && !words.contains("1A2B3C4D"));
            assert!(!words.to_lowercase().contains("0a0b0c"), "{words}");
        }
    }

    #[test]
    fn a_file_of_other_things_is_refused() {
        assert!(refusal(&format!("{ID} {HEX}\n{ID} {HEX}\n")).contains("on line 2 "));
        for text in ["", "\n", ABOUT] {
            assert!(refusal(text).contains("holds no key"));
        }
        let limit = usize::try_from(MAX_FILE_BYTES).unwrap();
        assert!(refusal(&"#".repeat(limit + 1)).contains("is larger than"));
        assert!(refusal("SQLite format 3\0").contains("on line 1,"));
    }

    #[test]
    fn no_key_is_ever_shown() {
        let (_folder, path) = scratch();
        write(&path, &format!("{ID} {HEX}\n"), 0o600);
        let keys = Keys::open(&path).unwrap();
        let event = draw_event();
        let sealed = keys.seal(event, PLAIN);
        let closed = keys
            .open_sealed(draw_event(), ID, &sealed.text)
            .unwrap_err();
        let unknown = keys
            .open_sealed(event, "00000000", &sealed.text)
            .unwrap_err();
        let shown =
            format!("{keys:?} {keys:#?} {sealed:?} {closed} {closed:?} {unknown} {unknown:?}");
        assert!(shown.contains(ID), "{shown}");
        for part in [HEX, &HEX[..8], &HEX[56..], "0, 1, 2, 3", "[0,\n"] {
            assert!(!shown.contains(part), "{shown}");
        }
    }

    #[test]
    fn keys_go_from_thread_to_thread() {
        fn shared<T: Send + Sync + Clone + 'static>(_: T) {}
        shared(fresh());
    }
}
