-- What applications call by name. Each checks the rights of the current user itself.

CREATE FUNCTION fieldcrypt.encrypt(value text, field text, account text DEFAULT NULL)
    RETURNS fieldcrypt.encrypted_text
    AS 'MODULE_PATHNAME', 'encrypt_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION fieldcrypt.encrypt(text, text, text) IS
    'seals a value under a field and an account (by default fieldcrypt.account); needs encrypt';

CREATE FUNCTION fieldcrypt.decrypt(value fieldcrypt.encrypted_text) RETURNS text
    AS 'MODULE_PATHNAME', 'decrypt_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION fieldcrypt.decrypt(fieldcrypt.encrypted_text) IS
    'the plain value; needs decrypt, otherwise an error';

CREATE FUNCTION fieldcrypt.reveal(value fieldcrypt.encrypted_text) RETURNS text
    AS 'MODULE_PATHNAME', 'reveal_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION fieldcrypt.reveal(fieldcrypt.encrypted_text) IS
    'what the current user may see of a value: plain, masked, or hidden';

CREATE FUNCTION fieldcrypt.blind_index(value text, field text, account text DEFAULT NULL) RETURNS bytea
    AS 'MODULE_PATHNAME', 'blind_index_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION fieldcrypt.blind_index(text, text, text) IS
    'the equality token of a value, 16 bytes, for look-ups outside the encrypted type; needs search';

CREATE FUNCTION fieldcrypt.account_of(value fieldcrypt.encrypted_text) RETURNS text
    AS 'MODULE_PATHNAME', 'account_of_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.account_of(fieldcrypt.encrypted_text) IS
    'the account under whose key a value is sealed; NULL if the key is not in this database';

CREATE FUNCTION fieldcrypt.field_of(value fieldcrypt.encrypted_text) RETURNS text
    AS 'MODULE_PATHNAME', 'field_of_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.field_of(fieldcrypt.encrypted_text) IS
    'the field that a value belongs to; NULL if this database does not know it';

CREATE FUNCTION fieldcrypt.key_of(value fieldcrypt.encrypted_text) RETURNS bigint
    AS 'MODULE_PATHNAME', 'key_of_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.key_of(fieldcrypt.encrypted_text) IS
    'the id of the key under which a value is sealed';

-- documents, and values of type encrypted_jsonb

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

CREATE FUNCTION fieldcrypt.decrypt(value fieldcrypt.encrypted_jsonb) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'decrypt_jsonb_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 20;
COMMENT ON FUNCTION fieldcrypt.decrypt(fieldcrypt.encrypted_jsonb) IS
    'the plain value; needs decrypt, otherwise an error';

CREATE FUNCTION fieldcrypt.reveal(value fieldcrypt.encrypted_jsonb) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'reveal_jsonb_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 20;
COMMENT ON FUNCTION fieldcrypt.reveal(fieldcrypt.encrypted_jsonb) IS
    'what the current user may see of a value: plain, masked, or hidden';

CREATE FUNCTION fieldcrypt.decrypt(document jsonb, blob fieldcrypt.encrypted_jsonb) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'decrypt_merged_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 40;
COMMENT ON FUNCTION fieldcrypt.decrypt(jsonb, fieldcrypt.encrypted_jsonb) IS
    'a document and the values gathered from it, merged; needs decrypt on each field in it, otherwise an error';

CREATE FUNCTION fieldcrypt.reveal(document jsonb, blob fieldcrypt.encrypted_jsonb) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'reveal_merged_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 40;
COMMENT ON FUNCTION fieldcrypt.reveal(jsonb, fieldcrypt.encrypted_jsonb) IS
    'a document and the values gathered from it, merged: each value plain, masked, or hidden';

CREATE FUNCTION fieldcrypt.account_of(value fieldcrypt.encrypted_jsonb) RETURNS text
    AS 'MODULE_PATHNAME', 'account_of_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.account_of(fieldcrypt.encrypted_jsonb) IS
    'the account under whose key a value is sealed; NULL if the key is not in this database';

CREATE FUNCTION fieldcrypt.field_of(value fieldcrypt.encrypted_jsonb) RETURNS text
    AS 'MODULE_PATHNAME', 'field_of_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.field_of(fieldcrypt.encrypted_jsonb) IS
    'the field that a value belongs to; NULL if this database does not know it';

CREATE FUNCTION fieldcrypt.key_of(value fieldcrypt.encrypted_jsonb) RETURNS bigint
    AS 'MODULE_PATHNAME', 'key_of_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.key_of(fieldcrypt.encrypted_jsonb) IS
    'the id of the key under which a value is sealed';

-- look-ups by token: what is stored needs no key to be indexed, what is looked for does

CREATE FUNCTION fieldcrypt.tokens(document jsonb) RETURNS bigint[]
    AS 'MODULE_PATHNAME', 'document_tokens_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5;
COMMENT ON FUNCTION fieldcrypt.tokens(jsonb) IS
    'the tokens of the values in a document, for a GIN index';

CREATE FUNCTION fieldcrypt.tokens(value fieldcrypt.encrypted_text) RETURNS bigint[]
    AS 'MODULE_PATHNAME', 'value_tokens_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.tokens(fieldcrypt.encrypted_text) IS
    'the tokens of a value, for a GIN index';

CREATE FUNCTION fieldcrypt.tokens(value fieldcrypt.encrypted_jsonb) RETURNS bigint[]
    AS 'MODULE_PATHNAME', 'value_tokens_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.tokens(fieldcrypt.encrypted_jsonb) IS
    'the tokens of the values gathered in a blob, for a GIN index';

CREATE FUNCTION fieldcrypt.token(document jsonb, field text, scope text DEFAULT 'account') RETURNS bytea
    AS 'MODULE_PATHNAME', 'document_token_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5;
COMMENT ON FUNCTION fieldcrypt.token(jsonb, text, text) IS
    'the token of the one value of a field in a document, 16 bytes, for a unique index; NULL if there is none';

CREATE FUNCTION fieldcrypt.token(value fieldcrypt.encrypted_text, scope text DEFAULT 'account') RETURNS bytea
    AS 'MODULE_PATHNAME', 'value_token_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.token(fieldcrypt.encrypted_text, text) IS
    'the token of a value, 16 bytes, for a unique index across accounts';

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
