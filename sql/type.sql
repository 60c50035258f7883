-- The encrypted types: what leaves one is ciphertext, what goes in is plain and sealed at once. They
-- share one representation and one implementation; what each of them has is made in a loop.

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

CREATE FUNCTION fieldcrypt.encrypted_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME', 'encrypted_support_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_support(internal) IS
    'planner support: wraps the other side of = and <> in a probe of the column''s field, and keeps plain constants out of plans';

CREATE FUNCTION fieldcrypt.encrypted_types(OUT encrypted regtype, OUT plain regtype) RETURNS SETOF record
    LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE ROWS 9 SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        SELECT t.oid::regtype, to_regtype(substr(t.typname, 11))
        FROM pg_type AS t
        WHERE t.typmodin = 'fieldcrypt.encrypted_typmod_in'::regproc AND t.typelem = 0
        ORDER BY t.oid;
END
$$;
COMMENT ON FUNCTION fieldcrypt.encrypted_types() IS
    'the encrypted types with the types of their plain values';

DO $family$
DECLARE
    kind text;
    e text; -- the encrypted type
    n text; -- the type of its plain values
    source text; -- a type that is assigned to a column of the plain type
BEGIN
    FOREACH kind IN ARRAY '{text, bytea, jsonb, bigint, numeric, date, timestamptz, boolean, uuid}'::text[] LOOP
        e := pg_catalog.concat('fieldcrypt.encrypted_', kind);
        n := pg_catalog.concat('pg_catalog.', CASE kind WHEN 'bigint' THEN 'int8' WHEN 'boolean' THEN 'bool' ELSE kind END);

        EXECUTE pg_catalog.format($sql$
            CREATE TYPE %1$s;

            CREATE FUNCTION %1$s_in(cstring, oid, integer) RETURNS %1$s
                AS 'MODULE_PATHNAME', 'encrypted_in_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
            COMMENT ON FUNCTION %1$s_in(cstring, oid, integer) IS
                'input: seals a plain value; takes an envelope as it is from members of fieldcrypt_restore';

            CREATE FUNCTION %1$s_out(%1$s) RETURNS cstring
                AS 'MODULE_PATHNAME', 'encrypted_out_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
            COMMENT ON FUNCTION %1$s_out(%1$s) IS 'output: the envelope, always';

            CREATE FUNCTION %1$s_recv(internal, oid, integer) RETURNS %1$s
                AS 'MODULE_PATHNAME', 'encrypted_recv_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
            COMMENT ON FUNCTION %1$s_recv(internal, oid, integer) IS
                'binary input: as that of the plain type, or an envelope as the input function takes it';

            CREATE FUNCTION %1$s_send(%1$s) RETURNS bytea
                AS 'MODULE_PATHNAME', 'encrypted_send_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
            COMMENT ON FUNCTION %1$s_send(%1$s) IS 'binary output: the envelope, always';

            CREATE TYPE %1$s (
                INPUT = %1$s_in,
                OUTPUT = %1$s_out,
                RECEIVE = %1$s_recv,
                SEND = %1$s_send,
                TYPMOD_IN = fieldcrypt.encrypted_typmod_in,
                TYPMOD_OUT = fieldcrypt.encrypted_typmod_out,
                ANALYZE = fieldcrypt.encrypted_typanalyze,
                INTERNALLENGTH = VARIABLE,
                ALIGNMENT = int4,
                STORAGE = external
            );
            COMMENT ON TYPE %1$s IS
                '%3$s encrypted under the keys of an account and a field: encrypted_%3$s(''lead.ssn'')';

            -- they draw a nonce at each call; CREATE TYPE would warn of it
            ALTER FUNCTION %1$s_in(cstring, oid, integer) VOLATILE;
            ALTER FUNCTION %1$s_recv(internal, oid, integer) VOLATILE;

            CREATE FUNCTION %1$s_coerce(%1$s, integer, boolean) RETURNS %1$s
                AS 'MODULE_PATHNAME', 'encrypted_coerce_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
            COMMENT ON FUNCTION %1$s_coerce(%1$s, integer, boolean) IS
                'length coercion: seals a literal or parameter under the column''s field and the session''s account, row by row';
            CREATE CAST (%1$s AS %1$s) WITH FUNCTION %1$s_coerce(%1$s, integer, boolean) AS IMPLICIT;
            COMMENT ON CAST (%1$s AS %1$s) IS 'to the column''s field';

            CREATE FUNCTION %1$s_from(%2$s, integer, boolean) RETURNS %1$s
                AS 'MODULE_PATHNAME', 'encrypted_from_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL SAFE
                SUPPORT fieldcrypt.encrypted_support;
            COMMENT ON FUNCTION %1$s_from(%2$s, integer, boolean) IS
                'assignment cast: seals a plain value under the column''s field and the session''s account';
            CREATE CAST (%2$s AS %1$s) WITH FUNCTION %1$s_from(%2$s, integer, boolean) AS ASSIGNMENT;
            COMMENT ON CAST (%2$s AS %1$s) IS 'plain %3$s to a column of an encrypted type';
        $sql$, e, n, kind);

        FOREACH source IN ARRAY CASE kind
            -- as to a plain text column: the common ones of all that PostgreSQL turns into text
            WHEN 'text' THEN '{varchar, bpchar, name, bool, int2, int4, int8, numeric, float4, float8, date,
                timestamp, timestamptz, uuid, json, jsonb}'
            WHEN 'bigint' THEN '{int2, int4, numeric}'
            WHEN 'numeric' THEN '{int2, int4, int8, float4, float8}'
            WHEN 'date' THEN '{timestamp, timestamptz}'
            WHEN 'timestamptz' THEN '{date, timestamp}'
            ELSE '{}' END::text[]
        LOOP
            EXECUTE pg_catalog.format($sql$
                -- the planner puts its body in place of it
                CREATE FUNCTION %1$s_from(pg_catalog.%3$s, integer, boolean) RETURNS %1$s
                    LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
                    RETURN %1$s_from($1::%2$s, $2, $3);
                COMMENT ON FUNCTION %1$s_from(pg_catalog.%3$s, integer, boolean) IS
                    'assignment cast: by way of the type of the plain values';
                CREATE CAST (pg_catalog.%3$s AS %1$s) WITH FUNCTION %1$s_from(pg_catalog.%3$s, integer, boolean) AS ASSIGNMENT;
                COMMENT ON CAST (pg_catalog.%3$s AS %1$s) IS 'plain %3$s to a column of an encrypted type';
            $sql$, e, n, source);
        END LOOP;
    END LOOP;
END
$family$;

-- PostgreSQL's own cast of json to jsonb would show the document in its errors
CREATE FUNCTION fieldcrypt.encrypted_jsonb_from(json, integer, boolean) RETURNS fieldcrypt.encrypted_jsonb
    AS 'MODULE_PATHNAME', 'encrypted_from_json_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    SUPPORT fieldcrypt.encrypted_support;
COMMENT ON FUNCTION fieldcrypt.encrypted_jsonb_from(json, integer, boolean) IS
    'assignment cast: by way of the type of the plain values';
CREATE CAST (json AS fieldcrypt.encrypted_jsonb)
    WITH FUNCTION fieldcrypt.encrypted_jsonb_from(json, integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (json AS fieldcrypt.encrypted_jsonb) IS 'plain json to a column of an encrypted type';
