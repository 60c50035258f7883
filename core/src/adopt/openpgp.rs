//! OpenPGP messages under a passphrase (RFC 9580), as pgcrypto's `pgp_sym_encrypt()` and GnuPG's
//! `--symmetric` write them: AES, 3DES, CAST5 or Blowfish in CFB with a modification detection code,
//! which is required.

use aes::{Aes128, Aes192, Aes256};
use blowfish::Blowfish;
use cast5::Cast5;
use cfb_mode::Decryptor;
use cfb_mode::cipher::KeyIvInit;
use ctutils::CtEq;
use des::TdesEde3;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use super::form::base64_of_lines;
use super::inflate::{Wrapper, inflate};
use super::{Opened, Result};
use crate::error::AdoptError;

/// Packet types.
const SESSION_KEY: u8 = 3;
const COMPRESSED: u8 = 8;
const ENCRYPTED_WITHOUT_INTEGRITY: u8 = 9;
const MARKER: u8 = 10;
const LITERAL: u8 = 11;
const ENCRYPTED: u8 = 18;

/// The packet header of the modification detection code, and a SHA-1.
const DETECTION: usize = 22;
/// Most packets of a message that are looked at.
const MOST_PACKETS: usize = 16;

const ARMOUR: &[u8] = b"-----BEGIN PGP MESSAGE-----";
const ARMOUR_END: &[u8] = b"-----END PGP MESSAGE-----";

/// Opens a message, armoured or not.
pub fn open(passphrase: &[u8], value: &[u8]) -> Result<Opened> {
    let start = value.trim_ascii_start();
    if let Some(armoured) = start.strip_prefix(ARMOUR) {
        return open_binary(passphrase, &unarmoured(armoured).ok_or(AdoptError::Malformed)?);
    }
    open_binary(passphrase, value)
}

/// The bytes behind the headers of an armoured message. Its checksum is not looked at.
fn unarmoured(text: &[u8]) -> Option<Vec<u8>> {
    let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).skip(1);
    let mut base64 = Vec::with_capacity(text.len());
    let mut ended = false;
    for line in lines.skip_while(|line| !line.is_empty()) {
        ended = line == ARMOUR_END;
        if ended || line.starts_with(b"=") {
            break;
        }
        base64.extend_from_slice(line);
    }
    (ended || text.trim_ascii_end().ends_with(ARMOUR_END)).then_some(())?;
    base64_of_lines(&base64)
}

fn open_binary(passphrase: &[u8], message: &[u8]) -> Result<Opened> {
    let mut rest = message;
    let mut session_key = None;
    for index in 0..MOST_PACKETS {
        let is_first = index == 0;
        let packet = Packet::read(&mut rest).ok_or(if is_first {
            AdoptError::NotEncrypted
        } else {
            AdoptError::Malformed
        })?;
        match (packet.kind, &session_key) {
            (MARKER, _) => {}
            (SESSION_KEY, None) => session_key = Some(SessionKey::read(&packet.body)?),
            (SESSION_KEY, Some(_)) => {
                return Err(AdoptError::Unsupported("a message under several passphrases"));
            }
            (ENCRYPTED, Some(key)) => return decrypt(&key.derive(passphrase)?, &packet.body),
            (ENCRYPTED_WITHOUT_INTEGRITY, Some(_)) => {
                return Err(AdoptError::Unsupported("a message without integrity protection"));
            }
            _ if is_first => return Err(AdoptError::NotEncrypted),
            _ => return Err(AdoptError::Malformed),
        }
    }
    Err(AdoptError::Malformed)
}

/// A packet, with its parts put together.
struct Packet {
    kind: u8,
    body: Opened,
}

impl Packet {
    /// Reads one from the start of `input`; `None` if that is none.
    fn read(input: &mut &[u8]) -> Option<Self> {
        let header = take_byte(input)?;
        if header & 0x80 == 0 {
            return None;
        }
        if header & 0x40 == 0 {
            let length = match header & 3 {
                0 => usize::from(take_byte(input)?),
                1 => usize::from(u16::from_be_bytes(*take(input, 2)?.first_chunk()?)),
                2 => usize::try_from(u32::from_be_bytes(*take(input, 4)?.first_chunk()?)).ok()?,
                // until the end
                _ => input.len(),
            };
            let body = take(input, length)?;
            return Some(Self { kind: header >> 2 & 15, body: Zeroizing::new(body.to_vec()) });
        }
        // no longer than what follows: it never grows
        let mut body = Zeroizing::new(Vec::with_capacity(input.len()));
        loop {
            let (length, is_last) = match take_byte(input)? {
                first @ 0..=191 => (usize::from(first), true),
                first @ 192..=223 => {
                    let second = usize::from(take_byte(input)?);
                    (((usize::from(first) - 192) << 8) + second + 192, true)
                }
                255 => {
                    let length = u32::from_be_bytes(*take(input, 4)?.first_chunk()?);
                    (usize::try_from(length).ok()?, true)
                }
                partial => (1 << (partial & 31), false),
            };
            body.extend_from_slice(take(input, length)?);
            if is_last {
                return Some(Self { kind: header & 63, body });
            }
        }
    }
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(taken)
}

fn take_byte(input: &mut &[u8]) -> Option<u8> {
    take(input, 1)?.first().copied()
}

/// A cipher, by its number.
#[derive(Clone, Copy)]
enum Cipher {
    TripleDes,
    Cast5,
    Blowfish,
    Aes128,
    Aes192,
    Aes256,
}

impl Cipher {
    fn of(number: u8) -> Result<Self> {
        match number {
            2 => Ok(Self::TripleDes),
            3 => Ok(Self::Cast5),
            4 => Ok(Self::Blowfish),
            7 => Ok(Self::Aes128),
            8 => Ok(Self::Aes192),
            9 => Ok(Self::Aes256),
            _ => Err(AdoptError::Unsupported("a cipher other than AES, 3DES, CAST5 and Blowfish")),
        }
    }

    const fn key_length(self) -> usize {
        match self {
            Self::Cast5 | Self::Blowfish | Self::Aes128 => 16,
            Self::TripleDes | Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// Size of a block, in bytes.
    const fn block_size(self) -> usize {
        match self {
            Self::TripleDes | Self::Cast5 | Self::Blowfish => 8,
            Self::Aes128 | Self::Aes192 | Self::Aes256 => 16,
        }
    }

    /// Length of what stands before the packets, in bytes: a block of random ones, and its last two
    /// once more.
    const fn prefix(self) -> usize {
        self.block_size() + 2
    }

    /// Decrypts in CFB with an iv of zeros; `None` if the key has another length.
    fn decrypt(self, key: &[u8], buffer: &mut [u8]) -> Option<()> {
        let iv = &[0; 16][..self.block_size()];
        match self {
            Self::TripleDes => {
                Decryptor::<TdesEde3>::new_from_slices(key, iv).ok()?.decrypt(buffer)
            }
            Self::Cast5 => Decryptor::<Cast5>::new_from_slices(key, iv).ok()?.decrypt(buffer),
            Self::Blowfish => {
                Decryptor::<Blowfish>::new_from_slices(key, iv).ok()?.decrypt(buffer);
            }
            Self::Aes128 => Decryptor::<Aes128>::new_from_slices(key, iv).ok()?.decrypt(buffer),
            Self::Aes192 => Decryptor::<Aes192>::new_from_slices(key, iv).ok()?.decrypt(buffer),
            Self::Aes256 => Decryptor::<Aes256>::new_from_slices(key, iv).ok()?.decrypt(buffer),
        }
        Some(())
    }
}

/// How the key of a message is made of a passphrase.
struct SessionKey {
    cipher: Cipher,
    hash: Hash,
    salt: Option<[u8; 8]>,
    /// How many bytes are hashed at least. By its form at most 65,011,712.
    count: usize,
    /// The key itself, where it is encrypted under what is made of the passphrase.
    encrypted: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

/// A cipher and its key.
struct Key {
    cipher: Cipher,
    bytes: Opened,
}

impl SessionKey {
    fn read(mut body: &[u8]) -> Result<Self> {
        let body = &mut body;
        let mut byte = || take_byte(body).ok_or(AdoptError::Malformed);
        if byte()? != 4 {
            return Err(AdoptError::Unsupported("a version of OpenPGP other than 4"));
        }
        let cipher = Cipher::of(byte()?)?;
        let kind = byte()?;
        let hash = match byte()? {
            2 => Hash::Sha1,
            8 => Hash::Sha256,
            10 => Hash::Sha512,
            _ => {
                return Err(AdoptError::Unsupported(
                    "a hash other than SHA-1, SHA-256 and SHA-512",
                ));
            }
        };
        let salt = match kind {
            0 => None,
            1 | 3 => take(body, 8).and_then(|salt| salt.first_chunk().copied()),
            _ => return Err(AdoptError::Unsupported("this way to make a key of a passphrase")),
        };
        if kind != 0 && salt.is_none() {
            return Err(AdoptError::Malformed);
        }
        let count = if kind == 3 {
            let coded = usize::from(take_byte(body).ok_or(AdoptError::Malformed)?);
            (16 + (coded & 15)) << ((coded >> 4) + 6)
        } else {
            0
        };
        Ok(Self { cipher, hash, salt, count, encrypted: body.to_vec() })
    }

    fn derive(&self, passphrase: &[u8]) -> Result<Key> {
        let made = match self.hash {
            Hash::Sha1 => self.hashed::<Sha1>(passphrase),
            Hash::Sha256 => self.hashed::<Sha256>(passphrase),
            Hash::Sha512 => self.hashed::<Sha512>(passphrase),
        };
        if self.encrypted.is_empty() {
            return Ok(Key { cipher: self.cipher, bytes: made });
        }
        let mut own = Zeroizing::new(self.encrypted.clone());
        self.cipher.decrypt(&made, &mut own).ok_or(AdoptError::Malformed)?;
        // a wrong passphrase makes any cipher of it
        let cipher = Cipher::of(own[0]).map_err(|_| AdoptError::Failed)?;
        if own.len() != 1 + cipher.key_length() {
            return Err(AdoptError::Failed);
        }
        Ok(Key { cipher, bytes: Zeroizing::new(own[1..].to_vec()) })
    }

    /// The key that is made of the passphrase: salt and passphrase, over and over.
    fn hashed<D: Digest>(&self, passphrase: &[u8]) -> Opened {
        let length = self.cipher.key_length();
        let salt = self.salt.as_ref().map_or(&[][..], |salt| salt.as_slice());
        let mut input = Zeroizing::new(Vec::with_capacity(salt.len() + passphrase.len()));
        input.extend_from_slice(salt);
        input.extend_from_slice(passphrase);
        let mut key = Zeroizing::new(Vec::with_capacity(length + 64));
        let mut zeros = 0;
        while key.len() < length {
            let mut hash = D::new();
            (0..zeros).for_each(|_| hash.update([0]));
            let mut left = self.count.max(input.len());
            while left >= input.len() && !input.is_empty() {
                hash.update(&*input);
                left -= input.len();
            }
            hash.update(&input[..left.min(input.len())]);
            key.extend_from_slice(&hash.finalize());
            zeros += 1;
        }
        key.truncate(length);
        key
    }
}

/// Opens the encrypted packet, verifies it, and finds the text in it.
fn decrypt(key: &Key, body: &[u8]) -> Result<Opened> {
    let (version, ciphertext) = body.split_first().ok_or(AdoptError::Malformed)?;
    if *version != 1 {
        return Err(AdoptError::Unsupported("a version of OpenPGP other than 4"));
    }
    if ciphertext.len() < key.cipher.prefix() + DETECTION {
        return Err(AdoptError::Malformed);
    }
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    key.cipher.decrypt(&key.bytes, &mut buffer).ok_or(AdoptError::Failed)?;
    let (hashed, code) = buffer.split_at(buffer.len() - (DETECTION - 2));
    let found: [u8; DETECTION - 2] = Sha1::digest(hashed).into();
    let is_sound = found.as_slice().ct_eq(code).to_bool();
    if !is_sound || !hashed.ends_with(&[0xD3, 0x14]) {
        return Err(AdoptError::Failed);
    }
    literal(&hashed[key.cipher.prefix()..hashed.len() - 2], true)
}

/// The value in what was encrypted.
fn literal(mut packets: &[u8], may_be_compressed: bool) -> Result<Opened> {
    let packet = Packet::read(&mut packets).ok_or(AdoptError::Malformed)?;
    let mut body = packet.body.as_slice();
    match packet.kind {
        COMPRESSED if may_be_compressed => match take_byte(&mut body) {
            Some(0) => literal(body, false),
            Some(1) => literal(&inflate(body, Wrapper::None)?, false),
            Some(2) => literal(&inflate(body, Wrapper::Zlib)?, false),
            _ => Err(AdoptError::Unsupported("a compression other than ZIP and ZLIB")),
        },
        LITERAL => {
            // its form, and the length of a file name, the name, and a time
            let form = take_byte(&mut body);
            let name = take_byte(&mut body).and_then(|length| take(&mut body, length.into()));
            let time = take(&mut body, 4);
            if form.is_none() || name.is_none() || time.is_none() {
                return Err(AdoptError::Malformed);
            }
            Ok(Zeroizing::new(body.to_vec()))
        }
        _ => Err(AdoptError::Malformed),
    }
}
