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
