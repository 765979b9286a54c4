//! Searches every file below some folders for a text that must not be there, as it is and in common encodings.
//!
//! It finds text in one piece, not compressed, encrypted, or split between two pages of a database.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the text was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Find {
    /// Where it was found.
    pub file: PathBuf,
    /// Bytes from the beginning of the file.
    pub offset: usize,
    /// How it was written there.
    pub form: Form,
}

/// Its encoding there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Plain,
    /// As programs for Windows and some databases store text.
    Utf16,
    /// In hexadecimal digits.
    Hex,
    /// Within a longer encoded text, at any of the three offsets of its first byte in a group of three.
    Base64,
    /// In base64 for URLs.
    Base64Url,
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// A shorter one leaves so few letters of base64 that they occur by chance.
const LEAST_LENGTH: usize = 8;

/// Every occurrence of the text below these folders. A missing folder is an error: nothing would be searched.
pub fn search(folders: &[&Path], text: &str) -> io::Result<Vec<Find>> {
    assert!(text.len() >= LEAST_LENGTH, "{text:?} is found by chance");
    let patterns = patterns(text);
    let mut found = Vec::new();
    for file in files_below(folders)? {
        let bytes = fs::read(&file)?;
        found.extend(find(&bytes, &patterns).map(|(offset, form)| Find {
            file: file.clone(),
            offset,
            form,
        }));
    }
    Ok(found)
}

fn files_below(folders: &[&Path]) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (
        Vec::new(),
        folders.iter().map(PathBuf::from).collect::<Vec<_>>(),
    );
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

type Pattern = (Vec<u8>, Form);

fn patterns(text: &str) -> Vec<Pattern> {
    let plain = text.as_bytes();
    let utf16 = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let hex: String = plain.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut patterns = vec![
        (plain.to_vec(), Form::Plain),
        (utf16, Form::Utf16),
        (hex.to_uppercase().into_bytes(), Form::Hex),
        (hex.into_bytes(), Form::Hex),
    ];
    for before in 0..3 {
        patterns.push((base64_within(plain, before, BASE64), Form::Base64));
        patterns.push((base64_within(plain, before, BASE64_URL), Form::Base64Url));
    }
    // If the two alphabets agree, one pattern is enough.
    patterns.dedup_by(|next, kept| next.0 == kept.0);
    patterns
}

/// The letters that depend on these bytes alone, with this many other bytes `before` them in their group of three.
fn base64_within(bytes: &[u8], before: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let all = [&[0; 2][..before], bytes].concat();
    let (first, end) = ((before * 8).div_ceil(6), all.len() * 8 / 6);
    let bit = |place: usize| all[place / 8] >> (7 - place % 8) & 1;
    let letter = |index: usize| (0..6).fold(0, |letter, at| letter << 1 | bit(index * 6 + at));
    (first..end)
        .map(|index| alphabet[usize::from(letter(index))])
        .collect()
}

/// One pass over the bytes for all patterns, because files are large.
fn find<'a>(bytes: &'a [u8], patterns: &'a [Pattern]) -> impl Iterator<Item = (usize, Form)> + 'a {
    let mut begins = [false; 256];
    for (pattern, _) in patterns {
        begins[usize::from(pattern[0])] = true;
    }
    let candidates = bytes.iter().enumerate();
    let candidates = candidates.filter(move |(_, byte)| begins[usize::from(**byte)]);
    candidates.flat_map(move |(offset, _)| {
        let here = patterns
            .iter()
            .filter(move |(pattern, _)| bytes[offset..].starts_with(pattern));
        here.map(move |(_, form)| (offset, *form))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its bytes make `+` and `/` in base64, so that the two alphabets differ.
    const CANARY: &str = "canary>>>???~~~bird";

    #[test]
    fn it_is_found_in_every_planted_form_with_its_position() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("a/b");
        fs::create_dir_all(&deep).expect("made");
        let utf16: Vec<u8> = CANARY.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
        let planted = [
            ("plain", CANARY.as_bytes().to_vec(), Form::Plain),
            ("utf16", utf16, Form::Utf16),
            ("hex", hex.clone().into_bytes(), Form::Hex),
            ("hex-upper", hex.to_uppercase().into_bytes(), Form::Hex),
        ];
        for (name, bytes, form) in planted {
            let file = deep.join(name);
            fs::write(&file, [b"\x00\xffnoise", &bytes[..], b"more"].concat()).expect("written");
            let found = search(&[folder.path()], CANARY).expect("it is read");
            assert_eq!(
                found,
                [Find {
                    file: file.clone(),
                    offset: 7,
                    form
                }]
            );
            fs::remove_file(file).expect("removed");
        }
    }

    /// The system's encoder, not ours: a mistake in ours would match itself.
    #[test]
    fn it_is_found_in_base64_wherever_it_begins_in_a_group_of_three() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("encoded");
        for before in ["", "1", "12", "123"] {
            let script = format!("printf '%s' '{before}{CANARY}tail' | base64 -w0");
            let encoded = std::process::Command::new("sh")
                .args(["-c", &script])
                .output();
            let encoded = String::from_utf8(encoded.expect("base64 runs").stdout).expect("text");
            for (text, form) in [
                (encoded.clone(), Form::Base64),
                (encoded.replace('+', "-").replace('/', "_"), Form::Base64Url),
            ] {
                fs::write(&file, &text).expect("written");
                let found = search(&[folder.path()], CANARY).expect("it is read");
                assert!(
                    found.len() == 1 && found[0].form == form,
                    "{form:?} after {before:?}: {found:?} in {text}"
                );
            }
        }
    }

    #[test]
    fn an_absent_text_is_not_found_and_a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("x"), "canary>>>???~~~bir").expect("written");
        assert_eq!(search(&[folder.path()], CANARY).expect("it is read"), []);
        search(&[&folder.path().join("none")], CANARY).expect_err("nothing was looked at");
    }
}
