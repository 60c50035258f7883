-- encrypted_text: what leaves it is ciphertext, what goes in is plain text and sealed at once.

CREATE TYPE fieldcrypt.encrypted_text;

CREATE FUNCTION fieldcrypt.encrypted_text_in(cstring, oid, integer) RETURNS fieldcrypt.encrypted_text
    AS 'MODULE_PATHNAME', 'encrypted_text_in_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_text_in(cstring, oid, integer) IS
    'input: seals plain text; takes an envelope as it is from members of fieldcrypt_restore';

CREATE FUNCTION fieldcrypt.encrypted_text_out(fieldcrypt.encrypted_text) RETURNS cstring
    AS 'MODULE_PATHNAME', 'encrypted_text_out_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_text_out(fieldcrypt.encrypted_text) IS
    'output: the envelope, always';

CREATE FUNCTION fieldcrypt.encrypted_text_recv(internal, oid, integer) RETURNS fieldcrypt.encrypted_text
    AS 'MODULE_PATHNAME', 'encrypted_text_recv_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_text_recv(internal, oid, integer) IS
    'binary input: as that of text, or an envelope as encrypted_text_in takes it';

CREATE FUNCTION fieldcrypt.encrypted_text_send(fieldcrypt.encrypted_text) RETURNS bytea
    AS 'MODULE_PATHNAME', 'encrypted_text_send_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_text_send(fieldcrypt.encrypted_text) IS
    'binary output: the envelope, always';

CREATE FUNCTION fieldcrypt.encrypted_typmod_in(cstring[]) RETURNS integer
    AS 'MODULE_PATHNAME', 'encrypted_typmod_in_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_typmod_in(cstring[]) IS
    'type modifier: the handle of a field''s name';

CREATE FUNCTION fieldcrypt.encrypted_typmod_out(integer) RETURNS cstring
    AS 'MODULE_PATHNAME', 'encrypted_typmod_out_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_typmod_out(integer) IS
    'type modifier: the field''s name, or the bare handle of a field that is not known';

CREATE FUNCTION fieldcrypt.encrypted_typanalyze(internal) RETURNS boolean
    AS 'MODULE_PATHNAME', 'encrypted_typanalyze_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_typanalyze(internal) IS
    'ANALYZE: share of NULLs, width, number of distinct tokens; no values';

CREATE TYPE fieldcrypt.encrypted_text (
    INPUT = fieldcrypt.encrypted_text_in,
    OUTPUT = fieldcrypt.encrypted_text_out,
    RECEIVE = fieldcrypt.encrypted_text_recv,
    SEND = fieldcrypt.encrypted_text_send,
    TYPMOD_IN = fieldcrypt.encrypted_typmod_in,
    TYPMOD_OUT = fieldcrypt.encrypted_typmod_out,
    ANALYZE = fieldcrypt.encrypted_typanalyze,
    INTERNALLENGTH = VARIABLE,
    ALIGNMENT = int4,
    STORAGE = external
);
COMMENT ON TYPE fieldcrypt.encrypted_text IS
    'text encrypted under the keys of an account and a field: encrypted_text(''lead.ssn'')';

-- they draw a nonce at each call; CREATE TYPE would warn of it
ALTER FUNCTION fieldcrypt.encrypted_text_in(cstring, oid, integer) VOLATILE;
ALTER FUNCTION fieldcrypt.encrypted_text_recv(internal, oid, integer) VOLATILE;

CREATE FUNCTION fieldcrypt.encrypted_text_coerce(fieldcrypt.encrypted_text, integer, boolean)
    RETURNS fieldcrypt.encrypted_text
    AS 'MODULE_PATHNAME', 'encrypted_text_coerce_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_text_coerce(fieldcrypt.encrypted_text, integer, boolean) IS
    'length coercion: seals a literal or parameter under the column''s field and the session''s account, row by row';
CREATE CAST (fieldcrypt.encrypted_text AS fieldcrypt.encrypted_text)
    WITH FUNCTION fieldcrypt.encrypted_text_coerce(fieldcrypt.encrypted_text, integer, boolean) AS IMPLICIT;
COMMENT ON CAST (fieldcrypt.encrypted_text AS fieldcrypt.encrypted_text) IS
    'to the column''s field';

CREATE FUNCTION fieldcrypt.encrypted_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME', 'encrypted_support_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_support(internal) IS
    'planner support: wraps the other side of = and <> in a probe of the column''s field, and keeps plain constants out of plans';

CREATE FUNCTION fieldcrypt.encrypted_text_from_text(text, integer, boolean)
    RETURNS fieldcrypt.encrypted_text
    AS 'MODULE_PATHNAME', 'encrypted_text_from_text_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    SUPPORT fieldcrypt.encrypted_support;
COMMENT ON FUNCTION fieldcrypt.encrypted_text_from_text(text, integer, boolean) IS
    'assignment cast: seals text under the column''s field and the session''s account';
CREATE CAST (text AS fieldcrypt.encrypted_text)
    WITH FUNCTION fieldcrypt.encrypted_text_from_text(text, integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (text AS fieldcrypt.encrypted_text) IS 'plain text to a column of an encrypted type';

CREATE FUNCTION fieldcrypt.encrypted_text_from_text(varchar, integer, boolean)
    RETURNS fieldcrypt.encrypted_text
    AS 'MODULE_PATHNAME', 'encrypted_text_from_text_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    SUPPORT fieldcrypt.encrypted_support;
COMMENT ON FUNCTION fieldcrypt.encrypted_text_from_text(varchar, integer, boolean) IS
    'assignment cast: seals varchar under the column''s field and the session''s account';
CREATE CAST (varchar AS fieldcrypt.encrypted_text)
    WITH FUNCTION fieldcrypt.encrypted_text_from_text(varchar, integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (varchar AS fieldcrypt.encrypted_text) IS 'plain varchar to a column of an encrypted type';

CREATE FUNCTION fieldcrypt.encrypted_text_from_text(bpchar, integer, boolean)
    RETURNS fieldcrypt.encrypted_text
    AS 'MODULE_PATHNAME', 'encrypted_text_from_char_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    SUPPORT fieldcrypt.encrypted_support;
COMMENT ON FUNCTION fieldcrypt.encrypted_text_from_text(bpchar, integer, boolean) IS
    'assignment cast: seals char(n), without its padding under the column''s field and the session''s account';
CREATE CAST (bpchar AS fieldcrypt.encrypted_text)
    WITH FUNCTION fieldcrypt.encrypted_text_from_text(bpchar, integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (bpchar AS fieldcrypt.encrypted_text) IS 'plain bpchar to a column of an encrypted type';

CREATE FUNCTION fieldcrypt.encrypted_text_from_text(name, integer, boolean)
    RETURNS fieldcrypt.encrypted_text
    AS 'MODULE_PATHNAME', 'encrypted_text_from_name_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    SUPPORT fieldcrypt.encrypted_support;
COMMENT ON FUNCTION fieldcrypt.encrypted_text_from_text(name, integer, boolean) IS
    'assignment cast: seals name under the column''s field and the session''s account';
CREATE CAST (name AS fieldcrypt.encrypted_text)
    WITH FUNCTION fieldcrypt.encrypted_text_from_text(name, integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (name AS fieldcrypt.encrypted_text) IS 'plain name to a column of an encrypted type';

-- JSON as a whole. It has no comparison: what is inside is found by tokens()

CREATE TYPE fieldcrypt.encrypted_jsonb;

CREATE FUNCTION fieldcrypt.encrypted_jsonb_in(cstring, oid, integer) RETURNS fieldcrypt.encrypted_jsonb
    AS 'MODULE_PATHNAME', 'encrypted_jsonb_in_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_jsonb_in(cstring, oid, integer) IS
    'input: seals plain JSON; envelopes are taken from members of fieldcrypt_restore only';
CREATE FUNCTION fieldcrypt.encrypted_jsonb_out(fieldcrypt.encrypted_jsonb) RETURNS cstring
    AS 'MODULE_PATHNAME', 'encrypted_text_out_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_jsonb_out(fieldcrypt.encrypted_jsonb) IS 'output: always the envelope';
CREATE FUNCTION fieldcrypt.encrypted_jsonb_recv(internal, oid, integer) RETURNS fieldcrypt.encrypted_jsonb
    AS 'MODULE_PATHNAME', 'encrypted_jsonb_recv_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_jsonb_recv(internal, oid, integer) IS
    'binary input: as that of jsonb, and sealed';
CREATE FUNCTION fieldcrypt.encrypted_jsonb_send(fieldcrypt.encrypted_jsonb) RETURNS bytea
    AS 'MODULE_PATHNAME', 'encrypted_text_send_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_jsonb_send(fieldcrypt.encrypted_jsonb) IS 'binary output: always the envelope';

CREATE TYPE fieldcrypt.encrypted_jsonb (
    INPUT = fieldcrypt.encrypted_jsonb_in,
    OUTPUT = fieldcrypt.encrypted_jsonb_out,
    RECEIVE = fieldcrypt.encrypted_jsonb_recv,
    SEND = fieldcrypt.encrypted_jsonb_send,
    TYPMOD_IN = fieldcrypt.encrypted_typmod_in,
    TYPMOD_OUT = fieldcrypt.encrypted_typmod_out,
    INTERNALLENGTH = VARIABLE,
    ALIGNMENT = int4,
    STORAGE = external
);
COMMENT ON TYPE fieldcrypt.encrypted_jsonb IS
    'JSON encrypted under the keys of an account and a field: encrypted_jsonb(''person.pii'')';

ALTER FUNCTION fieldcrypt.encrypted_jsonb_in(cstring, oid, integer) VOLATILE;
ALTER FUNCTION fieldcrypt.encrypted_jsonb_recv(internal, oid, integer) VOLATILE;

CREATE FUNCTION fieldcrypt.encrypted_jsonb_coerce(fieldcrypt.encrypted_jsonb, integer, boolean)
    RETURNS fieldcrypt.encrypted_jsonb
    AS 'MODULE_PATHNAME', 'encrypted_text_coerce_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_jsonb_coerce(fieldcrypt.encrypted_jsonb, integer, boolean) IS
    'length coercion: seals a literal or parameter under the column''s field and the session''s account, row by row';
CREATE CAST (fieldcrypt.encrypted_jsonb AS fieldcrypt.encrypted_jsonb)
    WITH FUNCTION fieldcrypt.encrypted_jsonb_coerce(fieldcrypt.encrypted_jsonb, integer, boolean) AS IMPLICIT;
COMMENT ON CAST (fieldcrypt.encrypted_jsonb AS fieldcrypt.encrypted_jsonb) IS 'to the column''s field';

CREATE FUNCTION fieldcrypt.encrypted_jsonb_from_jsonb(jsonb, integer, boolean)
    RETURNS fieldcrypt.encrypted_jsonb
    AS 'MODULE_PATHNAME', 'encrypted_jsonb_from_jsonb_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_jsonb_from_jsonb(jsonb, integer, boolean) IS
    'assignment cast: seals jsonb under the column''s field and the session''s account';
CREATE CAST (jsonb AS fieldcrypt.encrypted_jsonb)
    WITH FUNCTION fieldcrypt.encrypted_jsonb_from_jsonb(jsonb, integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (jsonb AS fieldcrypt.encrypted_jsonb) IS 'plain jsonb to a column of an encrypted type';
