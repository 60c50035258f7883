//! Tests inside a server: what SQL from outside cannot see. Each runs in a transaction of its own
//! that is rolled back. Run by `scripts/test-in-backend`, which makes the keyring.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use pgrx::prelude::*;

/// What `cargo pgrx test` needs at the crate's root.
#[cfg(test)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    pub fn postgresql_conf_options() -> Vec<&'static str> {
        let keyring = std::env::var("FIELDCRYPT_TEST_KEYRING").unwrap_or_default();
        let keyring = format!("fieldcrypt.keyring_file = '{keyring}'");
        vec!["shared_preload_libraries = 'fieldcrypt'", keyring.leak()]
    }
}

#[pg_schema]
mod tests {
    use std::collections::HashSet;
    use std::rc::Rc;

    use fieldcrypt_core::key::{KeyId, Purpose, SecretKey};
    use pgrx::prelude::*;

    use crate::admin::account::add_key;
    use crate::catalog::key::{KeyState, StoredKey};
    use crate::document::{made, policy};
    use crate::keyring::{cache, file, locked, provider, usage};

    fn text(sql: &str) -> String {
        Spi::get_one::<String>(sql).unwrap().unwrap_or_default()
    }

    fn truth(sql: &str) -> bool {
        Spi::get_one::<bool>(sql).unwrap().unwrap()
    }

    /// Runs SQL in a subtransaction that is rolled back if it fails; the SQLSTATE, or empty.
    fn sqlstate(sql: &str) -> String {
        let call = format!("SELECT pg_temp.attempt({})", pgrx::spi::quote_literal(sql));
        text(&call)
    }

    fn set_up() {
        Spi::run(
            "CREATE FUNCTION pg_temp.attempt(sql text) RETURNS text LANGUAGE plpgsql AS
                 $$ BEGIN EXECUTE sql; RETURN ''; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
             SELECT fieldcrypt.create_account('acme');
             SELECT fieldcrypt.create_field('t.x', search => '{exact}');
             CREATE ROLE tester;
             SELECT fieldcrypt.grant_access('tester', '{encrypt,search,decrypt}', '*', '*');
             GRANT ALL ON SCHEMA public TO tester;
             SET LOCAL fieldcrypt.account = 'acme';
             CREATE TABLE t (id int, x fieldcrypt.encrypted_text('t.x'));
             GRANT ALL ON t TO tester;
             SET LOCAL ROLE tester;",
        )
        .unwrap();
    }

    #[pg_test]
    fn the_key_cache_keeps_its_bound_and_stays_right() {
        set_up();
        Spi::run("RESET ROLE; SET LOCAL fieldcrypt.key_cache_size = 16").unwrap();
        Spi::run("SELECT fieldcrypt.create_account('a' || i) FROM generate_series(1, 60) AS i")
            .unwrap();
        Spi::run("SET LOCAL ROLE tester").unwrap();
        let wrong = "SELECT count(*)::text FROM (SELECT i, fieldcrypt.encrypt('v' || i, 't.x', 'a' || i) AS v \
                     FROM generate_series(1, 60) AS i) AS s WHERE fieldcrypt.decrypt(v) <> 'v' || i \
                     OR fieldcrypt.account_of(v) <> 'a' || i";
        for _ in 0..3 {
            assert_eq!(text(wrong), "0");
            assert_eq!(cache::occupancy(), (16, 16));
        }
    }

    #[pg_test]
    fn threat_d3_a_key_of_a_rolled_back_subtransaction_is_forgotten() {
        set_up();
        Spi::run("RESET ROLE").unwrap();
        Spi::run("SELECT fieldcrypt.grant_access('tester', '{encrypt}', '*', '*')").unwrap();
        let attempt = "SELECT fieldcrypt.create_account('ghost'); SET LOCAL ROLE tester; \
                       SELECT fieldcrypt.encrypt('x', 't.x', 'ghost'); SELECT 1 / 0";
        assert_eq!(sqlstate(attempt), "22012");
        Spi::run("SET LOCAL ROLE tester").unwrap();
        assert_eq!(sqlstate("SELECT fieldcrypt.encrypt('x', 't.x', 'ghost')"), "42704");
    }

    #[pg_test]
    fn threat_d5_each_key_state_permits_what_it_says() {
        set_up();
        Spi::run("INSERT INTO t VALUES (1, 'v')").unwrap();
        for state in KeyState::ALL {
            Spi::run("RESET ROLE").unwrap();
            let update = format!(
                "UPDATE fieldcrypt.account_key SET state = '{}', wrapped = CASE WHEN {} THEN wrapped END \
                 WHERE account = 'acme' AND purpose = 'data'",
                state.name(),
                state != KeyState::Destroyed
            );
            Spi::run(&update).unwrap();
            Spi::run("SET LOCAL ROLE tester").unwrap();
            let decrypts = sqlstate("SELECT fieldcrypt.decrypt(x) FROM t").is_empty();
            let encrypts = sqlstate("INSERT INTO t VALUES (2, 'w')").is_empty();
            let expected = match state {
                KeyState::Active => (true, true),
                KeyState::DecryptOnly => (true, false),
                KeyState::PreActive | KeyState::Disabled | KeyState::Destroyed => (false, false),
            };
            assert_eq!((decrypts, encrypts), expected, "{}", state.name());
            if !decrypts {
                assert_eq!(text("SELECT fieldcrypt.reveal(x) FROM t LIMIT 1"), "********");
            }
        }
    }

    #[pg_test]
    fn tokens_of_two_index_keys_of_one_account_cannot_be_compared() {
        set_up();
        Spi::run("INSERT INTO t VALUES (1, 'v'); RESET ROLE").unwrap();
        Spi::run(
            "UPDATE fieldcrypt.account_key SET state = 'decrypt-only' \
             WHERE account = 'acme' AND purpose = 'index'",
        )
        .unwrap();
        add_key("acme", Purpose::Index, 2).unwrap();
        Spi::run("SET LOCAL ROLE tester; INSERT INTO t VALUES (2, 'v')").unwrap();
        let self_join = "SELECT FROM t AS a JOIN t AS b ON a.x = b.x AND a.id <> b.id";
        Spi::run("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off").unwrap();
        assert_eq!(sqlstate(self_join), "0A000");
    }

    #[pg_test]
    fn threat_a3_a_gcm_key_seals_no_more_than_it_may() {
        set_up();
        let field = "SELECT field_id FROM fieldcrypt.field WHERE name = 't.x'";
        let key =
            "SELECT key_id FROM fieldcrypt.account_key WHERE account = 'acme' AND purpose = 'data'";
        Spi::run("RESET ROLE; SELECT fieldcrypt.alter_field('t.x', suite => 'aes-256-gcm')")
            .unwrap();
        let use_up = |sealed: i64| {
            Spi::run("RESET ROLE; DELETE FROM fieldcrypt.key_use").unwrap();
            let insert =
                format!("INSERT INTO fieldcrypt.key_use SELECT ({key}), ({field}), {sealed}");
            Spi::run(&insert).unwrap();
            // the count is read when a key is set up
            Spi::run("SELECT fieldcrypt.enable_account('acme'); SET LOCAL ROLE tester").unwrap();
            sqlstate("INSERT INTO t VALUES (1, 'v')")
        };
        assert_eq!(use_up(usage::LIMIT - 1), "");
        assert_eq!(use_up(usage::LIMIT), "54000");
        // what is sealed stays readable, and the other suite goes on
        assert_eq!(text("SELECT fieldcrypt.decrypt(x) FROM t"), "v");
        Spi::run("RESET ROLE; SELECT fieldcrypt.alter_field('t.x', suite => 'xaes-256-gcm'); SET LOCAL ROLE tester")
            .unwrap();
        assert_eq!(sqlstate("INSERT INTO t VALUES (2, 'v')"), "");
    }

    #[pg_test]
    fn threat_a3_one_value_in_65536_is_counted() {
        set_up();
        let sampled = (0..=u16::MAX).filter(|n| usage::is_sampled(n.to_be_bytes())).count();
        assert_eq!(sampled, 1);
        Spi::run("RESET ROLE; SELECT fieldcrypt.alter_field('t.x', suite => 'aes-256-gcm')")
            .unwrap();
        Spi::run("SET LOCAL ROLE tester").unwrap();
        Spi::run("INSERT INTO t SELECT i, 'v' FROM generate_series(1, 1000000) AS i").unwrap();
        Spi::run("RESET ROLE").unwrap();
        let counted = Spi::get_one::<i64>("SELECT sum(sealed)::bigint FROM fieldcrypt.key_use");
        // 15.3 samples are expected; fewer than 2 come about in 4 of a million runs
        let counted = counted.unwrap().unwrap_or(0);
        assert!((2 << 16..=50 << 16).contains(&counted), "{counted}");
    }

    #[pg_test]
    fn threat_d1_a_changed_wrapped_key_is_refused() {
        set_up();
        Spi::run("INSERT INTO t VALUES (1, 'v')").unwrap();
        let changes = [
            "wrapped = set_byte(wrapped, 20, get_byte(wrapped, 20) # 1)",
            "check_value = set_byte(check_value, 0, get_byte(check_value, 0) # 1)",
            "wrapped = (SELECT wrapped FROM fieldcrypt.account_key WHERE account = 'acme' AND purpose = 'index')",
        ];
        for change in changes {
            let attempt = format!(
                "RESET ROLE; UPDATE fieldcrypt.account_key SET {change} \
                 WHERE account = 'acme' AND purpose = 'data'; SET LOCAL ROLE tester; \
                 SELECT fieldcrypt.decrypt(x) FROM t"
            );
            assert_eq!(sqlstate(&attempt), "XX001", "{change}");
            Spi::run("SET LOCAL ROLE tester").unwrap();
            assert_eq!(text("SELECT fieldcrypt.decrypt(x) FROM t"), "v");
        }
    }

    #[pg_test]
    fn a_probe_is_no_value() {
        set_up();
        let probe = "fieldcrypt.probe('v'::text, (SELECT atttypmod FROM pg_attribute \
                     WHERE attrelid = 't'::regclass AND attname = 'x'))";
        assert!(truth(&format!("SELECT {probe} = fieldcrypt.encrypt('v', 't.x')")));
        assert_eq!(sqlstate(&format!("INSERT INTO t SELECT 1, {probe}")), "22P02");
        assert_eq!(sqlstate(&format!("SELECT fieldcrypt.decrypt({probe})")), "22P02");
    }

    #[pg_test]
    fn values_stored_out_of_line_compare_by_token() {
        set_up();
        Spi::run(
            "INSERT INTO t VALUES (1, repeat('v', 100000)), (2, repeat('v', 100000)), (3, 'v')",
        )
        .unwrap();
        let pairs = "SELECT count(*)::text FROM t AS a JOIN t AS b ON a.x = b.x";
        assert_eq!(text(pairs), "5");
        assert_eq!(
            text(
                "SELECT string_agg(id::text, ',' ORDER BY id) FROM t WHERE x = repeat('v', 100000)"
            ),
            "1,2"
        );
    }

    #[pg_test]
    fn nonces_of_one_session_differ() {
        set_up();
        Spi::run("INSERT INTO t SELECT i, 'same' FROM generate_series(1, 20000) AS i").unwrap();
        assert_eq!(text("SELECT count(DISTINCT x::text)::text FROM t"), "20000");
        assert_eq!(text("SELECT count(DISTINCT x)::text FROM t"), "1");
    }

    #[pg_test]
    fn key_memory_is_locked_left_out_of_dumps_and_wiped() {
        let mut bytes = [0xA5; 32];
        let key = locked::Locked::new(SecretKey::from_bytes(&mut bytes));
        assert_eq!(bytes, [0; 32]);
        let address = std::ptr::from_ref(&*key) as usize;
        let flags = vm_flags(address);
        assert!(flags.contains("dd"), "left out of core dumps: {flags:?}");
        let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
        let may_lock = limit.is_none_or(|limit| limit >= locked::FIRST_CHUNK as u64 * 4);
        assert_eq!(flags.contains("lo"), may_lock, "{flags:?}, limit {limit:?}");
        // SAFETY: the place stays mapped for the life of the process
        let read = || unsafe { std::ptr::read_volatile(address as *const [u8; 32]) };
        assert_eq!(read(), [0xA5; 32]);
        drop(key);
        assert_eq!(read(), [0; 32]);
    }

    /// The kernel's flags of the mapping that holds an address.
    fn vm_flags(address: usize) -> HashSet<String> {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            if let Some((start, end)) = range
                && let (Ok(start), Ok(end)) =
                    (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
            {
                inside = (start..end).contains(&address);
            } else if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                return flags.split_whitespace().map(str::to_owned).collect();
            }
        }
        HashSet::new()
    }

    #[pg_test]
    fn key_ids_name_one_key_each() {
        set_up();
        Spi::run("RESET ROLE").unwrap();
        let id = Spi::get_one::<i64>(
            "SELECT key_id FROM fieldcrypt.keys WHERE account = 'acme' AND purpose = 'data'",
        );
        let id = KeyId::new(id.unwrap().unwrap().cast_unsigned()).unwrap();
        let stored = StoredKey::find(id).unwrap().unwrap();
        assert_eq!(
            (stored.account.as_str(), stored.purpose, stored.version),
            ("acme", Purpose::Data, 1)
        );
        assert!(StoredKey::find(KeyId::new(1).unwrap()).unwrap().is_none());
    }

    #[pg_test]
    fn keyring_files_are_checked() {
        let file_root = "provider = \"file\"\npath = \"/k\"\n";
        let cases = [
            ("", Some("the keyring file is invalid at line 1")),
            ("[root.a]\nprovider = 7", Some("the keyring file is invalid at line 2")),
            (
                "[root.a]\nprovider = \"file\"\nkey = \"00\"",
                Some("the keyring file is invalid at line 3"),
            ),
            ("[root]", Some("the keyring file names no current root key")),
            (
                "[root.a]\nprovider = \"file\"",
                Some("the keyring file describes root key \"a\" wrongly"),
            ),
            (
                "[root.a]\nprovider = \"vault\"\npath = \"/k\"",
                Some("the keyring file describes root key \"a\" wrongly"),
            ),
            (
                "[root.a]\nprovider = \"env\"\npath = \"/k\"",
                Some("the keyring file describes root key \"a\" wrongly"),
            ),
        ];
        for (content, expected) in cases {
            assert_eq!(file::tests::refusal(content).as_deref(), expected, "{content}");
        }
        let two = format!("[root.a]\n{file_root}[root.b]\n{file_root}");
        assert_eq!(
            file::tests::refusal(&two).as_deref(),
            Some("the keyring file names more than one current root key")
        );
        let previous = format!("[root.a]\n{file_root}[root.b]\n{file_root}state = \"previous\"\n");
        assert_eq!(file::tests::refusal(&previous), None);
    }

    #[pg_test]
    fn keys_that_cannot_be_random_are_refused() {
        let good = "c8612c9ed53fe43e8e005b828a1631a0bbcb6ab2f46514ec4f439fcfd0fa969b";
        let repeats = "root key \"main\" is not random: its bytes repeat";
        let length = "root key \"main\" has the wrong length";
        let cases = [
            (good.to_owned(), None),
            (good.to_uppercase(), None),
            (format!(" {good}\n"), None),
            ("yGEsntU/5D6OAFuCihYxoLvLarL0ZRTsT0Ofz9D6lps=".to_owned(), None),
            ("yGEsntU/5D6OAFuCihYxoLvLarL0ZRTsT0Ofz9D6lps".to_owned(), None),
            ("00".repeat(32), Some(repeats)),
            ("0123456789abcdef".repeat(4), Some(repeats)),
            (good[..32].repeat(2), Some(repeats)),
            (format!("{}{}", "0102030405".repeat(6), "0607"), Some(repeats)),
            (good[..62].to_owned(), Some(length)),
            (format!("{good}00"), Some(length)),
            (String::new(), Some(length)),
            (good.replace('c', "g"), Some("root key \"main\" is neither hexadecimal nor base64")),
        ];
        for (content, expected) in cases {
            assert_eq!(provider::tests::refusal(&content).as_deref(), expected);
        }
    }

    /// A document `t.d` with nothing flagged, in a table that the tester may write.
    fn set_up_document() {
        set_up();
        Spi::run(
            "RESET ROLE;
             CREATE TABLE d (account text, kind text, data jsonb);
             SELECT fieldcrypt.protect_jsonb('d', 'data', 't.d', 'account', 'kind');
             GRANT ALL ON d TO tester;",
        )
        .unwrap();
    }

    const FLAG: &str = "RESET ROLE; SELECT fieldcrypt.protect_path('t.d', '{v}', 't.x')";
    const UNFLAG: &str = "RESET ROLE; SELECT fieldcrypt.unprotect_path('t.d', '{v}')";

    /// How the tester's value at `v` is stored: the start of it.
    fn stored_document() -> String {
        Spi::run("SET LOCAL ROLE tester").unwrap();
        text(
            r#"WITH new AS (INSERT INTO d VALUES ('acme', 'k', '{"v": "plain"}') RETURNING data)
               SELECT left(data ->> 'v', 4) FROM new"#,
        )
    }

    #[pg_test]
    fn policies_are_kept_up_to_a_bound() {
        set_up_document();
        Spi::run(FLAG).unwrap();
        let of = |kind: &str| policy::of("t.d", "acme", Some(kind)).unwrap();
        let first = of("first");
        assert!(Rc::ptr_eq(&first, &of("first")), "it is kept");
        for number in 0..10_000 {
            assert!(!of(&number.to_string()).flags.is_empty());
        }
        assert_eq!(Rc::strong_count(&first), 1, "it has made room");
        assert!(!of("first").flags.is_empty());
        assert_eq!(stored_document(), "fc1:");
    }

    #[pg_test]
    fn flags_of_a_rolled_back_subtransaction_are_forgotten() {
        set_up_document();
        let then_fail = |change: &str, start: &str| {
            format!(
                r#"{change}; SET LOCAL ROLE tester; INSERT INTO d VALUES ('acme', 'k', '{{"v": "plain"}}');
                   SELECT 1 / (left(data ->> 'v', 4) <> '{start}')::int FROM d"#
            )
        };
        assert_eq!(stored_document(), "plai");
        Spi::run("TRUNCATE d").unwrap();
        assert_eq!(sqlstate(&then_fail(FLAG, "fc1:")), "22012");
        assert_eq!(stored_document(), "plai");
        Spi::run(FLAG).unwrap();
        assert_eq!(stored_document(), "fc1:");
        Spi::run("TRUNCATE d").unwrap();
        assert_eq!(sqlstate(&then_fail(UNFLAG, "plai")), "22012");
        assert_eq!(stored_document(), "fc1:");
        Spi::run(UNFLAG).unwrap();
        assert_eq!(stored_document(), "plai");
    }

    #[pg_test]
    fn envelopes_made_are_remembered_up_to_a_bound() {
        let envelope = |number: u32| format!("fc1:{number:040}").into_bytes();
        let (rows, kept) = (200_000, 1 << 15);
        for number in 0..rows {
            made::next_row();
            made::remember(&envelope(number));
        }
        assert!(made::contains(&envelope(rows - 1)));
        assert!(made::contains(&envelope(rows - kept)));
        assert!(!made::contains(&envelope(rows - 3 * kept)));
        assert!(!made::contains(&envelope(0)));
        assert!(!made::contains(&envelope(rows)));
        // those of one row stay together, however many they are
        made::next_row();
        for number in rows..2 * rows {
            made::remember(&envelope(number));
        }
        assert!((rows..2 * rows).all(|number| made::contains(&envelope(number))));
    }
}
