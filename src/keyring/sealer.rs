//! What is needed to seal values of a field of an account, or to make their tokens, looked up once
//! for many values: field, keys, and the rights of the current user.
//!
//! Invariant: it is used only while catalog, user, field and account are those it was made for.

use std::cell::RefCell;
use std::rc::Rc;

use fieldcrypt_core::token::{IndexToken, Scope};
use pgrx::pg_sys::Oid;

use super::cache::{self, OpenKey, TokenHandle};
use super::locked::Locked;
use crate::access::{Privilege, Privileges, rights};
use crate::backend;
use crate::catalog::field::{By, Field};
use crate::catalog::{fields, invalidation};
use crate::error::{Error, Result};

/// For whom and for what.
struct Purpose {
    generation: u64,
    user: Oid,
    field: Rc<Field>,
    account: Rc<str>,
    privileges: Privileges,
}

impl Purpose {
    fn new(generation: u64, by: By<'_>, account: &str) -> Result<Self> {
        let user = backend::user();
        let field = fields::require(by)?;
        let privileges = rights::of(user, account, &field.name)?;
        Ok(Self { generation, user, field, account: account.into(), privileges })
    }

    fn is_for(&self, generation: u64, by: By<'_>, account: &str) -> bool {
        self.generation == generation
            && self.user == backend::user()
            && self.field.is(by)
            && *self.account == *account
    }

    fn require(&self, privilege: Privilege) -> Result<()> {
        if self.privileges.contains(privilege) {
            Ok(())
        } else {
            let (field, account) = (self.field.name.clone(), self.account.to_string());
            Err(Error::Privilege(privilege, field, account))
        }
    }
}

/// Makes tokens of a field of an account.
pub struct Tokenizer {
    purpose: Purpose,
    key: Locked<TokenHandle>,
}

/// Seals values of a field of an account, for whoever may encrypt.
pub struct Sealer {
    purpose: Purpose,
    pub key: Locked<OpenKey>,
    /// Of a field with equality tokens.
    tokens: Option<Locked<TokenHandle>>,
}

thread_local! {
    static TOKENIZER: RefCell<Option<Rc<Tokenizer>>> = const { RefCell::new(None) };
    static SEALER: RefCell<Option<Rc<Sealer>>> = const { RefCell::new(None) };
}

impl Tokenizer {
    /// For whoever may search.
    pub fn to_search(by: By<'_>, account: &str) -> Result<Rc<Self>> {
        let generation = invalidation::current();
        let last = TOKENIZER
            .with_borrow(Option::clone)
            .filter(|last| last.purpose.is_for(generation, by, account) && last.key.is_fresh());
        let tokenizer = match last {
            Some(last) => return Ok(last),
            None => {
                let purpose = Purpose::new(generation, by, account)?;
                purpose.field.require_searchable()?;
                purpose.require(Privilege::Search)?;
                let key = cache::to_tokenize(account, &purpose.field)?;
                Rc::new(Self { purpose, key })
            }
        };
        TOKENIZER.set(Some(Rc::clone(&tokenizer)));
        Ok(tokenizer)
    }

    /// The field.
    pub fn field(&self) -> &Field {
        &self.purpose.field
    }

    /// The equality token of a text.
    pub fn token(&self, text: &str) -> Result<IndexToken> {
        token(&self.purpose.field, &self.key, text).ok_or_else(|| Error::CannotSearch {
            field: self.purpose.field.name.clone(),
            reason: "Nothing of the value is left by the field's normalizer, so no token was made \
                     of such values.",
        })
    }
}

impl Sealer {
    /// For whoever may encrypt.
    pub fn to_encrypt(by: By<'_>, account: &str) -> Result<Rc<Self>> {
        let generation = invalidation::current();
        let last = SEALER.with_borrow(Option::clone).filter(|last| {
            last.purpose.is_for(generation, by, account)
                && last.key.is_fresh()
                && last.tokens.as_ref().is_none_or(|tokens| tokens.is_fresh())
        });
        let sealer = match last {
            Some(last) => return Ok(last),
            None => {
                let purpose = Purpose::new(generation, by, account)?;
                purpose.require(Privilege::Encrypt)?;
                let key = cache::to_seal(account, &purpose.field)?;
                let tokens = if purpose.field.exact {
                    Some(cache::to_tokenize(account, &purpose.field)?)
                } else {
                    None
                };
                Rc::new(Self { purpose, key, tokens })
            }
        };
        SEALER.set(Some(Rc::clone(&sealer)));
        Ok(sealer)
    }

    /// The field.
    pub fn field(&self) -> &Field {
        &self.purpose.field
    }

    /// The equality token of a text, if the field has them and the normalizer leaves something.
    ///
    /// Where it leaves nothing and a column of the field is unique, that is an error: such values
    /// would all pass for different.
    pub fn token(&self, text: &str) -> Result<Option<IndexToken>> {
        let Some(tokens) = &self.tokens else { return Ok(None) };
        let field = &self.purpose.field;
        let token = token(field, tokens, text);
        if token.is_none() && field.has_unique_column()? {
            return Err(Error::NotUnique(field.name.clone()));
        }
        Ok(token)
    }
}

fn token(field: &Field, key: &TokenHandle, text: &str) -> Option<IndexToken> {
    field.normalizer.apply(text, |normalised| key.key.equality(Scope::Account, normalised))
}
