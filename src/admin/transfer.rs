//! The keys of an account, as they are wrapped, go to another database under the same root key.
//!
//! Invariant: nothing is written before every key was unwrapped and verified. No two databases
//! seal under one key: what is imported only decrypts, and a new data key seals.

use base64ct::{Base64, Encoding};
use fieldcrypt_core::field::check_account;
use fieldcrypt_core::key::{KeyId, Purpose};
use fieldcrypt_document::jsonb::Container;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};
use serde::{Deserialize, Serialize};

use super::account::require_new;
use super::{account, root, rotation};
use crate::access::roles::{KEY_ADMIN, require_role};
use crate::audit::change::{self, About};
use crate::call::{Answer, Call};
use crate::catalog::account::require;
use crate::catalog::key::{KeyState, StoredKey};
use crate::catalog::write;
use crate::document::json;
use crate::error::{Error, Result};
use crate::keyring::{self, Root, without_traces};

type Answered = std::result::Result<Answer, ErrorReport>;

/// The only format so far.
const FORMAT: u32 = 1;

/// The keys of an account, in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    format: u32,
    account: String,
    keys: Vec<Key>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    key_id: u64,
    purpose: String,
    version: u32,
    state: String,
    /// Base64 (RFC 4648 section 4); null of a key that is destroyed.
    wrapped: Option<String>,
    wrapped_by: Option<String>,
    check_value: String,
}

impl Key {
    fn of(stored: &StoredKey) -> Self {
        Self {
            key_id: stored.id.number(),
            purpose: stored.purpose.name().to_owned(),
            version: stored.version,
            state: stored.state.name().to_owned(),
            wrapped: stored.is_in_use().then(|| Base64::encode_string(&stored.wrapped)),
            wrapped_by: stored.wrapped_by.clone(),
            check_value: Base64::encode_string(&stored.check_value),
        }
    }

    /// As it is stored; `None` if it is no key of an account.
    fn stored(self, account: &str) -> Option<StoredKey> {
        let of_accounts = [Purpose::Wrapping, Purpose::Data, Purpose::Index];
        let purpose = Purpose::from_name(&self.purpose).filter(|p| of_accounts.contains(p))?;
        let state = KeyState::from_name(&self.state)?;
        let wrapped = self.wrapped.map(|wrapped| Base64::decode_vec(&wrapped)).transpose().ok()?;
        let is_whole = wrapped.is_some() == (state != KeyState::Destroyed)
            && self.wrapped_by.is_some() == (purpose == Purpose::Wrapping)
            && i32::try_from(self.version).is_ok_and(|version| version > 0);
        is_whole.then_some(StoredKey {
            id: KeyId::new(self.key_id)?,
            account: account.to_owned(),
            purpose,
            version: self.version,
            state,
            wrapped: wrapped.unwrap_or_default(),
            wrapped_by: self.wrapped_by,
            check_value: Base64::decode_vec(&self.check_value).ok()?,
        })
    }
}

/// `export_keys(account text) → jsonb`: the wrapped keys of an account.
#[pg_extern(sql = false)]
fn export_keys(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(KEY_ADMIN, "export_keys")?;
    let account = call.required_text(0, "the account")?;
    check_account(&account).map_err(|error| Error::Name("account", error))?;
    change::begins("export_keys", About { account: Some(&account), ..About::default() })?;
    require(&account)?;
    let keys = StoredKey::of_account(&account)?.iter().map(Key::of).collect();
    let keys = Keys { format: FORMAT, account: account.into_owned(), keys };
    let text = serde_json::to_string(&keys).map_err(|_| Error::Catalog("keys"))?;
    Ok(Answer::datum(json::parse(&text)?))
}

/// `import_keys(keys jsonb) → text`: makes an account of what `export_keys()` returned in another
/// database under the same root key; its name.
#[pg_extern(sql = false)]
fn import_keys(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(KEY_ADMIN, "import_keys")?;
    if call.is_null(0) {
        return Err(Error::Null("the keys").into());
    }
    let text = json::document_text(Container::new(call.bytes(0)).map_err(Error::from)?)?;
    let Keys { format, account, keys } = serde_json::from_str(&text).map_err(|_| not_keys())?;
    check_account(&account).map_err(|error| Error::Name("account", error))?;
    let keys: Option<Vec<_>> = keys.into_iter().map(|key| key.stored(&account)).collect();
    let keys = keys.filter(|_| format == FORMAT).ok_or_else(not_keys)?;
    require_new(&account)?;
    let wrapping_key = the_active(&keys, Purpose::Wrapping)?;
    the_active(&keys, Purpose::Data)?;
    the_active(&keys, Purpose::Index)?;
    let name = wrapping_key.wrapped_by.as_deref().ok_or_else(not_keys)?;
    let detail = Some(format!("root key {name}, {} keys", keys.len()));
    change::begins("import_keys", About { account: Some(&account), detail, field: None })?;
    let under = keyring::root(name)?;
    under.verify()?;
    verify(&keys, wrapping_key, &under)?;
    account::prepare_database()?;
    root::use_root(&under)?;
    if !account::add(&account)? {
        return Err(Error::AccountExists(account).into());
    }
    for key in &keys {
        store(key)?;
    }
    change::add_detail(&format!(
        "new key {}",
        rotation::new_key(&account, Purpose::Data)?.number()
    ));
    Ok(Answer::text(&account))
}

fn not_keys() -> Error {
    let hint = "It is what fieldcrypt.export_keys(...) has returned, of an account that is whole.";
    Error::InvalidArgument { name: "keys", hint: hint.to_owned() }
}

/// The one active key of a purpose.
fn the_active(keys: &[StoredKey], purpose: Purpose) -> Result<&StoredKey> {
    let mut active = keys.iter().filter(|key| key.purpose == purpose && key.state.may_encrypt());
    match (active.next(), active.next()) {
        (Some(key), None) => Ok(key),
        _ => Err(not_keys()),
    }
}

/// Fails unless each key is the one that its check value is of, and all are of that account.
fn verify(keys: &[StoredKey], wrapping_key: &StoredKey, under: &Root) -> Result<()> {
    without_traces(|| {
        let (secret, _) = under.unwrap(wrapping_key)?;
        let others = keys.iter().filter(|key| key.id != wrapping_key.id && key.is_in_use());
        for key in others {
            keyring::unwrap(&secret, key)?;
        }
        Ok(())
    })
}

fn store(key: &StoredKey) -> Result<()> {
    let stored = write::run(
        "INSERT INTO fieldcrypt.account_key \
         (key_id, account, purpose, version, state, wrapped, wrapped_by, check_value) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING 1",
        &[
            key.id.number().cast_signed().into(),
            key.account.as_str().into(),
            key.purpose.name().into(),
            key.version.cast_signed().into(),
            key.state.name().into(),
            key.is_in_use().then_some(key.wrapped.as_slice()).into(),
            key.wrapped_by.as_deref().into(),
            key.check_value.as_slice().into(),
        ],
    )?;
    if stored == 0 { Err(Error::KeyExists(key.id)) } else { Ok(()) }
}
