-- What applications call by name. Each checks the rights of the current user itself.

DO $family$
DECLARE
    e text; -- the encrypted type
    n text; -- the type of its plain values
    item record;
BEGIN
    FOR e, n IN SELECT encrypted, plain FROM fieldcrypt.encrypted_types() LOOP
        EXECUTE pg_catalog.format($sql$
            CREATE FUNCTION fieldcrypt.encrypt(value %2$s, field text, account text DEFAULT NULL) RETURNS %1$s
                AS 'MODULE_PATHNAME', 'encrypt_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL SAFE COST 10;
            COMMENT ON FUNCTION fieldcrypt.encrypt(%2$s, text, text) IS
                'seals a value under a field and an account (by default fieldcrypt.account); needs encrypt';
        $sql$, e, n);

        FOR item IN VALUES (e, n, ''), (e || '[]', n || '[]', '_array') LOOP
            EXECUTE pg_catalog.format($sql$
                CREATE FUNCTION fieldcrypt.decrypt(value %1$s) RETURNS %2$s
                    AS 'MODULE_PATHNAME', 'decrypt%3$s_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10;
                COMMENT ON FUNCTION fieldcrypt.decrypt(%1$s) IS
                    'what was encrypted; needs decrypt, otherwise an error';

                CREATE FUNCTION fieldcrypt.reveal(value %1$s) RETURNS %2$s
                    AS 'MODULE_PATHNAME', 'reveal%3$s_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10;
                COMMENT ON FUNCTION fieldcrypt.reveal(%1$s) IS
                    'what the current user may see of it: plain, masked, or hidden';
            $sql$, item.column1, item.column2, item.column3);
        END LOOP;

        -- an entity without a type, such as a parameter, is a text
        FOR item IN VALUES ('text', '_of'), ('"any"', '_of_key') LOOP
            EXECUTE pg_catalog.format($sql$
                CREATE FUNCTION fieldcrypt.decrypt(value %1$s, entity %3$s) RETURNS %2$s
                    AS 'MODULE_PATHNAME', 'decrypt%4$s_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10;
                COMMENT ON FUNCTION fieldcrypt.decrypt(%1$s, %3$s) IS
                    'what was encrypted; the audit notes what it belongs to';

                CREATE FUNCTION fieldcrypt.reveal(value %1$s, entity %3$s) RETURNS %2$s
                    AS 'MODULE_PATHNAME', 'reveal%4$s_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10;
                COMMENT ON FUNCTION fieldcrypt.reveal(%1$s, %3$s) IS
                    'what the current user may see of it; the audit notes what it belongs to';
            $sql$, e, n, item.column1, item.column2);
        END LOOP;

        EXECUTE pg_catalog.format($sql$
            CREATE FUNCTION fieldcrypt.account_of(value %1$s) RETURNS text
                AS 'MODULE_PATHNAME', 'account_of_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
            COMMENT ON FUNCTION fieldcrypt.account_of(%1$s) IS
                'the account under whose key a value is sealed; NULL if the key is not in this database';

            CREATE FUNCTION fieldcrypt.field_of(value %1$s) RETURNS text
                AS 'MODULE_PATHNAME', 'field_of_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
            COMMENT ON FUNCTION fieldcrypt.field_of(%1$s) IS
                'the field that a value belongs to; NULL if this database does not know it';

            CREATE FUNCTION fieldcrypt.key_of(value %1$s) RETURNS bigint
                AS 'MODULE_PATHNAME', 'key_of_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
            COMMENT ON FUNCTION fieldcrypt.key_of(%1$s) IS
                'the id of the key under which a value is sealed';

            CREATE FUNCTION fieldcrypt.reencrypt(value %1$s) RETURNS %1$s
                AS 'MODULE_PATHNAME', 'reencrypt_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL SAFE COST 10;
            COMMENT ON FUNCTION fieldcrypt.reencrypt(%1$s) IS
                'the same value under its account''s newest data key and its field''s policy; needs encrypt, if older ones have sealed it';

            CREATE FUNCTION fieldcrypt.needs_reencryption(value %1$s) RETURNS boolean
                AS 'MODULE_PATHNAME', 'needs_reencryption_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
            COMMENT ON FUNCTION fieldcrypt.needs_reencryption(%1$s) IS
                'whether an older data key or policy has sealed a value; needs encrypt where only the value can tell';

            CREATE FUNCTION fieldcrypt.tokens(value %1$s) RETURNS bigint[]
                AS 'MODULE_PATHNAME', 'value_tokens_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
            COMMENT ON FUNCTION fieldcrypt.tokens(%1$s) IS
                'the tokens of a value, for a GIN index';

            CREATE FUNCTION fieldcrypt.token(value %1$s, scope text DEFAULT 'account') RETURNS bytea
                AS 'MODULE_PATHNAME', 'value_token_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
            COMMENT ON FUNCTION fieldcrypt.token(%1$s, text) IS
                'the token of a value, 16 bytes, for a unique index across accounts';
        $sql$, e);
    END LOOP;
END
$family$;

-- these are as near to bigint as to numeric
CREATE FUNCTION fieldcrypt.encrypt(value integer, field text, account text DEFAULT NULL)
    RETURNS fieldcrypt.encrypted_bigint
    LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL SAFE
    RETURN fieldcrypt.encrypt(value::bigint, field, account);
COMMENT ON FUNCTION fieldcrypt.encrypt(integer, text, text) IS
    'seals an integer as a bigint; needs encrypt';

CREATE FUNCTION fieldcrypt.encrypt(value smallint, field text, account text DEFAULT NULL)
    RETURNS fieldcrypt.encrypted_bigint
    LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL SAFE
    RETURN fieldcrypt.encrypt(value::bigint, field, account);
COMMENT ON FUNCTION fieldcrypt.encrypt(smallint, text, text) IS
    'seals a smallint as a bigint; needs encrypt';

CREATE FUNCTION fieldcrypt.blind_index(value text, field text, account text DEFAULT NULL) RETURNS bytea
    AS 'MODULE_PATHNAME', 'blind_index_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION fieldcrypt.blind_index(text, text, text) IS
    'the equality token of a value, 16 bytes, for look-ups outside the encrypted type; needs search';

-- documents

CREATE FUNCTION fieldcrypt.reencrypt(document jsonb) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'reencrypt_document_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL SAFE COST 30;
COMMENT ON FUNCTION fieldcrypt.reencrypt(jsonb) IS
    'the same document, each value in it under its account''s newest data key and its field''s policy; needs encrypt on those that older ones have sealed';

CREATE FUNCTION fieldcrypt.needs_reencryption(document jsonb) RETURNS boolean
    AS 'MODULE_PATHNAME', 'document_needs_reencryption_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 3;
COMMENT ON FUNCTION fieldcrypt.needs_reencryption(jsonb) IS
    'whether an older data key or policy has sealed a value in a document; needs encrypt where only the value can tell';

CREATE FUNCTION fieldcrypt.decrypt(document jsonb) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'decrypt_document_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 30;
COMMENT ON FUNCTION fieldcrypt.decrypt(jsonb) IS
    'a document with its plain values; needs decrypt on each field in it, otherwise an error';

CREATE FUNCTION fieldcrypt.decrypt(document jsonb, path text) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'decrypt_at_path_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 20;
COMMENT ON FUNCTION fieldcrypt.decrypt(jsonb, text) IS
    'the plain value at a path of a document, NULL if there is none; an array of them if the path has [*]';

CREATE FUNCTION fieldcrypt.reveal(document jsonb) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'reveal_document_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 30;
COMMENT ON FUNCTION fieldcrypt.reveal(jsonb) IS
    'a document as the current user may see it: each value plain, masked, or hidden';

CREATE FUNCTION fieldcrypt.decrypt(document jsonb, path text, entity text) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'decrypt_at_path_of_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 20;
COMMENT ON FUNCTION fieldcrypt.decrypt(jsonb, text, text) IS
    'the plain value at a path of a document, or the whole document if the path is NULL; the audit notes what it belongs to';

CREATE FUNCTION fieldcrypt.reveal(document jsonb, entity text) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'reveal_document_of_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 30;
COMMENT ON FUNCTION fieldcrypt.reveal(jsonb, text) IS
    'a document as the current user may see it; the audit notes what it belongs to';

CREATE FUNCTION fieldcrypt.decrypt(document jsonb, blob fieldcrypt.encrypted_jsonb) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'decrypt_merged_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 40;
COMMENT ON FUNCTION fieldcrypt.decrypt(jsonb, fieldcrypt.encrypted_jsonb) IS
    'a document and the values gathered from it, merged; needs decrypt on each field in it, otherwise an error';

CREATE FUNCTION fieldcrypt.reveal(document jsonb, blob fieldcrypt.encrypted_jsonb) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'reveal_merged_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 40;
COMMENT ON FUNCTION fieldcrypt.reveal(jsonb, fieldcrypt.encrypted_jsonb) IS
    'a document and the values gathered from it, merged: each value plain, masked, or hidden';

CREATE FUNCTION fieldcrypt.decrypt(document jsonb, blob fieldcrypt.encrypted_jsonb, entity text) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'decrypt_merged_of_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 40;
COMMENT ON FUNCTION fieldcrypt.decrypt(jsonb, fieldcrypt.encrypted_jsonb, text) IS
    'a document and the values gathered from it, merged; the audit notes what they belong to';

CREATE FUNCTION fieldcrypt.reveal(document jsonb, blob fieldcrypt.encrypted_jsonb, entity text) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'reveal_merged_of_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 40;
COMMENT ON FUNCTION fieldcrypt.reveal(jsonb, fieldcrypt.encrypted_jsonb, text) IS
    'a document and the values gathered from it as the current user may see them; the audit notes what they belong to';

-- look-ups by token: what is stored needs no key to be indexed, what is looked for does

CREATE FUNCTION fieldcrypt.tokens(document jsonb) RETURNS bigint[]
    AS 'MODULE_PATHNAME', 'document_tokens_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5;
COMMENT ON FUNCTION fieldcrypt.tokens(jsonb) IS
    'the tokens of the values in a document, for a GIN index';

CREATE FUNCTION fieldcrypt.token(document jsonb, field text, scope text DEFAULT 'account') RETURNS bytea
    AS 'MODULE_PATHNAME', 'document_token_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5;
COMMENT ON FUNCTION fieldcrypt.token(jsonb, text, text) IS
    'the token of the one value of a field in a document, 16 bytes, for a unique index; NULL if there is none';

CREATE FUNCTION fieldcrypt.search_tokens(field text, value text, account text DEFAULT NULL) RETURNS bigint[]
    AS 'MODULE_PATHNAME', 'search_tokens_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 10
    SUPPORT fieldcrypt.encrypted_support;
COMMENT ON FUNCTION fieldcrypt.search_tokens(text, text, text) IS
    'what tokens() of an equal value overlaps, in an account (by default fieldcrypt.account) or across accounts (*); needs search';

CREATE FUNCTION fieldcrypt.search_tokens_in_transit(field text, value fieldcrypt.encrypted_text, account text)
    RETURNS bigint[]
    AS 'MODULE_PATHNAME', 'search_tokens_in_transit_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION fieldcrypt.search_tokens_in_transit(text, fieldcrypt.encrypted_text, text) IS
    'search_tokens() of a constant, as the planner writes it: no plan shows the plain value';

-- the planner puts their bodies in place of them, so that an index on tokens() is used
CREATE FUNCTION fieldcrypt.matches(document jsonb, field text, value text, account text DEFAULT NULL)
    RETURNS boolean
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE
    RETURN fieldcrypt.tokens(document) OPERATOR(pg_catalog.&&) fieldcrypt.search_tokens(field, value, account);
COMMENT ON FUNCTION fieldcrypt.matches(jsonb, text, text, text) IS
    'whether a value of the field in a document equals a text; needs search';

CREATE FUNCTION fieldcrypt.matches(blob fieldcrypt.encrypted_jsonb, field text, value text, account text DEFAULT NULL)
    RETURNS boolean
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE
    RETURN fieldcrypt.tokens(blob) OPERATOR(pg_catalog.&&) fieldcrypt.search_tokens(field, value, account);
COMMENT ON FUNCTION fieldcrypt.matches(fieldcrypt.encrypted_jsonb, text, text, text) IS
    'whether a value of the field gathered in a blob equals a text; needs search';
