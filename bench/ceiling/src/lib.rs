//! What `bench/run` measures fieldcrypt against: the cost of calling a pgrx function at all, and
//! of the ciphers alone, with a fixed key that is set up once, no rights and no envelope. Never
//! installed with the extension: the bench loads the library by its path.
//!
//! Sealed values are nonce, ciphertext, tag. Written as pgrx functions usually are: borrowed bytes
//! in, a `Vec` out.

use std::cell::RefCell;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadCore, AeadInOut, Nonce, Tag};
use aes_gcm::{Aes256Gcm, KeyInit};
use pgrx::pg_extern;
use xaes_256_gcm::Xaes256Gcm;

pgrx::pg_module_magic!();

const KEY: [u8; 32] = [7; 32];
const TAG_LENGTH: usize = 16;
const POOL: usize = 4096;

thread_local! {
    static GCM: Aes256Gcm = Aes256Gcm::new(&KEY.into());
    static XAES: Xaes256Gcm = Xaes256Gcm::new(&KEY.into());
    /// Random bytes for nonces, and how many of them are used.
    static NONCES: RefCell<([u8; POOL], usize)> = const { RefCell::new(([0; POOL], POOL)) };
}

/// The length of a value: what any function pays to be called.
#[pg_extern(sql = false, immutable, parallel_safe)]
fn noop(value: &[u8]) -> i32 {
    value.len() as i32
}

#[pg_extern(sql = false, immutable, parallel_safe)]
fn open_gcm(sealed: &[u8]) -> Vec<u8> {
    GCM.with(|cipher| open(cipher, sealed))
}

#[pg_extern(sql = false, immutable, parallel_safe)]
fn open_xaes(sealed: &[u8]) -> Vec<u8> {
    XAES.with(|cipher| open(cipher, sealed))
}

#[pg_extern(sql = false, volatile, parallel_safe)]
fn seal_gcm(value: &[u8]) -> Vec<u8> {
    GCM.with(|cipher| seal(cipher, value))
}

#[pg_extern(sql = false, volatile, parallel_safe)]
fn seal_xaes(value: &[u8]) -> Vec<u8> {
    XAES.with(|cipher| seal(cipher, value))
}

fn open<C: AeadInOut + AeadCore>(cipher: &C, sealed: &[u8]) -> Vec<u8> {
    let (nonce, rest) = sealed.split_at(Nonce::<C>::default().len());
    let (ciphertext, tag) = rest.split_at(rest.len() - TAG_LENGTH);
    let nonce = Nonce::<C>::try_from(nonce).expect("length of a nonce");
    let tag = Tag::<C>::try_from(tag).expect("length of a tag");
    let mut value = ciphertext.to_vec();
    cipher
        .decrypt_inout_detached(&nonce, &[], InOutBuf::from(value.as_mut_slice()), &tag)
        .expect("a value sealed by this library");
    value
}

fn seal<C: AeadInOut + AeadCore>(cipher: &C, value: &[u8]) -> Vec<u8> {
    let mut nonce = Nonce::<C>::default();
    random(&mut nonce);
    let mut sealed = Vec::with_capacity(nonce.len() + value.len() + TAG_LENGTH);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(value);
    let body = InOutBuf::from(&mut sealed[nonce.len()..]);
    let tag = cipher.encrypt_inout_detached(&nonce, &[], body).expect("a short value");
    sealed.extend_from_slice(&tag);
    sealed
}

fn random(bytes: &mut [u8]) {
    NONCES.with_borrow_mut(|(pool, used)| {
        if *used + bytes.len() > POOL {
            getrandom::fill(pool).expect("random bytes");
            *used = 0;
        }
        bytes.copy_from_slice(&pool[*used..*used + bytes.len()]);
        *used += bytes.len();
    });
}
