//! What is needed to seal values of a field of an account, or to make their tokens, looked up once
//! for many values: field, keys, and the rights of the current user.
//!
//! Invariant: it is used only while catalog, user, field and account are those it was made for.

use std::cell::RefCell;
use std::rc::Rc;

use fieldcrypt_core::envelope::PlaintextType;
use fieldcrypt_core::field::DATABASE_ACCOUNT;
use fieldcrypt_core::normalize::Normalizer;
use fieldcrypt_core::token::{EQUALITY_SECTION_LENGTH, IndexToken, Kind, Scope};
use pgrx::pg_sys::Oid;

use super::cache::{self, OpenKey, TokenHandle};
use super::index;
use super::locked::Locked;
use crate::access::{Privilege, Privileges, refused, rights};
use crate::backend;
use crate::catalog::field::{By, Field};
use crate::catalog::{fields, grant, invalidation};
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

    fn is_current(&self) -> bool {
        self.generation == invalidation::current() && self.user == backend::user()
    }

    fn require(&self, privilege: Privilege) -> Result<()> {
        if self.privileges.contains(privilege) {
            Ok(())
        } else {
            let (field, account) = (self.field.name.clone(), self.account.to_string());
            Err(refused(privilege, field, account))
        }
    }
}

/// Makes tokens of a field of an account, or of the database.
pub struct Tokenizer {
    purpose: Purpose,
    scope: Scope,
    key: Locked<TokenHandle>,
}

/// Seals values of a field of an account, for whoever may encrypt.
pub struct Sealer {
    purpose: Purpose,
    pub key: Locked<OpenKey>,
    /// Of a field with equality tokens.
    tokens: Option<Locked<TokenHandle>>,
    /// Of a field with equality tokens that are comparable across accounts.
    database_tokens: Option<Locked<TokenHandle>>,
}

/// The token sections of a new value: none, the account's, or the account's and the database's.
///
/// Written where they are kept: to move them, just written, has the processor wait.
pub struct Sections {
    sections: [[u8; EQUALITY_SECTION_LENGTH]; 2],
    count: usize,
}

impl Default for Sections {
    fn default() -> Self {
        Self { sections: [[0; EQUALITY_SECTION_LENGTH]; 2], count: 0 }
    }
}

impl Sections {
    /// As they stand in an envelope.
    pub fn as_bytes(&self) -> &[u8] {
        self.sections[..self.count].as_flattened()
    }
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
        if let Some(last) = last
            && last.key.key.key_id() == index::of(account)?.active
        {
            return Ok(last);
        }
        let purpose = Purpose::new(generation, by, account)?;
        purpose.field.require_searchable(PlaintextType::Text)?;
        purpose.require(Privilege::Search)?;
        let key = cache::to_tokenize_under(index::of(account)?.active, account, &purpose.field)?;
        let tokenizer = Rc::new(Self { purpose, scope: Scope::Account, key });
        TOKENIZER.set(Some(Rc::clone(&tokenizer)));
        Ok(tokenizer)
    }

    /// For whoever may search in all accounts, a field whose tokens are comparable across them.
    pub fn to_search_everywhere(by: By<'_>) -> Result<Self> {
        let purpose = Purpose::new(invalidation::current(), by, grant::ALL)?;
        purpose.field.require_searchable(PlaintextType::Text)?;
        if purpose.field.scope != Scope::Database {
            return Err(Error::CannotSearch {
                field: purpose.field.name.clone(),
                reason: "Across accounts only fields with scope => 'database' can be searched.",
            });
        }
        purpose.require(Privilege::Search)?;
        let key = cache::to_tokenize(DATABASE_ACCOUNT, &purpose.field)?;
        Ok(Self { purpose, scope: Scope::Database, key })
    }

    /// The field.
    pub fn field(&self) -> &Field {
        &self.purpose.field
    }

    /// The equality tokens of a text under every key that values of the account may be under.
    pub fn candidates(by: By<'_>, account: &str, text: &str) -> Result<Vec<IndexToken>> {
        let newest = Self::to_search(by, account)?;
        let field = newest.field();
        let mut tokens = vec![newest.token(text)?];
        for &older in &*index::of(account)?.older {
            let key = cache::to_tokenize_under(older, account, field)?;
            tokens.extend(token(field.normalizer, &key, Kind::Exact, Scope::Account, text));
        }
        Ok(tokens)
    }

    /// The equality token of a text.
    pub fn token(&self, text: &str) -> Result<IndexToken> {
        self.token_by(self.purpose.field.normalizer, text)
    }

    /// The equality token of a text that is normalised like that.
    pub fn token_by(&self, normalizer: Normalizer, text: &str) -> Result<IndexToken> {
        token(normalizer, &self.key, Kind::Exact, self.scope, text).ok_or_else(|| Error::CannotSearch {
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
        let last = SEALER
            .with_borrow(Option::clone)
            .filter(|last| last.purpose.is_for(generation, by, account) && last.is_fresh());
        let sealer = match last {
            Some(last) => return Ok(last),
            None => {
                let purpose = Purpose::new(generation, by, account)?;
                purpose.require(Privilege::Encrypt)?;
                let key = cache::to_seal(account, &purpose.field)?;
                let (mut tokens, mut database_tokens) = (None, None);
                if purpose.field.equality.is_some() {
                    tokens = Some(cache::to_tokenize(account, &purpose.field)?);
                    if purpose.field.scope == Scope::Database {
                        database_tokens =
                            Some(cache::to_tokenize(DATABASE_ACCOUNT, &purpose.field)?);
                    }
                }
                Rc::new(Self { purpose, key, tokens, database_tokens })
            }
        };
        SEALER.set(Some(Rc::clone(&sealer)));
        Ok(sealer)
    }

    /// The field.
    pub fn field(&self) -> &Field {
        &self.purpose.field
    }

    /// What the current user may do with the field of the account.
    pub fn privileges(&self) -> Privileges {
        self.purpose.privileges
    }

    /// Whether it may be used again: for one that is kept outside of this module.
    pub fn is_current(&self, account: &str) -> bool {
        self.purpose.is_current() && *self.purpose.account == *account && self.is_fresh()
    }

    fn is_fresh(&self) -> bool {
        let tokens = [&self.tokens, &self.database_tokens];
        self.key.is_fresh() && tokens.into_iter().flatten().all(|tokens| tokens.is_fresh())
    }

    /// Writes the token sections of a text, if the field has tokens and the normalizer leaves
    /// something, to empty ones.
    ///
    /// Where it leaves nothing and values of the field have to be unique, or nothing else is kept,
    /// that is an error: such values would all pass for different, or be lost.
    pub fn write_sections(
        &self,
        text: &str,
        normalizer: Normalizer,
        sections: &mut Sections,
    ) -> Result<()> {
        let field = &*self.purpose.field;
        let (Some(kind), Some(account)) = (field.equality, &self.tokens) else { return Ok(()) };
        let database = self.database_tokens.as_ref().map(|key| (key, Scope::Database));
        for (key, scope) in [(account, Scope::Account)].into_iter().chain(database) {
            let written = normalizer.apply(text, |normalised| {
                let section = &mut sections.sections[sections.count];
                let token = key.key.equality(kind, scope, normalised);
                token.write_section(kind, normalizer, scope, section);
            });
            sections.count += usize::from(written.is_some());
        }
        let is_kept = kind != Kind::Unique && !field.token_only;
        if sections.count == 0 && (!is_kept || field.has_unique_column()?) {
            return Err(Error::NotUnique(field.name.clone()));
        }
        Ok(())
    }
}

fn token(
    normalizer: Normalizer,
    key: &TokenHandle,
    kind: Kind,
    scope: Scope,
    text: &str,
) -> Option<IndexToken> {
    normalizer.apply(text, |normalised| key.key.equality(kind, scope, normalised))
}
