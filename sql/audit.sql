-- Who read what, and who changed what (docs/audit.md). Only the background worker writes events.

CREATE FUNCTION fieldcrypt.audit_microseconds(at timestamptz) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN CASE WHEN at < '9999-12-31 00:00:00+00' AND at > '0001-01-01 00:00:00+00'
        THEN (extract(epoch FROM at) * 1000000)::bigint END;
COMMENT ON FUNCTION fieldcrypt.audit_microseconds(timestamptz) IS
    'a time in microseconds since 1970; NULL for one that no event can have';

CREATE TABLE fieldcrypt.audit_batch (
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    sealed_at timestamptz NOT NULL,
    key_id bigint NOT NULL,
    seal bytea NOT NULL,
    events bytea NOT NULL,
    CONSTRAINT audit_batch_pkey PRIMARY KEY (first_seq, sealed_at)
) PARTITION BY RANGE (sealed_at);
-- compressing would cost more than all else the worker does
ALTER TABLE fieldcrypt.audit_batch ALTER COLUMN events SET STORAGE EXTERNAL;
COMMENT ON TABLE fieldcrypt.audit_batch IS 'the events of the audit, in batches as they were written, each sealed together with the one before it; a partition for each month';
COMMENT ON COLUMN fieldcrypt.audit_batch.first_seq IS 'number of the first event';
COMMENT ON COLUMN fieldcrypt.audit_batch.last_seq IS 'number of the last event';
COMMENT ON COLUMN fieldcrypt.audit_batch.sealed_at IS 'when they were written';
COMMENT ON COLUMN fieldcrypt.audit_batch.key_id IS 'key of the seal; 0 while there was none';
COMMENT ON COLUMN fieldcrypt.audit_batch.seal IS 'HMAC-SHA-256 over this batch and the seal before it';
COMMENT ON COLUMN fieldcrypt.audit_batch.events IS 'the events, each behind its length: fieldcrypt.audit shows them';

CREATE TABLE fieldcrypt.audit_head (
    one_row boolean CONSTRAINT audit_head_pkey PRIMARY KEY DEFAULT true CHECK (one_row),
    seq bigint NOT NULL,
    seal bytea NOT NULL,
    key_id bigint NOT NULL,
    tag bytea NOT NULL
);
COMMENT ON TABLE fieldcrypt.audit_head IS 'how far the audit has come';
COMMENT ON COLUMN fieldcrypt.audit_head.one_row IS 'true: there is one row';
COMMENT ON COLUMN fieldcrypt.audit_head.seq IS 'number of the last event';
COMMENT ON COLUMN fieldcrypt.audit_head.seal IS 'seal of its batch';
COMMENT ON COLUMN fieldcrypt.audit_head.key_id IS 'key of the tag; 0 while there was none';
COMMENT ON COLUMN fieldcrypt.audit_head.tag IS 'HMAC-SHA-256 over number and seal';

CREATE TABLE fieldcrypt.audit_start (
    one_row boolean CONSTRAINT audit_start_pkey PRIMARY KEY DEFAULT true CHECK (one_row),
    seq bigint NOT NULL,
    seal bytea NOT NULL,
    key_id bigint NOT NULL,
    tag bytea NOT NULL
);
COMMENT ON TABLE fieldcrypt.audit_start IS 'up to where the audit was dropped';
COMMENT ON COLUMN fieldcrypt.audit_start.one_row IS 'true: there is one row';
COMMENT ON COLUMN fieldcrypt.audit_start.seq IS 'number of the last event that was dropped';
COMMENT ON COLUMN fieldcrypt.audit_start.seal IS 'seal of its batch';
COMMENT ON COLUMN fieldcrypt.audit_start.key_id IS 'key of the tag';
COMMENT ON COLUMN fieldcrypt.audit_start.tag IS 'HMAC-SHA-256 over number and seal';

-- The worker calls it before it writes. Attaching waits for no reader.
CREATE FUNCTION fieldcrypt.add_audit_partition() RETURNS timestamptz
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    month timestamptz := date_trunc('month', statement_timestamp());
    partition_name text := to_char(month, '"audit_"YYYY"_"MM');
    holder text;
BEGIN
    IF to_regclass('fieldcrypt.' || partition_name) IS NULL THEN
        -- for the transaction: users' event triggers must not stop the audit
        PERFORM set_config('session_replication_role', 'replica', true);
        EXECUTE format('CREATE TABLE fieldcrypt.%I (LIKE fieldcrypt.audit_batch INCLUDING ALL)', partition_name);
        -- what default privileges have given
        FOR holder IN
            SELECT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END
            FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS x
            WHERE c.oid = format('fieldcrypt.%I', partition_name)::regclass AND x.grantee <> c.relowner
            GROUP BY x.grantee
        LOOP
            EXECUTE format('REVOKE ALL ON fieldcrypt.%I FROM %s', partition_name, holder);
        END LOOP;
        EXECUTE format('ALTER TABLE fieldcrypt.audit_batch ATTACH PARTITION fieldcrypt.%I FOR VALUES FROM (%L) TO (%L)',
            partition_name, month, month + interval '1 month');
        EXECUTE format('COMMENT ON TABLE fieldcrypt.%I IS %L', partition_name, 'events of the audit of one month');
        -- dumps leave it out: what it holds is true of this server only
        EXECUTE format('ALTER EXTENSION fieldcrypt ADD TABLE fieldcrypt.%I', partition_name);
    END IF;
    RETURN month + interval '1 month';
END
$$;
COMMENT ON FUNCTION fieldcrypt.add_audit_partition() IS 'makes the partition of the present month, if it is missing; returns when it ends';

CREATE FUNCTION fieldcrypt.drop_audit_partitions(before timestamptz) RETURNS json
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    dropped regclass;
    events bigint := 0;
    more bigint;
    last_seq bigint;
    last_seal bytea;
BEGIN
    LOCK TABLE fieldcrypt.audit_batch IN ACCESS EXCLUSIVE MODE;
    FOR dropped IN
        SELECT i.inhrelid FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'fieldcrypt.audit_batch'::regclass
            AND to_timestamp(c.relname, '"audit_"YYYY"_"MM') + interval '1 month'
                <= least(before, statement_timestamp())
        ORDER BY c.relname
    LOOP
        EXECUTE format('SELECT coalesce(sum(last_seq - first_seq + 1), 0)::bigint FROM %s', dropped) INTO more;
        IF more > 0 THEN
            EXECUTE format('SELECT last_seq, seal FROM %s ORDER BY first_seq DESC LIMIT 1', dropped) INTO last_seq, last_seal;
            events := events + more;
        END IF;
        EXECUTE format('ALTER EXTENSION fieldcrypt DROP TABLE %s', dropped);
        EXECUTE format('DROP TABLE %s', dropped);
    END LOOP;
    IF events = 0 THEN
        RETURN NULL;
    END IF;
    RETURN json_build_object('events', events, 'seq', last_seq, 'seal', encode(last_seal, 'hex'));
END
$$;
COMMENT ON FUNCTION fieldcrypt.drop_audit_partitions(timestamptz) IS
    'drops the partitions that end before, and returns how many events they held and the last of them: for drop_audit()';

CREATE FUNCTION fieldcrypt.drop_audit(before timestamptz) RETURNS bigint
    AS 'MODULE_PATHNAME', 'drop_audit_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.drop_audit(timestamptz) IS
    'drops the months of the audit that ended before, and returns how many events they held; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.set_actor(id text, name text DEFAULT NULL, address text DEFAULT NULL,
        action text DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'set_actor_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.set_actor(text, text, text, text) IS
    'says for whom the application acts in this transaction; the audit records it as claimed';

CREATE FUNCTION fieldcrypt.flush_audit() RETURNS void
    AS 'MODULE_PATHNAME', 'flush_audit_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.flush_audit() IS
    'waits until what happened before is in the table of the audit';

CREATE FUNCTION fieldcrypt.audit_head() RETURNS text
    AS 'MODULE_PATHNAME', 'audit_head_wrapper' LANGUAGE c STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.audit_head() IS
    'how far the audit has come, to be kept elsewhere and given to verify_audit(); for fieldcrypt_auditor';

CREATE FUNCTION fieldcrypt.audit_state() RETURNS text
    AS 'MODULE_PATHNAME', 'audit_state_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.audit_state() IS
    'how the audit is kept, in one text: what audit_status() is made of';

CREATE FUNCTION fieldcrypt.audit_status(OUT mode text, OUT sink text, OUT worker integer,
        OUT waiting bigint, OUT capacity bigint, OUT lost bigint, OUT seq bigint) RETURNS record
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT s.mode, s.sink, s.worker, s.waiting, s.capacity, s.lost, s.seq
    FROM pg_catalog.json_to_record(fieldcrypt.audit_state()::pg_catalog.json)
        AS s (mode text, sink text, worker integer, waiting bigint, capacity bigint, lost bigint, seq bigint);
END;
COMMENT ON FUNCTION fieldcrypt.audit_status() IS
    'how the audit is kept: mode, where events go, the worker''s process, bytes that wait and fit, events that were lost, and the last number; for fieldcrypt_auditor';

CREATE FUNCTION fieldcrypt.audit_findings(head text) RETURNS text
    AS 'MODULE_PATHNAME', 'audit_findings_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.audit_findings(text) IS
    'whether the audit is whole, in one text: what verify_audit() is made of';

CREATE FUNCTION fieldcrypt.verify_audit(head text DEFAULT NULL)
    RETURNS TABLE (ok boolean, first_seq bigint, last_seq bigint, finding text)
    LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.ok, f.first_seq, f.last_seq, f.finding
    FROM pg_catalog.json_to_recordset(fieldcrypt.audit_findings(head)::pg_catalog.json)
        AS f (ok boolean, first_seq bigint, last_seq bigint, finding text);
END;
COMMENT ON FUNCTION fieldcrypt.verify_audit(text) IS
    'whether the audit is whole: one row that says so, or a row for each change, gap or end cut off; for fieldcrypt_auditor';

CREATE FUNCTION fieldcrypt.audit_events(first_seq bigint, events bytea)
    RETURNS TABLE (seq bigint, at timestamptz, action text, outcome text, field text, account text, count bigint,
        detail text, session_role text, set_role text, acting_role text, client_address text, application_name text,
        actor_id text, actor_name text, actor_address text, actor_action text, entities text[], pid bigint,
        statement_at timestamptz, id bigint)
    AS 'MODULE_PATHNAME', 'audit_events_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE ROWS 100;
COMMENT ON FUNCTION fieldcrypt.audit_events(bigint, bytea) IS
    'the events of a batch, numbered from its first one: what fieldcrypt.audit is made of';

CREATE VIEW fieldcrypt.audit AS
    SELECT e.seq, e.at, e.action, e.outcome, e.field, e.account, e.count, e.detail, e.session_role, e.set_role,
        e.acting_role, e.client_address, e.application_name, e.actor_id, e.actor_name, e.actor_address, e.actor_action,
        e.entities, e.pid, e.statement_at, e.id, b.sealed_at
    FROM fieldcrypt.audit_batch AS b CROSS JOIN LATERAL fieldcrypt.audit_events(b.first_seq, b.events) AS e;
COMMENT ON VIEW fieldcrypt.audit IS 'who read what, and who changed what';
COMMENT ON COLUMN fieldcrypt.audit.seq IS 'number, without gaps';
COMMENT ON COLUMN fieldcrypt.audit.at IS 'when it happened first in its statement';
COMMENT ON COLUMN fieldcrypt.audit.action IS 'decrypt, reveal, adopt, search, encrypt, or what was changed';
COMMENT ON COLUMN fieldcrypt.audit.outcome IS 'plain, masked, hidden, denied, opened; of adoption done, failed, checked; of changes done, prepared, rolled back, denied';
COMMENT ON COLUMN fieldcrypt.audit.field IS 'field of the values';
COMMENT ON COLUMN fieldcrypt.audit.account IS 'account of the values';
COMMENT ON COLUMN fieldcrypt.audit.count IS 'number of values, or of events that were lost';
COMMENT ON COLUMN fieldcrypt.audit.detail IS 'what was changed in particular';
COMMENT ON COLUMN fieldcrypt.audit.session_role IS 'role that logged in';
COMMENT ON COLUMN fieldcrypt.audit.set_role IS 'role that SET ROLE has left';
COMMENT ON COLUMN fieldcrypt.audit.acting_role IS 'role whose rights counted';
COMMENT ON COLUMN fieldcrypt.audit.client_address IS 'address of the client; NULL for a local socket';
COMMENT ON COLUMN fieldcrypt.audit.application_name IS 'name that the client has given itself';
COMMENT ON COLUMN fieldcrypt.audit.actor_id IS 'for whom the application says that it acts: id';
COMMENT ON COLUMN fieldcrypt.audit.actor_name IS 'for whom the application says that it acts: name';
COMMENT ON COLUMN fieldcrypt.audit.actor_address IS 'for whom the application says that it acts: address';
COMMENT ON COLUMN fieldcrypt.audit.actor_action IS 'what the application says that it does';
COMMENT ON COLUMN fieldcrypt.audit.entities IS 'what the values belong to, as the statement said; at most 32';
COMMENT ON COLUMN fieldcrypt.audit.pid IS 'process that read';
COMMENT ON COLUMN fieldcrypt.audit.statement_at IS 'when the client''s statement began';
COMMENT ON COLUMN fieldcrypt.audit.id IS 'the same in the event that opens a read and the one that closes it';
COMMENT ON COLUMN fieldcrypt.audit.sealed_at IS 'when its batch was written: a condition on it spares reading the others';
