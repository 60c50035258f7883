-- Comparison and search. `=` and `<>` live in pg_catalog, so that they are found under every
-- search_path; there is no `<`, since an order by token would mean nothing. Their functions are
-- STABLE: the planner would fold two constants before it asks the support function.

CREATE FUNCTION fieldcrypt.encrypted_eqsel(internal, oid, internal, integer) RETURNS double precision
    AS 'MODULE_PATHNAME', 'encrypted_eqsel_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_eqsel(internal, oid, internal, integer) IS
    'selectivity of =, without evaluating the other side';

CREATE FUNCTION fieldcrypt.encrypted_neqsel(internal, oid, internal, integer) RETURNS double precision
    AS 'MODULE_PATHNAME', 'encrypted_neqsel_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_neqsel(internal, oid, internal, integer) IS
    'selectivity of <>, without evaluating the other side';

CREATE FUNCTION fieldcrypt.probe(fieldcrypt.encrypted_text, integer) RETURNS fieldcrypt.encrypted_text
    AS 'MODULE_PATHNAME', 'probe_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION fieldcrypt.probe(fieldcrypt.encrypted_text, integer) IS
    'what the planner puts around the other side of a comparison: tokens of that field under the session''s account';

CREATE FUNCTION fieldcrypt.probe(text, integer) RETURNS fieldcrypt.encrypted_text
    AS 'MODULE_PATHNAME', 'probe_text_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10 SUPPORT fieldcrypt.encrypted_support;
COMMENT ON FUNCTION fieldcrypt.probe(text, integer) IS
    'what the planner puts around the other side of a comparison: tokens of that field under the session''s account';

CREATE FUNCTION fieldcrypt.probe(fieldcrypt.encrypted_text[], integer) RETURNS fieldcrypt.encrypted_text[]
    AS 'MODULE_PATHNAME', 'probe_array_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION fieldcrypt.probe(fieldcrypt.encrypted_text[], integer) IS
    'what the planner puts around the other side of a comparison: tokens of that field under the session''s account';

CREATE FUNCTION fieldcrypt.probe(text[], integer) RETURNS fieldcrypt.encrypted_text[]
    AS 'MODULE_PATHNAME', 'probe_text_array_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10 SUPPORT fieldcrypt.encrypted_support;
COMMENT ON FUNCTION fieldcrypt.probe(text[], integer) IS
    'what the planner puts around the other side of a comparison: tokens of that field under the session''s account';

CREATE FUNCTION fieldcrypt.encrypted_eq(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'encrypted_eq_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE
    SUPPORT fieldcrypt.encrypted_support;
COMMENT ON FUNCTION fieldcrypt.encrypted_eq(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) IS
    'equal: compares tokens';

CREATE FUNCTION fieldcrypt.encrypted_eq(fieldcrypt.encrypted_text, text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'encrypted_compare_text_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE
    SUPPORT fieldcrypt.encrypted_support;
COMMENT ON FUNCTION fieldcrypt.encrypted_eq(fieldcrypt.encrypted_text, text) IS
    'equal: replaced by the planner where it knows the field, an error elsewhere';

CREATE FUNCTION fieldcrypt.encrypted_eq(text, fieldcrypt.encrypted_text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'encrypted_compare_text_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE
    SUPPORT fieldcrypt.encrypted_support;
COMMENT ON FUNCTION fieldcrypt.encrypted_eq(text, fieldcrypt.encrypted_text) IS
    'equal: replaced by the planner where it knows the field, an error elsewhere';

CREATE FUNCTION fieldcrypt.encrypted_ne(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'encrypted_ne_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE
    SUPPORT fieldcrypt.encrypted_support;
COMMENT ON FUNCTION fieldcrypt.encrypted_ne(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) IS
    'not equal: compares tokens';

CREATE FUNCTION fieldcrypt.encrypted_ne(fieldcrypt.encrypted_text, text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'encrypted_compare_text_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE
    SUPPORT fieldcrypt.encrypted_support;
COMMENT ON FUNCTION fieldcrypt.encrypted_ne(fieldcrypt.encrypted_text, text) IS
    'not equal: replaced by the planner where it knows the field, an error elsewhere';

CREATE FUNCTION fieldcrypt.encrypted_ne(text, fieldcrypt.encrypted_text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'encrypted_compare_text_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE
    SUPPORT fieldcrypt.encrypted_support;
COMMENT ON FUNCTION fieldcrypt.encrypted_ne(text, fieldcrypt.encrypted_text) IS
    'not equal: replaced by the planner where it knows the field, an error elsewhere';

CREATE OPERATOR pg_catalog.= (
    FUNCTION = fieldcrypt.encrypted_eq, LEFTARG = fieldcrypt.encrypted_text, RIGHTARG = fieldcrypt.encrypted_text,
    COMMUTATOR = OPERATOR(pg_catalog.=), NEGATOR = OPERATOR(pg_catalog.<>),
    RESTRICT = fieldcrypt.encrypted_eqsel, JOIN = pg_catalog.eqjoinsel,
    HASHES, MERGES
);
COMMENT ON OPERATOR pg_catalog.= (fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) IS 'equal, by token';

CREATE OPERATOR pg_catalog.<> (
    FUNCTION = fieldcrypt.encrypted_ne, LEFTARG = fieldcrypt.encrypted_text, RIGHTARG = fieldcrypt.encrypted_text,
    COMMUTATOR = OPERATOR(pg_catalog.<>), NEGATOR = OPERATOR(pg_catalog.=),
    RESTRICT = fieldcrypt.encrypted_neqsel, JOIN = pg_catalog.neqjoinsel
);
COMMENT ON OPERATOR pg_catalog.<> (fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) IS 'not equal, by token';

CREATE OPERATOR pg_catalog.= (
    FUNCTION = fieldcrypt.encrypted_eq, LEFTARG = fieldcrypt.encrypted_text, RIGHTARG = text,
    COMMUTATOR = OPERATOR(pg_catalog.=), NEGATOR = OPERATOR(pg_catalog.<>),
    RESTRICT = fieldcrypt.encrypted_eqsel, JOIN = pg_catalog.eqjoinsel
);
COMMENT ON OPERATOR pg_catalog.= (fieldcrypt.encrypted_text, text) IS 'equal, by token';

CREATE OPERATOR pg_catalog.<> (
    FUNCTION = fieldcrypt.encrypted_ne, LEFTARG = fieldcrypt.encrypted_text, RIGHTARG = text,
    COMMUTATOR = OPERATOR(pg_catalog.<>), NEGATOR = OPERATOR(pg_catalog.=),
    RESTRICT = fieldcrypt.encrypted_neqsel, JOIN = pg_catalog.neqjoinsel
);
COMMENT ON OPERATOR pg_catalog.<> (fieldcrypt.encrypted_text, text) IS 'not equal, by token';

CREATE OPERATOR pg_catalog.= (
    FUNCTION = fieldcrypt.encrypted_eq, LEFTARG = text, RIGHTARG = fieldcrypt.encrypted_text,
    COMMUTATOR = OPERATOR(pg_catalog.=), NEGATOR = OPERATOR(pg_catalog.<>),
    RESTRICT = fieldcrypt.encrypted_eqsel, JOIN = pg_catalog.eqjoinsel
);
COMMENT ON OPERATOR pg_catalog.= (text, fieldcrypt.encrypted_text) IS 'equal, by token';

CREATE OPERATOR pg_catalog.<> (
    FUNCTION = fieldcrypt.encrypted_ne, LEFTARG = text, RIGHTARG = fieldcrypt.encrypted_text,
    COMMUTATOR = OPERATOR(pg_catalog.<>), NEGATOR = OPERATOR(pg_catalog.=),
    RESTRICT = fieldcrypt.encrypted_neqsel, JOIN = pg_catalog.neqjoinsel
);
COMMENT ON OPERATOR pg_catalog.<> (text, fieldcrypt.encrypted_text) IS 'not equal, by token';

-- The order of btree indexes. It groups equal values and means nothing else, so its operators have
-- names that nobody writes by accident.

CREATE FUNCTION fieldcrypt.encrypted_lt(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'encrypted_lt_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_lt(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) IS
    'before in the order of btree indexes';
CREATE OPERATOR fieldcrypt.<# (
    FUNCTION = fieldcrypt.encrypted_lt, LEFTARG = fieldcrypt.encrypted_text, RIGHTARG = fieldcrypt.encrypted_text,
    COMMUTATOR = OPERATOR(fieldcrypt.>#), NEGATOR = OPERATOR(fieldcrypt.>=#)
);
COMMENT ON OPERATOR fieldcrypt.<# (fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) IS
    'before in the order of btree indexes';

CREATE FUNCTION fieldcrypt.encrypted_le(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'encrypted_le_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_le(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) IS
    'before or equal in the order of btree indexes';
CREATE OPERATOR fieldcrypt.<=# (
    FUNCTION = fieldcrypt.encrypted_le, LEFTARG = fieldcrypt.encrypted_text, RIGHTARG = fieldcrypt.encrypted_text,
    COMMUTATOR = OPERATOR(fieldcrypt.>=#), NEGATOR = OPERATOR(fieldcrypt.>#)
);
COMMENT ON OPERATOR fieldcrypt.<=# (fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) IS
    'before or equal in the order of btree indexes';

CREATE FUNCTION fieldcrypt.encrypted_ge(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'encrypted_ge_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_ge(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) IS
    'after or equal in the order of btree indexes';
CREATE OPERATOR fieldcrypt.>=# (
    FUNCTION = fieldcrypt.encrypted_ge, LEFTARG = fieldcrypt.encrypted_text, RIGHTARG = fieldcrypt.encrypted_text,
    COMMUTATOR = OPERATOR(fieldcrypt.<=#), NEGATOR = OPERATOR(fieldcrypt.<#)
);
COMMENT ON OPERATOR fieldcrypt.>=# (fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) IS
    'after or equal in the order of btree indexes';

CREATE FUNCTION fieldcrypt.encrypted_gt(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'encrypted_gt_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_gt(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) IS
    'after in the order of btree indexes';
CREATE OPERATOR fieldcrypt.># (
    FUNCTION = fieldcrypt.encrypted_gt, LEFTARG = fieldcrypt.encrypted_text, RIGHTARG = fieldcrypt.encrypted_text,
    COMMUTATOR = OPERATOR(fieldcrypt.<#), NEGATOR = OPERATOR(fieldcrypt.<=#)
);
COMMENT ON OPERATOR fieldcrypt.># (fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) IS
    'after in the order of btree indexes';

CREATE FUNCTION fieldcrypt.encrypted_cmp(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) RETURNS integer
    AS 'MODULE_PATHNAME', 'encrypted_cmp_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_cmp(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) IS
    'the order of btree indexes: by field, index key and token';

CREATE FUNCTION fieldcrypt.encrypted_hash(fieldcrypt.encrypted_text) RETURNS integer
    AS 'MODULE_PATHNAME', 'encrypted_hash_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_hash(fieldcrypt.encrypted_text) IS
    'hash of field, index key and token';

CREATE FUNCTION fieldcrypt.encrypted_hash_extended(fieldcrypt.encrypted_text, bigint) RETURNS bigint
    AS 'MODULE_PATHNAME', 'encrypted_hash_extended_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_hash_extended(fieldcrypt.encrypted_text, bigint) IS
    '64-bit hash of field, index key and token, for hash partitioning';

CREATE OPERATOR FAMILY fieldcrypt.encrypted_text_ops USING btree;
CREATE OPERATOR CLASS fieldcrypt.encrypted_text_ops
    DEFAULT FOR TYPE fieldcrypt.encrypted_text USING btree FAMILY fieldcrypt.encrypted_text_ops AS
    OPERATOR 1 fieldcrypt.<#,
    OPERATOR 2 fieldcrypt.<=#,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 fieldcrypt.>=#,
    OPERATOR 5 fieldcrypt.>#,
    FUNCTION 1 fieldcrypt.encrypted_cmp(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text);
COMMENT ON OPERATOR FAMILY fieldcrypt.encrypted_text_ops USING btree IS 'equality by token';
COMMENT ON OPERATOR CLASS fieldcrypt.encrypted_text_ops USING btree IS 'equality by token';

CREATE OPERATOR FAMILY fieldcrypt.encrypted_text_ops USING hash;
CREATE OPERATOR CLASS fieldcrypt.encrypted_text_ops
    DEFAULT FOR TYPE fieldcrypt.encrypted_text USING hash FAMILY fieldcrypt.encrypted_text_ops AS
    OPERATOR 1 pg_catalog.=,
    FUNCTION 1 fieldcrypt.encrypted_hash(fieldcrypt.encrypted_text),
    FUNCTION 2 fieldcrypt.encrypted_hash_extended(fieldcrypt.encrypted_text, bigint);
COMMENT ON OPERATOR FAMILY fieldcrypt.encrypted_text_ops USING hash IS 'equality by token';
COMMENT ON OPERATOR CLASS fieldcrypt.encrypted_text_ops USING hash IS 'equality by token';
