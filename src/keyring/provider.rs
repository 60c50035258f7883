//! Where root keys come from. None of these ever makes a key.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64ct::Encoding;
use fieldcrypt_core::key::{KEY_LENGTH, SecretKey};
use zeroize::Zeroizing;

use super::command::Command;
use super::locked::{Locked, without_traces};
use crate::error::{Error, Result};

/// Longest file that can hold a key: 64 hex digits and white space, with room to spare.
const LONGEST_FILE: u64 = 1024;

/// Where one root key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// A file of 64 hex digits or 44 base64 characters.
    File(PathBuf),
    /// An environment variable of the server, for development.
    Environment(String),
    /// A key service, by way of a program.
    Command(Command),
}

/// What can be had of a root key.
#[derive(Clone, Debug)]
pub enum Held {
    /// Its bytes.
    Key(Locked<SecretKey>),
    /// The program that uses it.
    Command(Command),
}

impl Provider {
    /// Its name in the keyring file.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Environment(_) => "env",
            Self::Command(_) => "command",
        }
    }

    /// The file that holds the key, or the program that is to be asked.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Command(command) => Some(&command.program),
            Self::Environment(_) => None,
        }
    }

    /// Reads the key, or looks at the program that is to be asked.
    pub fn hold(&self, root: &str) -> Result<Held> {
        match self {
            Self::Command(command) => {
                command.check(root)?;
                Ok(Held::Command(command.clone()))
            }
            Self::File(_) | Self::Environment(_) => {
                without_traces(|| Ok(Held::Key(Locked::new(self.read(root)?))))
            }
        }
    }

    fn read(&self, root: &str) -> Result<SecretKey> {
        let text = self.read_text(
            &format!("root key \"{root}\""),
            "It holds 64 hexadecimal digits or 44 base64 characters, and nothing else.",
        )?;
        decode(&text, root)
    }

    /// Reads the text of a secret, which errors call `what`; `contents` says what it holds.
    pub(super) fn read_text(
        &self,
        what: &str,
        contents: &'static str,
    ) -> Result<Zeroizing<String>> {
        match self {
            Self::File(path) => {
                check_file(path, &format!("file of {what}"), 0o077)?;
                // with room for all of it: one that grows leaves copies behind
                let mut text = Zeroizing::new(String::with_capacity(2 * LONGEST_FILE as usize));
                let read = fs::File::open(path)
                    .and_then(|file| file.take(LONGEST_FILE).read_to_string(&mut text));
                read.map_err(|_| keyring(format!("could not read the file of {what}"), contents))?;
                Ok(text)
            }
            Self::Environment(name) => std::env::var(name).map(Zeroizing::new).map_err(|_| {
                keyring(
                    format!("environment variable of {what} is not set"),
                    "Set it in the environment that starts the server.",
                )
            }),
            Self::Command(_) => {
                Err(keyring(format!("a key service does not give out {what}"), contents))
            }
        }
    }
}

pub(super) fn keyring(message: String, hint: &'static str) -> Error {
    Error::Keyring(message, hint)
}

/// Decodes hexadecimal or base64, and refuses what cannot have been random.
fn decode(text: &str, root: &str) -> Result<SecretKey> {
    let text = text.trim();
    let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
    let decoded = match text.len() {
        64 => {
            base16ct::mixed::decode(text, bytes.as_mut_slice()).is_ok_and(|b| b.len() == KEY_LENGTH)
        }
        44 => base64ct::Base64::decode(text, bytes.as_mut_slice())
            .is_ok_and(|b| b.len() == KEY_LENGTH),
        43 => base64ct::Base64Unpadded::decode(text, bytes.as_mut_slice())
            .is_ok_and(|b| b.len() == KEY_LENGTH),
        _ => {
            return Err(keyring(
                format!("root key \"{root}\" has the wrong length"),
                "A root key is 32 random bytes, as 64 hexadecimal digits or 44 base64 characters: \
                 openssl rand -hex 32.",
            ));
        }
    };
    if !decoded {
        return Err(keyring(
            format!("root key \"{root}\" is neither hexadecimal nor base64"),
            "A root key is 32 random bytes, as 64 hexadecimal digits or 44 base64 characters: \
             openssl rand -hex 32.",
        ));
    }
    if is_weak(bytes.as_slice()) {
        return Err(keyring(
            format!("root key \"{root}\" is not random: its bytes repeat"),
            "Make one with: openssl rand -hex 32.",
        ));
    }
    Ok(SecretKey::from_bytes(&mut bytes))
}

/// Whether the bytes are a repetition, or have fewer than 8 different values: of 2^256 random
/// keys fewer than 2^85 do.
pub(super) fn is_weak(bytes: &[u8]) -> bool {
    let length = bytes.len();
    let mut repeats = [1, 2, 4, 8, 16].into_iter().filter(|&n| n < length);
    let repeats = repeats.any(|n| bytes[n..] == bytes[..length - n]);
    let mut seen = [false; 256];
    bytes.iter().for_each(|&b| seen[usize::from(b)] = true);
    repeats || seen.iter().filter(|&&seen| seen).count() < 8
}

/// Refuses a file in the data directory or a tablespace, which every base backup carries, and one
/// that others may use: `forbidden` are the mode bits that it must not have.
pub(super) fn check_file(path: &Path, what: &str, forbidden: u32) -> Result<()> {
    if !path.is_absolute() {
        return Err(keyring(format!("path of the {what} is not absolute"), "Name the whole path."));
    }
    let real = fs::canonicalize(path).map_err(|_| {
        keyring(
            format!("the {what} does not exist or cannot be reached"),
            "fieldcrypt never makes a key. Put the file back, or correct its path.",
        )
    })?;
    if data_directories().iter().any(|directory| real.starts_with(directory)) {
        return Err(keyring(
            format!("the {what} is in the data directory or a tablespace"),
            "Keep it elsewhere: base backups would carry it.",
        ));
    }
    let metadata = fs::metadata(&real)
        .map_err(|_| keyring(format!("could not examine the {what}"), "Check its permissions."))?;
    if !metadata.is_file() {
        return Err(keyring(format!("the {what} is not a regular file"), "Name a file."));
    }
    let server = rustix::process::geteuid().as_raw();
    if metadata.uid() != server && metadata.uid() != 0 {
        return Err(keyring(
            format!("the {what} belongs to another user"),
            "It has to belong to the user that runs the server, or to root.",
        ));
    }
    if metadata.mode() & forbidden != 0 {
        return Err(keyring(
            format!("the {what} can be used by other users"),
            "chmod 0400 the file of a key, and 0600 the keyring file.",
        ));
    }
    Ok(())
}

/// The real paths of the data directory and every tablespace.
fn data_directories() -> Vec<PathBuf> {
    // SAFETY: set at server start, NUL-terminated, never changed
    let data = unsafe {
        let path = pgrx::pg_sys::DataDir;
        (!path.is_null()).then(|| std::ffi::CStr::from_ptr(path).to_string_lossy().into_owned())
    };
    let Some(data) = data.map(PathBuf::from) else { return Vec::new() };
    let links = fs::read_dir(data.join("pg_tblspc")).into_iter().flatten().flatten();
    let wal = data.join("pg_wal");
    let all = links.map(|link| link.path()).chain([wal, data]);
    all.filter_map(|path| fs::canonicalize(path).ok()).collect()
}

#[cfg(any(test, feature = "pg_test"))]
pub mod tests {
    use super::*;

    /// Whether a text is refused as a key, and why.
    pub fn refusal(text: &str) -> Option<String> {
        decode(text, "main").err().map(|error| error.to_string())
    }
}
