//! Makes `data/vectors.json` and `data/malformed.json`: fixed keys and nonces, the same bytes each
//! time. `cargo run -p fieldcrypt-core --example make_vectors` writes the files.

use aes::Aes256;
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use fieldcrypt_core::envelope::{Envelope, PlaintextType, to_text};
use fieldcrypt_core::field::{ACCOUNT_LENGTH, DATABASE_ACCOUNT, FieldId, account_tag};
use fieldcrypt_core::key::{KEY_LENGTH, KeyId, Purpose, SecretKey};
use fieldcrypt_core::normalize::Normalizer;
use fieldcrypt_core::padding::Padding;
use fieldcrypt_core::seal::{FieldKey, Form};
use fieldcrypt_core::suite::{Cipher, Suite};
use fieldcrypt_core::token::{
    IndexToken, Kind, MEMBER_TOKEN_LENGTH, Scope, TokenKey, equality_section, member_section,
};
use fieldcrypt_core::wrap::{KeyName, check_value, root_check_value};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

use super::reference::{associated_data, expand, field_key, lp};

/// Bytes that look random and are the same each time.
fn fixed(name: &str) -> [u8; KEY_LENGTH] {
    Sha256::digest(format!("fieldcrypt test vectors: {name}")).into()
}

fn fixed_number(name: &str) -> u64 {
    fixed(name)[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn secret(bytes: &[u8; KEY_LENGTH]) -> SecretKey {
    SecretKey::from_bytes(&mut bytes.clone())
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    base16ct::lower::encode_string(bytes.as_ref())
}

fn hex_id(number: u64) -> String {
    hex(number.to_be_bytes())
}

/// A random id, or an account's index key id.
fn key_id(name: &str, index_account: Option<&str>) -> KeyId {
    let random = fixed_number(name);
    let number = match index_account {
        Some(account) => u64::from(account_tag(account)) << 32 | random >> 32,
        None => random >> 1,
    };
    KeyId::new(number).unwrap()
}

/// One equality token, in a section of its own.
#[derive(Clone)]
struct Token {
    account: String,
    kind: Kind,
    scope: Scope,
    normalizer: Normalizer,
}

impl Token {
    fn of(account: &str, scope: Scope, normalizer: Normalizer) -> Self {
        Self { account: account.to_owned(), kind: Kind::Exact, scope, normalizer }
    }

    fn unique(&self) -> Self {
        Self { kind: Kind::Unique, ..self.clone() }
    }

    /// The token of `value` in `field`, and what `vectors.json` says about the index key.
    fn make(&self, field_id: FieldId, value: &str) -> (IndexToken, Value) {
        let index_key = fixed(&format!("index key of {}", self.account));
        let id = key_id(&format!("index key id of {}", self.account), Some(&self.account));
        let normalised = normalised(self.normalizer, value).unwrap();
        let made = TokenKey::derive(&secret(&index_key), id, field_id, &self.account).equality(
            self.kind,
            self.scope,
            normalised.as_bytes(),
        );
        let token_key = field_key(&index_key, "index", 1, 32, field_id.0, &self.account);
        let value = json!({
            "account": self.account,
            "kind": self.kind as u8,
            "scope": self.scope as u8,
            "normalizer": self.normalizer.number(),
            "normalizer_version": self.normalizer.version(),
            "index_key": hex(index_key),
            "index_key_id": hex_id(id.number()),
            "token_key": hex(&token_key[..32]),
            "normalised": normalised,
            "token": hex(made.token),
        });
        (made, value)
    }
}

/// The tokens of members of a value, in a section of their own: field and value of each.
#[derive(Clone)]
struct Members {
    /// How their exact tokens are made.
    token: Token,
    members: Vec<(&'static str, &'static str)>,
}

impl Members {
    fn of(token: &Token, members: &[(&'static str, &'static str)]) -> Self {
        Self { token: token.clone(), members: members.to_vec() }
    }

    /// The section, and what `vectors.json` says about each member.
    fn section(&self) -> (Vec<u8>, Value) {
        let Token { scope, normalizer, .. } = self.token;
        let mut key_id = None;
        let mut starts = vec![];
        let mut values = vec![];
        for &(field, member) in &self.members {
            let (made, mut value) = self.token.make(FieldId::of(field), member);
            value["field"] = field.into();
            value["value"] = member.into();
            let start: [u8; MEMBER_TOKEN_LENGTH] = *made.token.first_chunk().unwrap();
            value["member_token"] = hex(start).into();
            key_id = Some(made.key_id);
            starts.push(start);
            values.push(value);
        }
        (member_section(key_id.unwrap(), normalizer, scope, &starts).unwrap(), values.into())
    }
}

/// One envelope of `vectors.json`.
#[derive(Clone)]
struct Case {
    name: String,
    account: String,
    purpose: Purpose,
    field: Option<String>,
    suite: Suite,
    plaintext_type: PlaintextType,
    padding: Padding,
    /// The text of the value.
    value: String,
    /// The canonical bytes, where they are not those of the text.
    canonical: Option<Vec<u8>>,
    token_only: bool,
    tokens: Vec<Token>,
    /// Groups of reserved kinds behind the last token.
    groups: Vec<u8>,
    members: Vec<Members>,
    /// Sections of later versions of the normalizers, behind those of the tokens.
    later: Vec<u8>,
}

impl Case {
    fn plain(suite: Suite) -> Self {
        Self {
            name: suite.name().to_owned(),
            account: "acme".to_owned(),
            purpose: Purpose::Data,
            field: Some("lead.ssn".to_owned()),
            suite,
            plaintext_type: PlaintextType::Text,
            padding: Padding::None,
            value: "123-45-6789".to_owned(),
            canonical: None,
            token_only: false,
            tokens: vec![],
            groups: vec![],
            members: vec![],
            later: vec![],
        }
    }

    fn named(&self, name: &str) -> Self {
        Self { name: format!("{}, {name}", self.name), ..self.clone() }
    }

    /// A value that is given by its canonical bytes and their text.
    fn typed(&self, plaintext_type: PlaintextType, canonical: &[u8], value: &str) -> Self {
        let name = format!("{} {value}", plaintext_type.name());
        let (value, canonical) = (value.to_owned(), Some(canonical.to_vec()));
        Self { plaintext_type, value, canonical, ..self.named(&name) }
    }

    /// What is sealed: nothing if only the tokens are kept.
    fn plaintext(&self) -> &[u8] {
        match &self.canonical {
            _ if self.token_only => b"",
            Some(canonical) => canonical,
            None => self.value.as_bytes(),
        }
    }

    fn to_json(&self) -> Value {
        let field_id = self.field.as_deref().map_or(FieldId::NONE, FieldId::of);
        // there is one transit key, whatever stands in place of the account
        let (purpose, owner) = match self.purpose {
            Purpose::Transit => ("transit", DATABASE_ACCOUNT),
            other => (other.name(), self.account.as_str()),
        };
        let key = fixed(&format!("{purpose} key of {owner}"));
        let key_id = key_id(&format!("{purpose} key id of {owner}"), None);
        let mut sections = vec![];
        let mut tokens = vec![];
        for token in &self.tokens {
            let (made, value) = token.make(field_id, &self.value);
            let Token { kind, scope, normalizer, .. } = *token;
            sections.extend(equality_section(&made, kind, normalizer, scope));
            tokens.push(value);
        }
        if !self.groups.is_empty() {
            // the last section takes the groups in
            let start = sections.len() - fieldcrypt_core::token::EQUALITY_SECTION_LENGTH;
            sections[start + 1] += self.groups.len() as u8;
            sections.extend(&self.groups);
        }
        let mut members = vec![];
        for section in &self.members {
            let (section, value) = section.section();
            sections.extend(section);
            members.push(value);
        }
        sections.extend(&self.later);
        let nonce = &fixed(&format!("nonce of {}", self.name))[..self.suite.nonce_length()];
        let envelope = self.seal(&secret(&key), key_id, field_id, &sections, nonce);
        let parsed = Envelope::parse(&envelope).unwrap();
        let suite = self.suite;
        let length = suite.key_length();
        let derived =
            field_key(&key, purpose, suite.number(), length as u16, field_id.0, &self.account);
        json!({
            "name": self.name,
            "account": self.account,
            "purpose": purpose,
            "key": hex(key),
            "key_id": hex_id(key_id.number()),
            "field": self.field,
            "field_id": hex_id(field_id.0),
            "suite": suite.number(),
            "plaintext_type": self.plaintext_type as u8,
            "padding": self.padding.name(),
            "padded_length": self.padding.padded_length(self.plaintext().len()),
            "token_only": self.token_only,
            "value": self.value,
            "plaintext": match self.canonical {
                Some(_) => hex(self.plaintext()),
                None => String::from_utf8(self.plaintext().to_vec()).unwrap(),
            },
            "tokens": tokens,
            "reserved_groups": hex(&self.groups),
            "members": members,
            "later_sections": hex(&self.later),
            "token_sections": hex(sections),
            "header": hex(parsed.header_bytes()),
            "associated_data": hex(associated_data(parsed.header_bytes())),
            "field_key": hex(&derived[..length]),
            "nonce": hex(nonce),
            "ciphertext": hex(parsed.ciphertext()),
            "tag": hex(parsed.tag()),
            "envelope": hex(&envelope),
            "text": to_text(&envelope),
        })
    }

    fn seal(
        &self,
        key: &SecretKey,
        key_id: KeyId,
        field_id: FieldId,
        sections: &[u8],
        nonce: &[u8],
    ) -> Vec<u8> {
        let field_key =
            FieldKey::derive(key, key_id, self.purpose, &self.account, self.suite, field_id);
        let Self { plaintext_type, padding, token_only, .. } = *self;
        let plaintext = self.plaintext();
        let length = field_key.sealed_length(plaintext.len(), padding, sections.len()).unwrap();
        let mut envelope = vec![0; length];
        let fill = |buffer: &mut [u8]| {
            buffer.copy_from_slice(nonce);
            Ok(())
        };
        let form = Form { plaintext_type, padding, token_only };
        field_key.seal(plaintext, form, sections, fill, &mut envelope).unwrap();
        envelope
    }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for suite in Suite::ALL {
        let plain = Case::plain(suite);
        let token = Token::of("acme", Scope::Account, Normalizer::Digits);
        for padding in Padding::ALL {
            let name = format!("padding {}", padding.name());
            let padded = Case { padding, ..plain.named(&name) };
            cases.push(padded.clone());
            cases.push(Case { tokens: vec![token.clone()], ..padded.named("token") });
        }
        for (length, padding) in [
            (0_usize, Padding::None),
            (0, Padding::To32),
            (15, Padding::None),
            (16, Padding::None),
            (17, Padding::None),
            (31, Padding::To32),
            (32, Padding::To32),
            (1000, Padding::None),
        ] {
            let value = "0123456789".repeat(length.div_ceil(10))[..length].to_owned();
            let name = format!("{length} bytes, padding {}", padding.name());
            cases.push(Case { value, padding, ..plain.named(&name) });
        }
        cases.push(Case {
            value: String::new(),
            tokens: vec![token],
            ..plain.named("token of the empty value")
        });
        // with a field: sealed by a role, whose OID stands in place of the account
        let transit = Case { purpose: Purpose::Transit, ..plain.named("in transit") };
        for role in ["10", "16384", "4294967295"] {
            let account = format!("*row*/{role}");
            cases.push(Case { account, ..transit.named(&format!("role {role}")) });
        }
        let account = DATABASE_ACCOUNT.to_owned();
        let homeless = Case { account, field: None, ..transit.named("without a field") };
        cases.push(homeless.clone());
        cases.push(Case { padding: Padding::To64, ..homeless.named("padded") });
    }
    let plain = Case::plain(Suite::Xaes256Gcm);
    for (name, account) in [
        ("account beyond ASCII", "Ünï 1 日本"),
        ("account with a colon", "a:b"),
        ("longest account", &"x".repeat(ACCOUNT_LENGTH)),
    ] {
        cases.push(Case { account: account.to_owned(), ..plain.named(name) });
    }
    for field in ["a", "lead.address.street_2", &"f".repeat(63)] {
        cases
            .push(Case { field: Some(field.to_owned()), ..plain.named(&format!("field {field}")) });
    }
    for (normalizer, value) in [
        (Normalizer::None, " Ann SMITH "),
        (Normalizer::Casefold, "Straße ﬁle ΣΊΣΥΦΟΣ"),
        (Normalizer::Email, "  Ann@Example.COM\n"),
        (Normalizer::Phone, "0049 (30) 1234"),
    ] {
        let tokens = vec![Token::of("acme", Scope::Account, normalizer)];
        let value = value.to_owned();
        cases.push(Case { value, tokens, ..plain.named(normalizer.name()) });
    }
    let token = Token::of("acme", Scope::Account, Normalizer::None);
    let across = Token::of(DATABASE_ACCOUNT, Scope::Database, Normalizer::None);
    cases.push(Case { tokens: vec![across.clone()], ..plain.named("token of the scope database") });
    cases.push(Case { tokens: vec![token.clone(), across], ..plain.named("two sections") });
    let tokens = vec![token];
    for (name, groups) in [
        ("groups of reserved kinds", [group(3, 0, 4, 3), group(5, 0, 2, 5)]),
        ("tokens of 32 bytes and of 1", [group(3, 0, 32, 1), group(4, 0, 1, 9)]),
    ] {
        let groups = groups.concat();
        cases.push(Case { tokens: tokens.clone(), groups, ..plain.named(name) });
    }
    // what a later release may write: this one cannot make such tokens, but the value opens
    let exact = group(1, 0, 16, 1);
    let index_key_id = key_id("index key id of acme", Some("acme")).number();
    let sections = |version| section(index_key_id, Normalizer::Email.number(), version, &exact);
    for (name, tokens, later) in [
        ("normalizer version 2", vec![], sections(2)),
        ("normalizer version 255", vec![], sections(255)),
        ("normalizer versions 1, 2 and 3", tokens, [sections(2), sections(3)].concat()),
    ] {
        cases.push(Case { tokens, later, ..plain.named(name) });
    }
    for suite in Suite::ALL {
        unique_and_token_only(suite, &mut cases);
    }
    json_values(&mut cases);
    member_sections(&mut cases);
    typed_values(&mut cases);
    cases
}

fn unique_and_token_only(suite: Suite, cases: &mut Vec<Case>) {
    let plain = Case::plain(suite);
    let token = Token::of("acme", Scope::Account, Normalizer::Digits);
    let across = Token::of(DATABASE_ACCOUNT, Scope::Database, Normalizer::Digits);
    let only = Case { token_only: true, ..plain.named("token only") };
    for (kind, account, database) in
        [("exact", token.clone(), across.clone()), ("unique", token.unique(), across.unique())]
    {
        let (one, two) = (vec![account.clone()], vec![account, database]);
        for case in [&plain, &only] {
            let named = case.named(kind);
            cases.push(Case { tokens: one.clone(), ..named.clone() });
            cases.push(Case { tokens: two.clone(), ..named.named("account and database") });
        }
    }
    let padded = Case { padding: Padding::To32, ..plain.named("unique, padding 32") };
    cases.push(Case { tokens: vec![token.unique()], ..padded });
    // a value that normalises to nothing
    cases.push(Case { value: "n/a".to_owned(), ..only.named("no token") });
    cases.push(Case { value: String::new(), tokens: vec![token], ..only.named("empty value") });
}

fn json_values(cases: &mut Vec<Case>) {
    let object = r#"{"a": 1, "b": [true, null, 2.50], "ab": {"c": "\"\\\n\u0001/日本"}, "é": ""}"#;
    for suite in Suite::ALL {
        let plaintext_type = PlaintextType::Json;
        let json = Case { plaintext_type, ..Case::plain(suite).named("json") };
        let of = |name: &str, value: &str| Case { value: value.to_owned(), ..json.named(name) };
        cases.push(of("object", object));
        cases.push(Case { padding: Padding::To128, ..of("object, padding 128", object) });
        let purpose = Purpose::Transit;
        let account = "*row*/10".to_owned();
        cases.push(Case { purpose, account, ..of("object, in transit, role 10", object) });
        for value in ["[]", "{}", "null", "false", r#"[1, -0.5, "x", {}, []]"#] {
            cases.push(of(value, value));
        }
        // over the JSON text
        let token = Token::of("acme", Scope::Account, Normalizer::None);
        for value in ["true", "0", "-12.50", "123456789012345678901234567890"] {
            let tokens = vec![token.clone()];
            cases.push(Case { tokens, ..of(&format!("{value}, token"), value) });
        }
        let only = Case { token_only: true, ..of("12.50, token only", "12.50") };
        cases.push(Case { tokens: vec![token.unique()], ..only });
    }
}

fn member_sections(cases: &mut Vec<Case>) {
    let account = Token::of("acme", Scope::Account, Normalizer::None);
    let of = |token: &Token, normalizer| Token { normalizer, ..token.clone() };
    let across = Token::of(DATABASE_ACCOUNT, Scope::Database, Normalizer::None);
    // keys in jsonb's order: the shorter ones first
    let value = r#"{"ssn": "123-45-6789", "vip": true, "email": "Ann@Example.COM", "score": 42.50, "tax_id": "98 765"}"#;
    let digits = [("lead.ssn", "123-45-6789"), ("lead.tax_id", "98 765")];
    let plain = [("lead.vip", "true"), ("lead.score", "42.50")];
    let email = [("lead.email", "Ann@Example.COM")];
    for suite in Suite::ALL {
        let case = Case {
            field: Some("lead.pii".to_owned()),
            plaintext_type: PlaintextType::Json,
            value: value.to_owned(),
            ..Case::plain(suite).named("members")
        };
        let one = Members::of(&of(&account, Normalizer::Digits), &digits);
        cases.push(Case { members: vec![one.clone()], ..case.named("one section") });
        let members = vec![
            Members::of(&account, &plain),
            one,
            Members::of(&of(&account, Normalizer::Email), &email),
            Members::of(&of(&across, Normalizer::Digits), &digits[..1]),
        ];
        cases.push(Case { members: members.clone(), ..case.named("four sections") });
        let padded = Case { padding: Padding::To256, ..case.named("four sections, padding 256") };
        cases.push(Case { members, ..padded });
    }
    // behind a token of the whole value
    let members = vec![Members::of(&account, &[("lead.vip", "true")])];
    let behind = Case::plain(Suite::Xaes256Gcm).named("members behind a token");
    let tokens = vec![account];
    cases.push(Case { tokens, members, ..behind });
}

/// Values of the types that are no text: canonical bytes and text of each.
fn values() -> Vec<(PlaintextType, Vec<u8>, &'static str)> {
    let bytea = |bytes: &[u8], text| (PlaintextType::Bytea, bytes.to_vec(), text);
    let bigint = |number: i64, text| (PlaintextType::Bigint, number.to_be_bytes().to_vec(), text);
    let numeric = |text: &'static str| (PlaintextType::Numeric, text.as_bytes().to_vec(), text);
    let date = |days: i32, text| (PlaintextType::Date, days.to_be_bytes().to_vec(), text);
    let time = |microseconds: i64, text| {
        (PlaintextType::Timestamptz, microseconds.to_be_bytes().to_vec(), text)
    };
    let uuid = |number: u128, text| (PlaintextType::Uuid, number.to_be_bytes().to_vec(), text);
    vec![
        bytea(b"", "\\x"),
        bytea(b"\0", "\\x00"),
        bytea(b"\x89PNG\r\n\x1A\n", "\\x89504e470d0a1a0a"),
        bigint(0, "0"),
        bigint(42, "42"),
        bigint(-1, "-1"),
        bigint(i64::MAX, "9223372036854775807"),
        bigint(i64::MIN, "-9223372036854775808"),
        numeric("0"),
        numeric("-0.50"),
        numeric("1234567890123456789012345678901234567890.000"),
        numeric("NaN"),
        numeric("Infinity"),
        numeric("-Infinity"),
        date(0, "2000-01-01"),
        date(-1, "1999-12-31"),
        date(8_825, "2024-02-29"),
        date(-36_465, "1900-03-01"),
        date(-730_119, "0001-01-01"),
        date(-730_120, "0001-12-31 BC"),
        date(-2_451_545, "4714-11-24 BC"),
        date(2_145_031_948, "5874897-12-31"),
        date(i32::MAX, "infinity"),
        date(i32::MIN, "-infinity"),
        time(0, "2000-01-01 00:00:00.000000+00"),
        time(-1, "1999-12-31 23:59:59.999999+00"),
        time(762_527_696_123_456, "2024-02-29 13:14:56.123456+00"),
        time(-63_082_281_600_000_001, "0001-12-31 23:59:59.999999+00 BC"),
        time(-211_813_488_000_000_000, "4714-11-24 00:00:00.000000+00 BC"),
        time(9_223_371_331_199_999_999, "294276-12-31 23:59:59.999999+00"),
        time(i64::MAX, "infinity"),
        time(i64::MIN, "-infinity"),
        (PlaintextType::Boolean, vec![0], "false"),
        (PlaintextType::Boolean, vec![1], "true"),
        uuid(0, "00000000-0000-0000-0000-000000000000"),
        uuid(0x0F1E_2D3C_4B5A_6978_8796_A5B4_C3D2_E1F0, "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"),
        uuid(u128::MAX, "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    ]
}

fn typed_values(cases: &mut Vec<Case>) {
    let values = values();
    let plain = Case::plain(Suite::Xaes256Gcm);
    for (plaintext_type, canonical, text) in &values {
        cases.push(plain.typed(*plaintext_type, canonical, text));
    }
    // over the text, whose normalizer is none
    let token = Token::of("acme", Scope::Account, Normalizer::None);
    let across = Token::of(DATABASE_ACCOUNT, Scope::Database, Normalizer::None);
    for suite in Suite::ALL {
        let plain = Case::plain(suite);
        let mut seen = vec![];
        for (plaintext_type, canonical, text) in &values {
            let has_tokens = matches!(
                plaintext_type,
                PlaintextType::Bigint
                    | PlaintextType::Date
                    | PlaintextType::Boolean
                    | PlaintextType::Uuid
            );
            let typed = plain.typed(*plaintext_type, canonical, text);
            if has_tokens {
                cases.push(Case { tokens: vec![token.clone()], ..typed.named("token") });
            }
            if seen.contains(plaintext_type) {
                continue;
            }
            // once for each type
            seen.push(*plaintext_type);
            let padded = Case { padding: Padding::To32, ..typed.named("padding 32") };
            cases.push(padded);
            let purpose = Purpose::Transit;
            let (account, field) = ("*row*/10".to_owned(), None);
            let transit = typed.named("in transit");
            cases.push(Case { purpose, account, ..transit.named("role 10") });
            let account = DATABASE_ACCOUNT.to_owned();
            cases.push(Case { purpose, account, field, ..transit.named("without a field") });
            if has_tokens {
                let two = vec![token.unique(), across.unique()];
                let only = Case { token_only: true, ..typed.named("token only") };
                cases.push(Case { tokens: two, ..typed.named("unique, account and database") });
                cases.push(Case { tokens: vec![token.clone()], ..only });
            }
        }
    }
}

/// The contents of `data/vectors.json`.
pub fn vectors() -> Value {
    let envelopes: Vec<Value> = cases().iter().map(Case::to_json).collect();
    let fields = ["a", "lead.ssn", "lead.address.street_2", &"f".repeat(63)].map(|name| {
        let id = FieldId::of(name);
        json!({ "name": name, "id": hex_id(id.0), "type_modifier": id.handle() })
    });
    let accounts = ["acme", "a:b", "Ünï 1 日本", DATABASE_ACCOUNT]
        .map(|account| json!({ "account": account, "tag": account_tag(account) }));
    let normalised: Vec<Value> = [
        (Normalizer::None, " A b "),
        (Normalizer::None, ""),
        (Normalizer::Casefold, "Ann SMITH"),
        (Normalizer::Casefold, "É"),
        (Normalizer::Casefold, "ŉ ẞ Ǆ ĳ ℡"),
        (Normalizer::Casefold, ""),
        (Normalizer::Casefold, " a\u{3000}"),
        (Normalizer::Casefold, "ΣΊΣΥΦΟΣ σίσυφος"),
        (Normalizer::Casefold, "İSTANBUL ıI"),
        (Normalizer::Casefold, "\u{212A}\u{212B}\u{2126}"),
        (Normalizer::Casefold, "Å A\u{30A}"),
        (Normalizer::Casefold, "\u{AB70}\u{13A0}\u{10400}"),
        // decomposed before it is folded: the iota below folds to a letter
        (Normalizer::Casefold, "\u{3B1}\u{345}\u{301}"),
        (Normalizer::Casefold, "ᾼ ᾳ ᾲ"),
        // folded again after its compatibility form: that has capital letters
        (Normalizer::Casefold, "㎅ \u{1D400} Ⓐ"),
        (Normalizer::Casefold, "각\u{1100}\u{1161}\u{11A8}"),
        (Normalizer::Digits, "１２３ 45"),
        (Normalizer::Digits, "٣ n/a"),
        (Normalizer::Digits, ""),
        (Normalizer::Digits, "½ ① ² \u{1D7CE}"),
        (Normalizer::Digits, "n/a"),
        (Normalizer::Email, "\u{3000}Ann@Example.COM\u{A0}\n"),
        (Normalizer::Email, "   "),
        (Normalizer::Email, ""),
        (Normalizer::Email, "A B@example.com"),
        (Normalizer::Email, "\u{85}\u{2028}a@b.c\u{1680}\u{205F}"),
        // neither is White_Space
        (Normalizer::Email, "\u{200B}a@b.c\u{FEFF}"),
        // its compatibility form begins with a space
        (Normalizer::Email, "\u{A8}a@b.c"),
        (Normalizer::Phone, "+49 (30) 1234"),
        (Normalizer::Phone, "００49 30 1234"),
        (Normalizer::Phone, "030/1234"),
        (Normalizer::Phone, "+"),
        (Normalizer::Phone, "00"),
        (Normalizer::Phone, ""),
        (Normalizer::Phone, "n/a"),
        (Normalizer::Phone, "\u{3000}\t＋49 30"),
        (Normalizer::Phone, "⁺49 30"),
        (Normalizer::Phone, "(+49) 30"),
        (Normalizer::Phone, "+0049 30"),
        (Normalizer::Phone, "0-0 49"),
        (Normalizer::Phone, "tel 0049"),
        (Normalizer::Phone, "000"),
        (Normalizer::Phone, "0"),
    ]
    .map(|(normalizer, text)| {
        json!({
            "normalizer": normalizer.number(),
            "text": text,
            "normalised": normalised(normalizer, text),
        })
    })
    .to_vec();
    json!({
        "description": "Envelopes of format 1 and what they are made of; see docs/envelope.md. \
            Bytes and ids are hexadecimal, texts are UTF-8. `value` is the text of a value; \
            `plaintext` is a text for the plaintext types 1 and 3, bytes for the others. The keys \
            are for tests only.",
        "envelopes": envelopes,
        "field_ids": fields,
        "account_tags": accounts,
        "normalised": normalised,
        "wrapped_keys": wrapped_keys(),
        "root_keys": [
            { "key": hex(fixed("root")), "check_value": hex(root_check_value(&secret(&fixed("root")))) },
            { "key": hex([0; 32]), "check_value": hex(root_check_value(&secret(&[0; 32]))) },
        ],
    })
}

/// A wrapped key with the nonce given, which the crate itself does not allow.
fn wrap(wrapping_key: &[u8; 32], associated_data: &[u8], nonce: &[u8], key: &[u8; 32]) -> Vec<u8> {
    let mut buffer = [0; 64];
    buffer[..32].copy_from_slice(wrapping_key);
    let (mut body, mut tag) = (*key, [0; 16]);
    Cipher::new(Suite::Aes256Gcm, &buffer)
        .encrypt(nonce, associated_data, &mut body, 32, &mut tag)
        .unwrap();
    [&[1], nonce, &body, &tag].concat()
}

fn wrap_associated_data(name: &KeyName<'_>) -> Vec<u8> {
    lp(&[
        b"fieldcrypt/1/key-wrap",
        &[1],
        name.account.as_bytes(),
        name.purpose.name().as_bytes(),
        &name.version.to_be_bytes(),
        &name.id.number().to_be_bytes(),
    ])
}

fn wrapped_keys() -> Vec<Value> {
    [
        ("acme", Purpose::Wrapping, 1),
        ("acme", Purpose::Data, 1),
        ("acme", Purpose::Data, 2),
        ("acme", Purpose::Data, u32::MAX),
        ("acme", Purpose::Index, 1),
        ("Ünï 1 日本", Purpose::Data, 1),
        (DATABASE_ACCOUNT, Purpose::Wrapping, 1),
        (DATABASE_ACCOUNT, Purpose::Transit, 1),
        (DATABASE_ACCOUNT, Purpose::Index, 7),
    ]
    .map(|(account, purpose, version)| {
        let label = format!("{} {version} of {account}", purpose.name());
        let index_account = (purpose == Purpose::Index).then_some(account);
        let id = key_id(&format!("id of {label}"), index_account);
        let name = KeyName { account, purpose, version, id };
        let wrapping_key = match purpose {
            Purpose::Wrapping => fixed("root"),
            _ => fixed(&format!("wrapping 1 of {account}")),
        };
        let key = fixed(&label);
        let nonce = &fixed(&format!("nonce of {label}"))[..12];
        let associated_data = wrap_associated_data(&name);
        json!({
            "account": account,
            "purpose": purpose.name(),
            "version": version,
            "key_id": hex_id(id.number()),
            "wrapping_key": hex(wrapping_key),
            "key": hex(key),
            "nonce": hex(nonce),
            "associated_data": hex(&associated_data),
            "wrapped": hex(wrap(&wrapping_key, &associated_data, nonce, &key)),
            "check_value": hex(check_value(&secret(&key), &name)),
        })
    })
    .to_vec()
}

/// A group with tokens that look random.
fn group(kind: u8, scope: u8, width: u8, count: u16) -> Vec<u8> {
    let mut group = vec![kind, scope, width];
    group.extend(count.to_be_bytes());
    let tokens = usize::from(width) * usize::from(count);
    group.extend(fixed("group").iter().cycle().take(tokens));
    group
}

fn normalised(normalizer: Normalizer, text: &str) -> Option<String> {
    normalizer.apply(text, |bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

/// A section with the length that it has.
fn section(key_id: u64, normalizer: u8, version: u8, groups: &[u8]) -> Vec<u8> {
    let mut section = (10 + groups.len() as u16).to_be_bytes().to_vec();
    section.extend(key_id.to_be_bytes());
    section.extend([normalizer, version]);
    section.extend(groups);
    section
}

/// Any envelope, well formed or not. The rest is as long as an envelope of `suite` with 32 bytes
/// of ciphertext.
#[derive(Clone)]
struct Raw {
    magic: u8,
    format: u8,
    suite: u8,
    plaintext_type: u8,
    flags: u8,
    key_id: u64,
    field_id: u64,
    tokens: Vec<u8>,
    tokens_length: Option<u16>,
}

impl Raw {
    fn new() -> Self {
        Self {
            magic: 0xFC,
            format: 1,
            suite: 1,
            plaintext_type: 1,
            flags: 0,
            key_id: fixed_number("malformed") >> 1,
            field_id: FieldId::of("lead.ssn").0,
            tokens: vec![],
            tokens_length: None,
        }
    }

    fn header(&self) -> Vec<u8> {
        let mut header = vec![self.magic, self.format, self.suite, self.plaintext_type, self.flags];
        header.extend(self.key_id.to_be_bytes());
        header.extend(self.field_id.to_be_bytes());
        header.extend(self.tokens_length.unwrap_or(self.tokens.len() as u16).to_be_bytes());
        header.extend(&self.tokens);
        header
    }

    /// The envelope with `body` bytes behind the header.
    fn with_body(&self, body: usize) -> Vec<u8> {
        let mut envelope = self.header();
        envelope.extend(fixed("body").iter().cycle().take(body));
        envelope
    }

    fn bytes(&self) -> Vec<u8> {
        let suite = Suite::from_number(self.suite).unwrap_or(Suite::Xaes256Gcm);
        self.with_body(suite.nonce_length() + 32 + suite.tag_length())
    }
}

/// The contents of `data/malformed.json`.
pub fn malformed() -> Value {
    let mut cases = vec![];
    let mut add = |name: String, bytes: Vec<u8>, error: &str| {
        cases.push(json!({ "name": name, "hex": hex(bytes), "error": error }));
    };
    malformed_headers(&mut add);
    malformed_tokens(&mut add);
    for (name, text, error) in malformed_texts() {
        cases.push(json!({ "name": name, "text": text, "error": error }));
    }
    json!({
        "description": "What a reader refuses (docs/envelope.md section 9). `malformed` without a \
            key: as bytes (`hex`) or in the text form (`text`). `not_authentic` is well formed but \
            does not open under the key given. `not_text` is authentic, but not UTF-8, and \
            `not_canonical` no value of its type. `wrapped_keys` do not unwrap. `error` is the reason's name in fieldcrypt_core::error.",
        "malformed": cases,
        "not_authentic": not_authentic(),
        "not_text": not_text(),
        "not_canonical": not_canonical(),
        "wrapped_keys": malformed_wrapped_keys(),
    })
}

fn malformed_headers(add: &mut impl FnMut(String, Vec<u8>, &str)) {
    let good = Raw::new();
    // length
    let whole = good.bytes();
    for length in 0..23 {
        add(format!("{length} bytes"), whole[..length].to_vec(), "Length");
    }
    for suite in Suite::ALL {
        let raw = Raw { suite: suite.number(), ..good.clone() };
        let (nonce, tag) = (suite.nonce_length(), suite.tag_length());
        for (name, body) in [
            ("no nonce", 0),
            ("part of a nonce", nonce - 1),
            ("no tag", nonce),
            ("part of a tag", nonce + tag - 1),
        ] {
            add(format!("{}: {name}", suite.name()), raw.with_body(body), "Length");
        }
    }
    let cbc = Raw { suite: 3, ..good.clone() };
    for ciphertext in [0, 1, 15, 17, 31, 33, 47] {
        let name = format!("cbc: ciphertext of {ciphertext} bytes");
        add(name, cbc.with_body(16 + ciphertext + 32), "Length");
    }
    // the fixed part of the header
    for magic in [0x00, 0x66, 0x7C, 0xEC, 0xF8, 0xFB, 0xFD, 0xFF] {
        add(format!("magic {magic:#04x}"), Raw { magic, ..good.clone() }.bytes(), "Magic");
    }
    add("text form as bytes".to_owned(), to_text(&whole).into_bytes(), "Magic");
    for format in [0, 2, 3, 0x10, 0x7F, 0x81, 0xFF] {
        add(format!("format {format}"), Raw { format, ..good.clone() }.bytes(), "Format");
    }
    for suite in [0, 4, 5, 0x10, 0x7F, 0x81, 0x82, 0x83, 0xFF] {
        add(format!("suite {suite}"), Raw { suite, ..good.clone() }.bytes(), "Suite");
    }
    for plaintext_type in [0, 10, 11, 0x10, 0x7F, 0x81, 0x83, 0x89, 0xFF] {
        let raw = Raw { plaintext_type, ..good.clone() };
        add(format!("plaintext type {plaintext_type}"), raw.bytes(), "PlaintextType");
    }
    for flags in [
        0x02, 0x03, 0x06, 0x07, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x10, 0x18, 0x20, 0x28,
        0x40, 0x48, 0x80, 0x85, 0x88, 0xFF,
    ] {
        add(format!("flags {flags:#04x}"), Raw { flags, ..good.clone() }.bytes(), "Flags");
    }
    for key_id in [0, 1 << 63, 1 << 63 | good.key_id, u64::MAX] {
        let raw = Raw { key_id, ..good.clone() };
        add(format!("key id {key_id:#018x}"), raw.bytes(), "KeyId");
    }
    let no_field = Raw { field_id: 0, ..good.clone() };
    add("field id 0".to_owned(), no_field.bytes(), "FieldId");
    let padded = Raw { flags: 0x01, ..no_field.clone() };
    add("field id 0, padded".to_owned(), padded.bytes(), "FieldId");
    let only = Raw { flags: 0x08, ..no_field.clone() };
    add("field id 0, token only".to_owned(), only.bytes(), "FieldId");
    let tokens = section(1, 0, 1, &group(1, 0, 16, 1));
    // the flags are refused whatever else there is
    let padded = Raw { flags: 0x09, tokens: tokens.clone(), ..good.clone() };
    add("token only, padded, token section".to_owned(), padded.bytes(), "Flags");
    let transit = Raw { flags: 0x0C, ..padded };
    add("token only, in transit, token section".to_owned(), transit.bytes(), "Flags");
    let transit = Raw { flags: 0x0C, ..no_field.clone() };
    add("token only, in transit, field id 0".to_owned(), transit.bytes(), "Flags");
    let with_tokens = Raw { tokens: tokens.clone(), ..no_field };
    add("field id 0, token section".to_owned(), with_tokens.bytes(), "FieldId");
    for (name, raw) in [("field id 0", with_tokens), ("field id", Raw { tokens, ..good })] {
        let name = format!("in transit, {name}, token section");
        add(name, Raw { flags: 0x04, ..raw.clone() }.bytes(), "FieldId");
    }
}

fn malformed_tokens(add: &mut impl FnMut(String, Vec<u8>, &str)) {
    let good = Raw::new();
    let exact = group(1, 0, 16, 1);
    let plain = section(1, 0, 1, &exact);

    // longer than the envelope: nothing can be said about the sections
    for length in [81, 1000, 0xFFE9, 0xFFFF] {
        let raw = Raw { tokens_length: Some(length), ..good.clone() };
        add(format!("{length} bytes of token sections, 80 there"), raw.with_body(80), "Length");
    }
    let raw = Raw { tokens: plain.clone(), tokens_length: Some(0), ..good.clone() };
    // what is there is too short for a nonce and a tag
    add("token section not counted".to_owned(), raw.with_body(6), "Length");

    let mut tokens = |name: &str, tokens: Vec<u8>| {
        add(name.to_owned(), Raw { tokens, ..good.clone() }.bytes(), "Tokens");
    };
    // the length of a section
    tokens("one byte of a section", vec![0]);
    for length in 0..10 {
        let mut short = plain[..2 + length].to_vec();
        short[1] = length as u8;
        tokens(&format!("section of {length} bytes"), short);
    }
    for (name, change) in [("one more", 1), ("one less", -1), ("256 more", 256)] {
        let mut wrong = plain.clone();
        let length = 31_i16 + change;
        wrong[..2].copy_from_slice(&length.to_be_bytes());
        tokens(&format!("section that says {name}"), wrong);
    }
    for (name, more) in [("a zero byte", &[0][..]), ("two zero bytes", &[0, 0]), ("0xFF", &[0xFF])]
    {
        tokens(&format!("{name} behind a section"), [&plain[..], more].concat());
    }
    // the head of a section
    for key_id in [0, 1 << 63, u64::MAX] {
        tokens(&format!("index key id {key_id:#018x}"), section(key_id, 0, 1, &exact));
    }
    for normalizer in [5, 6, 0x80, 0xFF] {
        tokens(&format!("normalizer {normalizer}"), section(1, normalizer, 1, &exact));
    }
    for normalizer in Normalizer::ALL {
        let name = format!("normalizer {}, version 0", normalizer.name());
        tokens(&name, section(1, normalizer.number(), 0, &exact));
    }
    tokens("normalizer version 0, no group", section(1, 0, 0, &[]));
    tokens("normalizer 5, version 2", section(1, 5, 2, &exact));
    // groups
    let mut groups = |name: &str, parts: &[&[u8]]| {
        tokens(name, section(1, 0, 1, &parts.concat()));
    };
    for kind in [0, 8, 9, 0x81, 0x82, 0x87, 0xFF] {
        groups(&format!("kind {kind}"), &[&group(kind, 0, 16, 1)]);
    }
    for scope in [2, 3, 0x80, 0xFF] {
        groups(&format!("scope {scope}"), &[&group(1, scope, 16, 1)]);
    }
    for width in [0, 1, 8, 15, 17, 32, 255] {
        groups(&format!("exact, width {width}"), &[&group(1, 0, width, 1)]);
    }
    for count in [0, 2, 3, 256] {
        groups(&format!("exact, count {count}"), &[&group(1, 0, 16, count)]);
    }
    // so is unique
    for scope in [0, 1] {
        for width in [1, 8, 15, 17, 32] {
            let name = format!("unique, scope {scope}, width {width}");
            groups(&name, &[&group(2, scope, width, 1)]);
        }
        for count in [0, 2, 3, 256] {
            let name = format!("unique, scope {scope}, count {count}");
            groups(&name, &[&group(2, scope, 16, count)]);
        }
    }
    for scope in [2, 3, 0x80, 0xFF] {
        groups(&format!("unique, scope {scope}"), &[&group(2, scope, 16, 1)]);
        groups(&format!("member, scope {scope}"), &[&group(7, scope, 8, 1)]);
    }
    for kind in 2..=7 {
        for width in [0, 33, 34, 64, 128, 255] {
            groups(&format!("kind {kind}, width {width}"), &[&group(kind, 0, width, 1)]);
        }
        groups(&format!("kind {kind}, count 0"), &[&group(kind, 0, 4, 0)]);
        let cut = group(kind, 1, 4, 3);
        groups(&format!("kind {kind}, a byte short"), &[&cut[..cut.len() - 1]]);
    }
    for length in 1..5 {
        groups(&format!("{length} bytes of a group's head"), &[&exact[..length]]);
        groups(&format!("{length} bytes of a second group's head"), &[&exact, &exact[..length]]);
    }
    groups("exact, no token", &[&exact[..5]]);
    groups("exact, a byte short", &[&exact[..20]]);
    groups("exact, a byte too many", &[&exact, &[0]]);
    groups("kind 6, count 65535, one token", &[&[6, 0, 4, 0xFF, 0xFF], &[0; 4]]);
    groups("a repeated pair", &[&exact, &exact]);
    groups("a repeated pair of a reserved kind", &[&group(4, 1, 4, 2), &group(4, 1, 2, 4)]);
    groups("scopes in descending order", &[&group(1, 1, 16, 1), &exact]);
    groups("kinds in descending order", &[&group(3, 0, 4, 1), &group(2, 0, 4, 1)]);
    groups("kinds out of order, scopes in order", &[&group(3, 0, 4, 1), &group(2, 1, 4, 1)]);
    let (unique, member) = (group(2, 0, 16, 1), group(7, 0, 8, 3));
    groups("unique in front of exact", &[&unique, &exact]);
    groups("unique twice", &[&unique, &unique]);
    groups("unique behind a reserved kind", &[&group(3, 0, 4, 1), &unique]);
    groups("unique of both scopes in descending order", &[&group(2, 1, 16, 1), &unique]);
    groups("member in front of exact", &[&member, &exact]);
    groups("member twice", &[&member, &member]);
    groups("member of both scopes in descending order", &[&group(7, 1, 8, 3), &member]);
    groups("member, no token", &[&member[..5]]);
    groups("member, a token short", &[&member[..21]]);
    groups("member, a byte too many", &[&member, &[0]]);
    groups("member, count 65535, one token", &[&[7, 0, 8, 0xFF, 0xFF], &[0; 8]]);
    groups("third group out of order", &[&exact, &group(5, 0, 4, 1), &group(5, 0, 4, 1)]);
    // a later section
    let second = section(2, 9, 1, &exact);
    tokens("second section malformed", [&plain[..], &second].concat());
    tokens("first section malformed", [&second[..], &plain].concat());
    tokens("second section cut", [&plain[..], &plain[..20]].concat());
    // of a version that nobody knows, it is still well formed or not
    for (name, groups) in [
        ("exact, width 17", group(1, 0, 17, 1)),
        ("kind 2, width 33", group(2, 0, 33, 1)),
        ("unique, width 8", group(2, 0, 8, 1)),
        ("unique, count 2", group(2, 0, 16, 2)),
        ("member, width 33", group(7, 0, 33, 1)),
        ("kind 8", group(8, 0, 16, 1)),
        ("a byte short", exact[..20].to_vec()),
    ] {
        tokens(&format!("normalizer version 2, {name}"), section(1, 0, 2, &groups));
    }
}

fn malformed_texts() -> Vec<(String, String, &'static str)> {
    let whole = Raw::new().bytes();
    let text = to_text(&whole);
    let encoded = text.strip_prefix("fc1:").unwrap();
    let mut cases = vec![];
    let mut add = |name: &str, text: String, error| cases.push((name.to_owned(), text, error));
    for prefix in [
        "",
        "f",
        "fc",
        "fc1",
        "fc:",
        "fc1;",
        "fc1 :",
        " fc1:",
        "\tfc1:",
        "\nfc1:",
        "FC1:",
        "Fc1:",
        "fc0:",
        "fc01:",
        "fc2:",
        "fc10:",
        "fc11:",
        "fc1\0:",
        "\u{FEFF}fc1:",
        "ｆｃ１:",
        "fc１:",
        "\"fc1:",
        "\\xfc",
    ] {
        add(&format!("prefix {prefix:?}"), format!("{prefix}{encoded}"), "NotAnEnvelope");
    }
    for (name, text) in [("empty text", ""), ("hexadecimal", "fc010101"), ("bytea", "\\xfc010101")]
    {
        add(name, text.to_owned(), "NotAnEnvelope");
    }
    add("prefix only", "fc1:".to_owned(), "Length");
    add("prefix twice", format!("fc1:{text}"), "Base64");
    add("half", text[..4 + encoded.len() / 8 * 4].to_owned(), "Length");
    for character in
        ["+", "/", "=", " ", "\n", "\r\n", "\t", "\0", ".", ":", "~", "é", "А", "\u{200B}"]
    {
        for (place, at) in [("in the first place", 0), ("in the middle", 40), ("at the end", 106)] {
            let name = format!("{character:?} {place}");
            add(&name, format!("fc1:{}{character}{}", &encoded[..at], &encoded[at..]), "Base64");
        }
    }
    add("a character alone", "fc1:A".to_owned(), "Base64");
    add("a character more than four times n", format!("{}A", to_text(&whole[..93])), "Base64");
    // 3 n + 1 bytes leave four trailing bits, 3 n + 2 leave two
    for (length, values) in [(91, 16), (92, 4)] {
        let canonical = to_text(&whole[..length]);
        let (start, last) = canonical.split_at(canonical.len() - 1);
        let position = ALPHABET.find(last).unwrap();
        for bits in 1..values {
            let other = &ALPHABET[position + bits..=position + bits];
            let name = format!("{length} bytes, trailing bits {bits}");
            add(&name, format!("{start}{other}"), "Base64");
        }
        let padding = &"=="[..if values == 16 { 2 } else { 1 }];
        add(
            &format!("{length} bytes, padding {padding}"),
            format!("{canonical}{padding}"),
            "Base64",
        );
    }
    let plus = [0xFC, 0x01, 0x01, 0xFB, 0xEF, 0xBE].iter().chain(&whole[6..]).copied();
    let standard = to_text(&plus.collect::<Vec<_>>()).replace('-', "+").replace('_', "/");
    add("base64 of the other alphabet", standard, "Base64");
    add("a malformed envelope", to_text(&[&[0xFD], &whole[1..]].concat()), "Magic");
    cases
}

/// base64url, RFC 4648 section 5.
const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// An envelope that does not open, with the key of acme to try.
fn refused(suite: Suite, purpose: Purpose, name: &str, envelope: &[u8]) -> Value {
    json!({
        "name": format!("{}: {name}", suite.name()),
        "account": "acme",
        "purpose": purpose.name(),
        "key": hex(fixed("data key of acme")),
        "key_id": hex_id(key_id("data key id of acme", None).number()),
        "field": "lead.ssn",
        "suite": suite.number(),
        "hex": hex(envelope),
        "error": "OpenError",
    })
}

/// Envelopes that are well formed and do not open under the key given.
fn not_authentic() -> Vec<Value> {
    let mut cases = vec![];
    let field_id = FieldId::of("lead.ssn");
    let key = fixed("data key of acme");
    let key_id = key_id("data key id of acme", None);
    let mut add = |suite: Suite, name: &str, envelope: &[u8]| {
        cases.push(refused(suite, Purpose::Data, name, envelope));
    };
    for suite in Suite::ALL {
        let case = Case { padding: Padding::To32, ..Case::plain(suite) };
        let nonce = &fixed("nonce")[..suite.nonce_length()];
        let good = case.seal(&secret(&key), key_id, field_id, &[], nonce);
        let body = 23 + suite.nonce_length();
        let tag = good.len() - suite.tag_length();
        for (name, at) in [
            ("key id changed", 12),
            ("field id changed", 20),
            ("nonce changed, first byte", 23),
            ("nonce changed, last byte", body - 1),
            ("ciphertext changed, first byte", body),
            ("ciphertext changed, last byte", tag - 1),
            ("tag changed, first byte", tag),
            ("tag changed, in the middle", tag + suite.tag_length() / 2),
            ("tag changed, last byte", good.len() - 1),
        ] {
            let mut changed = good.clone();
            changed[at] ^= 1;
            add(suite, name, &changed);
        }
        let mut changed = good.clone();
        changed[4] = 0;
        add(suite, "not padded any more", &changed);
        changed[4] = 5;
        add(suite, "in transit", &changed);
        add(suite, "tag of zeros", &[&good[..tag], &vec![0; suite.tag_length()]].concat());
        let longer = [&good[..tag], &[0; 16], &good[tag..]].concat();
        add(suite, "ciphertext longer by 16 zero bytes", &longer);
        add(suite, "ciphertext shorter by 16 bytes", &[&good[..tag - 16], &good[tag..]].concat());
        for account in ["acme2", "acm", "Acme", "acme\0", "", DATABASE_ACCOUNT] {
            let other = Case { account: account.to_owned(), ..case.clone() };
            let envelope = other.seal(&secret(&key), key_id, field_id, &[], nonce);
            add(suite, &format!("sealed for another account, {account:?}"), &envelope);
        }
        let envelope = case.seal(&secret(&fixed("another")), key_id, field_id, &[], nonce);
        add(suite, "sealed under another key", &envelope);
        let transit = Case { purpose: Purpose::Transit, ..case.clone() };
        let mut envelope = transit.seal(&secret(&key), key_id, field_id, &[], nonce);
        add(suite, "sealed for transit", &envelope);
        envelope[4] = 1;
        add(suite, "sealed for transit, flag taken away", &envelope);
        // the account belongs into the key, as its info's last part, and nowhere else
        let (number, length) = (suite.number(), suite.key_length() as u16);
        let start = lp(&[b"fieldcrypt/1/field-key", b"data", &[number], &length.to_be_bytes()]);
        let id = field_id.0.to_be_bytes();
        let specified = associated_data(&good[..23]);
        for (name, parts, associated) in [
            ("key without an account", vec![&id[..]], specified.clone()),
            ("account in front of the field id in the key", vec![b"acme", &id], specified),
            (
                "account in the associated data",
                vec![&id, b"acme"],
                lp(&[b"fieldcrypt/1/aad", b"acme", &good[..23]]),
            ),
            (
                "another label in the associated data",
                vec![&id, b"acme"],
                lp(&[b"fieldcrypt/1/associated-data", &good[..23]]),
            ),
        ] {
            let key = expand(&key, &[&start[..], &lp(&parts)].concat(), length);
            let mut plaintext = [0; 32];
            plaintext[0] = 0x80;
            add(suite, name, &forge_with(suite, &key, &associated, &good[..23], nonce, &plaintext));
        }
        // what is in the header is authenticated, the type and the kind of a token as well
        let exact = section(1, 0, 1, &group(1, 0, 16, 1));
        let plain = Case::plain(suite);
        let json = Case { plaintext_type: PlaintextType::Json, ..plain.clone() };
        let empty = Case { value: String::new(), ..plain.clone() };
        let only = Case { token_only: true, ..plain.clone() };
        for (name, case, at, byte) in [
            ("text said to be json", plain.clone(), 3, 3),
            ("json said to be text", json, 3, 1),
            ("kept, said to be token only", plain, 4, 8),
            ("empty, said to be token only", empty, 4, 8),
            ("token only, flag taken away", only.clone(), 4, 0),
            ("exact said to be unique", only.clone(), 23 + 12, 2),
            ("account's token said to be the database's", only, 23 + 13, 1),
        ] {
            let mut changed = case.seal(&secret(&key), key_id, field_id, &exact, nonce);
            assert_ne!(changed[at], byte);
            changed[at] = byte;
            add(suite, name, &changed);
        }
        // authentic, and flagged as token only, with a value
        let number = suite.number();
        let only = Raw { suite: number, flags: 8, key_id: key_id.number(), ..Raw::new() };
        let with_token = Raw { tokens: exact, ..only.clone() };
        let with_json = Raw { plaintext_type: 3, ..with_token.clone() };
        for (name, raw, plaintext) in [
            ("a value", &with_token, &b"123-45-6789"[..]),
            ("one byte", &with_token, &[0]),
            ("a mark of padding", &with_token, &[0x80]),
            ("16 bytes", &with_token, &[0; 16]),
            ("json", &with_json, b"{}"),
            ("a value, no token", &only, b"123-45-6789"),
        ] {
            let envelope = forge(suite, &key, &raw.header(), nonce, plaintext);
            add(suite, &format!("token only, with {name}"), &envelope);
        }
        // authentic, and flagged as padded
        let zeros = [0; 32];
        let mut mark = zeros;
        mark[8] = 0x80;
        for (name, plaintext) in [
            ("nothing", &[][..]),
            ("zeros only", &zeros),
            ("no mark", b"0123456789abcdef0123456789abcdef"),
            ("another mark", &[&mark[..8], &[0x81], &zeros[..23]].concat()),
            ("a byte behind the mark", &[&mark[..31], &[1]].concat()),
            ("mark with another bit", &[&mark[..8], &[0x40], &zeros[..23]].concat()),
        ] {
            let envelope = forge(suite, &key, &good[..23], nonce, plaintext);
            add(suite, &format!("padding of {name}"), &envelope);
        }
    }
    // authentic, not padded before the suite's own padding
    let nonce = &fixed("nonce")[..16];
    let case = Case::plain(Suite::Aes256CbcHmacSha512);
    let good = case.seal(&secret(&key), key_id, field_id, &[], nonce);
    for (name, end) in [
        ("0", &[0][..]),
        ("17", &[17; 17]),
        ("32", &[32; 32]),
        ("255", &[255]),
        ("2 once", &[1, 2]),
        ("3, the first wrong", &[4, 3, 3]),
        ("16, the first wrong", &[15, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16]),
        ("0x80", &[0x80, 0, 0]),
    ] {
        let mut blocks = [b'x'; 32];
        blocks[32 - end.len()..].copy_from_slice(end);
        let envelope = forge_blocks(&key, &good[..23], nonce, &blocks);
        add(Suite::Aes256CbcHmacSha512, &format!("pkcs #7 padding of {name}"), &envelope);
    }
    // authentic, under a key of a purpose that seals no values
    for suite in Suite::ALL {
        let header = Raw { suite: suite.number(), key_id: key_id.number(), ..Raw::new() }.header();
        let nonce = &fixed("nonce")[..suite.nonce_length()];
        for purpose in [Purpose::Index, Purpose::Root, Purpose::Wrapping] {
            let key = derived(suite, purpose, &key);
            let associated = associated_data(&header);
            let envelope = forge_with(suite, &key, &associated, &header, nonce, b"123-45-6789");
            let name = format!("sealed under a key of purpose {}", purpose.name());
            cases.push(refused(suite, purpose, &name, &envelope));
        }
    }
    // a type does not become another, as long as the bytes may be
    for suite in Suite::ALL {
        let nonce = &fixed("nonce")[..suite.nonce_length()];
        let plain = Case::plain(suite);
        for (name, plaintext_type, canonical, said) in [
            ("bigint said to be timestamptz", PlaintextType::Bigint, &[0; 8][..], 7),
            ("timestamptz said to be bigint", PlaintextType::Timestamptz, &[0; 8], 4),
            ("date said to be text", PlaintextType::Date, &[0; 4], 1),
            ("numeric said to be text", PlaintextType::Numeric, b"1", 1),
            ("uuid said to be bytea", PlaintextType::Uuid, &[0; 16], 2),
            ("boolean said to be bytea", PlaintextType::Boolean, &[1], 2),
        ] {
            let case = plain.typed(plaintext_type, canonical, "");
            let mut changed = case.seal(&secret(&key), key_id, field_id, &[], nonce);
            changed[3] = said;
            cases.push(refused(suite, Purpose::Data, name, &changed));
        }
    }
    cases
}

/// Envelopes that are authentic, with a plaintext that is not UTF-8.
fn not_text() -> Vec<Value> {
    let mut cases = vec![];
    let key = fixed("data key of acme");
    let key_id = key_id("data key id of acme", None).number();
    for suite in Suite::ALL {
        let header = Raw { suite: suite.number(), key_id, ..Raw::new() }.header();
        let nonce = &fixed("nonce")[..suite.nonce_length()];
        for (name, plaintext) in [
            ("byte 0xFF", &b"a\xFF"[..]),
            ("latin 1", b"caf\xE9"),
            ("cut in a character", b"caf\xC3"),
            ("overlong form", b"\xC0\x80"),
            ("surrogate", b"\xED\xA0\x80"),
            ("above U+10FFFF", b"\xF4\x90\x80\x80"),
        ] {
            let envelope = forge(suite, &key, &header, nonce, plaintext);
            cases.push(refused(suite, Purpose::Data, name, &envelope));
        }
        let json = Raw { suite: suite.number(), plaintext_type: 3, key_id, ..Raw::new() }.header();
        for (name, plaintext) in [
            ("json, byte 0xFF", &b"\"a\xFF\""[..]),
            ("json, latin 1", b"{\"caf\xE9\": 1}"),
            ("json, cut in a character", b"\"caf\xC3"),
            ("json, utf-16", b"\xFF\xFE1\0"),
        ] {
            let envelope = forge(suite, &key, &json, nonce, plaintext);
            cases.push(refused(suite, Purpose::Data, name, &envelope));
        }
    }
    cases
}

/// Envelopes that are authentic, with a plaintext that is no value of their type.
fn not_canonical() -> Vec<Value> {
    let mut cases = vec![];
    let key = fixed("data key of acme");
    let key_id = key_id("data key id of acme", None).number();
    for suite in Suite::ALL {
        let nonce = &fixed("nonce")[..suite.nonce_length()];
        let mut add = |plaintext_type: PlaintextType, what: &str, plaintext: &[u8]| {
            let number = plaintext_type as u8;
            let raw = Raw { suite: suite.number(), plaintext_type: number, key_id, ..Raw::new() };
            let envelope = forge(suite, &key, &raw.header(), nonce, plaintext);
            let name = format!("{}, {what}", plaintext_type.name());
            cases.push(refused(suite, Purpose::Data, &name, &envelope));
        };
        for plaintext_type in PlaintextType::ALL {
            let Some(length) = plaintext_type.length() else { continue };
            for other in [length - 1, length + 1, length + 16] {
                add(plaintext_type, &format!("{other} bytes"), &vec![0; other]);
            }
            if length > 1 {
                add(plaintext_type, "0 bytes", b"");
            }
        }
        for byte in [2, b'0', b'1', b'f', b't', 0x80, 0xFF] {
            add(PlaintextType::Boolean, &format!("{byte:#04x}"), &[byte]);
        }
        for (what, plaintext) in [
            ("digit of another script", "\u{663}".as_bytes()),
            ("minus sign", "\u{2212}1".as_bytes()),
            ("byte 0xFF", b"1\xFF"),
        ] {
            add(PlaintextType::Numeric, what, plaintext);
        }
    }
    cases
}

/// An envelope whose tag verifies, with a plaintext that the crate would not write.
fn forge(suite: Suite, key: &[u8; 32], header: &[u8], nonce: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let key = derived(suite, Purpose::Data, key);
    forge_with(suite, &key, &associated_data(header), header, nonce, plaintext)
}

/// The same under any key, with any associated data.
fn forge_with(
    suite: Suite,
    key: &[u8; 64],
    associated_data: &[u8],
    header: &[u8],
    nonce: &[u8],
    plaintext: &[u8],
) -> Vec<u8> {
    let mut body = plaintext.to_vec();
    body.resize(suite.ciphertext_length(plaintext.len()), 0);
    let mut tag = vec![0; suite.tag_length()];
    Cipher::new(suite, key)
        .encrypt(nonce, associated_data, &mut body, plaintext.len(), &mut tag)
        .unwrap();
    [header, nonce, &body, &tag].concat()
}

/// The same for suite 3, with blocks that need not end in padding.
fn forge_blocks(key: &[u8; 32], header: &[u8], nonce: &[u8], blocks: &[u8; 32]) -> Vec<u8> {
    let key = derived(Suite::Aes256CbcHmacSha512, Purpose::Data, key);
    let mut body = *blocks;
    cbc::Encryptor::<Aes256>::new_from_slices(&key[32..], nonce)
        .unwrap()
        .encrypt_padded::<NoPadding>(&mut body, 32)
        .unwrap();
    let associated_data = associated_data(header);
    let mut mac = Hmac::<Sha512>::new_from_slice(&key[..32]).unwrap();
    for part in [&associated_data, nonce, &body, &(associated_data.len() as u64 * 8).to_be_bytes()]
    {
        mac.update(part);
    }
    [header, nonce, &body, &mac.finalize().into_bytes()[..32]].concat()
}

/// The key of acme's field `lead.ssn`.
fn derived(suite: Suite, purpose: Purpose, key: &[u8; 32]) -> [u8; 64] {
    let (length, field_id) = (suite.key_length() as u16, FieldId::of("lead.ssn"));
    field_key(key, purpose.name(), suite.number(), length, field_id.0, "acme")
}

fn malformed_wrapped_keys() -> Vec<Value> {
    let id = key_id("id of data 1 of acme", None);
    let name = KeyName { account: "acme", purpose: Purpose::Data, version: 1, id };
    let (wrapping_key, key) = (fixed("wrapping 1 of acme"), fixed("data 1 of acme"));
    let nonce = &fixed("nonce of data 1 of acme")[..12];
    let seal = |name: &KeyName<'_>| wrap(&wrapping_key, &wrap_associated_data(name), nonce, &key);
    let good = seal(&name);
    let good_check = check_value(&secret(&key), &name).to_vec();
    let mut cases = vec![];
    let mut add = |name: &str, wrapped: &[u8], check_value: &[u8], error| {
        cases.push(json!({
            "name": name,
            "account": "acme",
            "purpose": "data",
            "version": 1,
            "key_id": hex_id(id.number()),
            "wrapping_key": hex(wrapping_key),
            "wrapped": hex(wrapped),
            "check_value": hex(check_value),
            "error": error,
        }));
    };
    for length in [0, 1, 60] {
        add(&format!("{length} bytes"), &good[..length], &good_check, "Malformed");
    }
    add("62 bytes", &[&good[..], &[0]].concat(), &good_check, "Malformed");
    for suite in [0, 2, 0x81] {
        let other = [&[suite], &good[1..]].concat();
        add(&format!("suite {suite}"), &other, &good_check, "Malformed");
    }
    for (name, at) in [("nonce", 1), ("ciphertext", 13), ("tag", 45), ("last byte", 60)] {
        let mut changed = good.clone();
        changed[at] ^= 0x80;
        add(&format!("{name} changed"), &changed, &good_check, "Tag");
    }
    for (what, other) in [
        ("account", KeyName { account: "acm", ..name }),
        ("purpose", KeyName { purpose: Purpose::Index, ..name }),
        ("version", KeyName { version: 2, ..name }),
        ("id", KeyName { id: KeyId::new(1).unwrap(), ..name }),
    ] {
        add(&format!("of another {what}"), &seal(&other), &good_check, "Tag");
        let check = check_value(&secret(&key), &other);
        add(&format!("check value of another {what}"), &good, &check, "CheckValue");
    }
    let under_another = wrap(&fixed("another"), &wrap_associated_data(&name), nonce, &key);
    add("under another key", &under_another, &good_check, "Tag");
    let another = wrap(&wrapping_key, &wrap_associated_data(&name), nonce, &fixed("another"));
    add("another key under the same name", &another, &good_check, "CheckValue");
    add("check value empty", &good, &[], "CheckValue");
    add("check value cut", &good, &good_check[..31], "CheckValue");
    add("check value longer", &good, &[&good_check[..], &[0]].concat(), "CheckValue");
    add("check value of zeros", &good, &[0; 32], "CheckValue");
    cases
}
