//! Sealed parts: what an event carries for its owner alone.
//!
//! A sealed part travels in the envelope as a version and base64 of nonce and ciphertext (XChaCha20-Poly1305), beside the
//! id of its key. What the event says openly is authenticated with it ([`Open`]), so a part that was moved to another event,
//! or whose event was changed, does not open. Others learn that there is one and its length in steps of [`STEP_BYTES`]; the
//! length of an address would already narrow a guess.

use std::path::PathBuf;

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, Payload};
use data_encoding::BASE64;

use super::EventId;

/// What is sealed is filled up to a multiple of this.
pub(super) const STEP_BYTES: usize = 64;
/// 192 bits: drawn at random they do not meet twice under one key, so none are counted.
const NONCE_BYTES: usize = 24;
/// What a sealed text of the second version begins with; the first had no such word, and base64 has no dot.
pub(super) const SECOND: &str = "2.";

/// A sealed part, as the envelope carries it.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// The id of the key.
    pub(crate) key: String,
    /// [`SECOND`] and base64 of nonce and ciphertext.
    pub(crate) text: String,
}

/// What an event says openly, to which its sealed part is bound.
#[derive(Clone, Copy)]
pub(crate) struct Open<'a> {
    pub(crate) id: EventId,
    pub(crate) event_type: &'a str,
    /// The aggregate's id.
    pub(crate) subject: &'a str,
    /// Byte for byte as in the envelope.
    pub(crate) data: &'a str,
}

/// Why a sealed part stays closed. Trying again cannot help: a person must look.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The key file lacks the key.
    #[error(
        "sealed with key {}, which is not in {path}: put the old key file back",
        .key.escape_debug()
    )]
    UnknownKey {
        /// Its id.
        key: String,
        /// The key file.
        path: PathBuf,
    },
    /// Which of these it is, the cipher cannot tell.
    #[error(
        "event {event_id}'s sealed part does not open: it or its event was changed, or it was sealed for another event or with another key that had the id {key}; restore the event and the key file from copies of one time"
    )]
    Closed {
        /// The event's id.
        event_id: EventId,
        /// The id of the key.
        key: String,
    },
}

impl Open<'_> {
    /// Each part with its length before it, so that no two events give the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let id = self.id.to_string();
        let mut bytes = SECOND.as_bytes().to_vec();
        for part in [&id, self.event_type, self.subject, self.data] {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part.as_bytes());
        }
        bytes
    }
}

pub(super) fn seal(cipher: &XChaCha20Poly1305, event: Open<'_>, plain: &[u8]) -> String {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).expect("the operating system has random bytes");
    let payload = Payload {
        msg: &padded(plain),
        aad: &event.bytes(),
    };
    let sealed = cipher.encrypt(&nonce.into(), payload);
    let sealed = sealed.expect("an event's part is far below the cipher's 256 GB");
    SECOND.to_owned() + &BASE64.encode(&[&nonce[..], &sealed].concat())
}

/// The first version bound a part to its event's id alone.
pub(super) fn open(cipher: &XChaCha20Poly1305, event: Open<'_>, text: &str) -> Option<Vec<u8>> {
    let (text, bound) = match text.strip_prefix(SECOND) {
        Some(text) => (text, event.bytes()),
        None => (text, event.id.to_string().into_bytes()),
    };
    let sealed = BASE64.decode(text.as_bytes()).ok()?;
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let payload = Payload {
        msg: sealed,
        aad: &bound,
    };
    unpadded(cipher.decrypt(&(*nonce).into(), payload).ok()?)
}

/// One bit that marks the end, then zeros (ISO/IEC 7816-4): any bytes can be told from what fills them up.
fn padded(plain: &[u8]) -> Vec<u8> {
    let length = (plain.len() + 1).next_multiple_of(STEP_BYTES);
    let mut padded = [plain, &[0x80]].concat();
    padded.resize(length, 0);
    padded
}

fn unpadded(mut padded: Vec<u8>) -> Option<Vec<u8>> {
    let end = padded.iter().rposition(|byte| *byte != 0)?;
    let marked = padded[end] == 0x80;
    padded.truncate(end);
    marked.then_some(padded)
}
