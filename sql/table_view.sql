-- Views that show a table with its plain values and take plain values back. Nothing here is SECURITY
-- DEFINER: what a role may not do with the table, it may not do through the view. The view's own
-- definition says which of its columns is which of the table, so that it follows renamed tables and
-- columns, and is dumped and restored as it is.

CREATE FUNCTION fieldcrypt.columns_to_show(relation regclass, without name[], OUT name name, OUT expression text,
        OUT revealed boolean) RETURNS SETOF record
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT a.attname,
        CASE WHEN NOT r.revealed THEN pg_catalog.quote_ident(a.attname)
            ELSE pg_catalog.format('fieldcrypt.reveal(%s)', pg_catalog.concat_ws(', ',
                pg_catalog.quote_ident(a.attname), pg_catalog.quote_ident(NULLIF(d.arguments[5], '')))) END,
        r.revealed
    FROM pg_catalog.pg_attribute AS a
        LEFT JOIN fieldcrypt.documents_of(relation) AS d ON d.arguments[2] = a.attname
        CROSS JOIN LATERAL (VALUES (d.arguments IS NOT NULL
            OR fieldcrypt.handle_of(a.atttypid, a.atttypmod) IS NOT NULL)) AS r (revealed)
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attname <> ALL (without)
        -- what is gathered in a blob is shown in its document
        AND NOT EXISTS (SELECT FROM fieldcrypt.documents_of(relation) AS b WHERE b.arguments[5] = a.attname)
    ORDER BY a.attnum;
END;
COMMENT ON FUNCTION fieldcrypt.columns_to_show(regclass, name[]) IS
    'the columns of a table as create_view() shows them';

CREATE FUNCTION fieldcrypt.columns_of_view(view oid, OUT number smallint, OUT name name, OUT relation oid,
        OUT column_number smallint, OUT blob_number smallint, OUT revealed boolean) RETURNS SETOF record
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE ROWS 20 SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    -- a stored query names the columns of the table by their numbers: {VAR ... :varattno 3 ...}, bare or
    -- in a {FUNCEXPR :funcid ...}; in names and strings spaces and braces are escaped
    RETURN QUERY
    SELECT v.attnum, v.attname, t.relation,
        CASE WHEN s.tree LIKE '{VAR %' OR e.revealed
            THEN substring(s.tree, ':varattno (\d+) ')::smallint END,
        substring(s.tree, ':varattno .* :varattno (\d+) ')::smallint,
        e.revealed
    FROM pg_rewrite AS r
        CROSS JOIN LATERAL (
            SELECT min(d.refobjid)
            FROM pg_depend AS d
                JOIN pg_class AS c ON c.oid = d.refobjid AND c.oid <> view
            WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                AND d.refclassid = 'pg_class'::regclass
            HAVING count(DISTINCT d.refobjid) = 1) AS t (relation)
        CROSS JOIN LATERAL string_to_table(r.ev_action::text, '{TARGETENTRY :expr ')
            WITH ORDINALITY AS p (part, number)
        CROSS JOIN LATERAL split_part(p.part, ' :resno ', 1) AS s (tree)
        CROSS JOIN LATERAL (
            SELECT EXISTS (SELECT FROM pg_proc AS f
                WHERE f.oid = pg_catalog.substring(s.tree, '^\{FUNCEXPR :funcid (\d+) ')::oid
                    AND f.proname = 'reveal'
                    AND f.pronamespace = 'fieldcrypt'::regnamespace)) AS e (revealed)
        JOIN pg_attribute AS v ON v.attrelid = view AND v.attnum = p.number - 1
    WHERE r.ev_class = view AND r.rulename = '_RETURN' AND p.number > 1;
END
$$;
COMMENT ON FUNCTION fieldcrypt.columns_of_view(oid) IS
    'the columns of a view of one table, each with the number of the table''s column that it shows, if any, and of its blob';

CREATE FUNCTION fieldcrypt.key_of_view(view oid) RETURNS text[]
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- the comparisons are those of the index: the caller's search_path does not choose them
    WITH shown AS MATERIALIZED (
        SELECT c.name, c.relation, c.column_number
        FROM fieldcrypt.columns_of_view(view) AS c
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.relation AND a.attnum = c.column_number
        WHERE NOT c.revealed AND a.attnotnull
    )
    SELECT pg_catalog.array_agg(p.part ORDER BY k.place, p.role)
    FROM pg_catalog.pg_index AS i
        JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
        JOIN pg_catalog.pg_am AS m ON m.oid = x.relam AND m.amname = 'btree'
        -- the vectors of an index start at 0
        CROSS JOIN LATERAL pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k (place)
        JOIN shown AS s ON s.relation = i.indrelid AND s.column_number = i.indkey[k.place]
        JOIN pg_catalog.pg_opclass AS l ON l.oid = i.indclass[k.place]
        JOIN pg_catalog.pg_amop AS b ON b.amopfamily = l.opcfamily AND b.amopstrategy = 3
            AND b.amoplefttype = l.opcintype AND b.amoprighttype = l.opcintype
        JOIN pg_catalog.pg_operator AS o ON o.oid = b.amopopr
        JOIN pg_catalog.pg_namespace AS n ON n.oid = o.oprnamespace
        CROSS JOIN LATERAL (VALUES (1, s.name::text), (2, pg_catalog.format('%I.%s', n.nspname, o.oprname)))
            AS p (role, part)
    WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
    GROUP BY i.indexrelid, i.indisprimary, i.indnkeyatts
    HAVING pg_catalog.count(*) = 2 * i.indnkeyatts
    ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid
    LIMIT 1;
END;
COMMENT ON FUNCTION fieldcrypt.key_of_view(oid) IS
    'a key of the table of plain columns in the view: their names, each with its equality operator';

CREATE FUNCTION fieldcrypt.shape_of_view(view regclass, OUT target text, OUT names text[], OUT columns text[],
        OUT expressions text[], OUT blobs text[], OUT fillings text[], OUT readable boolean)
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    -- it runs for each row, and planning takes longer than that
    SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    shown_columns bigint;
BEGIN
    SELECT min(format('%I.%I', n.nspname, r.relname)), count(a.attnum),
        array_agg(quote_ident(c.name) ORDER BY c.number),
        array_agg(quote_ident(a.attname) ORDER BY c.number),
        array_agg(quote_ident(b.attname) ORDER BY c.number),
        array_agg(CASE WHEN c.revealed THEN format('fieldcrypt.reveal(%s)',
                concat_ws(', ', quote_ident(a.attname), quote_ident(b.attname)))
            ELSE quote_ident(a.attname) END ORDER BY c.number),
        array_agg(CASE WHEN a.attidentity <> '' OR a.attgenerated <> '' THEN 'always'
            WHEN c.revealed AND t.typcategory = 'A' THEN 'array'
            WHEN a.atthasdef OR t.typdefault IS NOT NULL THEN 'default'
            ELSE 'null' END ORDER BY c.number),
        bool_and(has_column_privilege(c.relation, c.column_number, 'SELECT')
            AND COALESCE(has_column_privilege(c.relation, c.blob_number, 'SELECT'), true))
    INTO target, shown_columns, names, columns, blobs, expressions, fillings, readable
    FROM fieldcrypt.columns_of_view(view) AS c
        JOIN pg_class AS r ON r.oid = c.relation
        JOIN pg_namespace AS n ON n.oid = r.relnamespace
        LEFT JOIN pg_attribute AS a ON a.attrelid = c.relation AND a.attnum = c.column_number
        LEFT JOIN pg_type AS t ON t.oid = a.atttypid
        LEFT JOIN pg_attribute AS b ON b.attrelid = c.relation AND b.attnum = c.blob_number;
    IF shown_columns = 0 OR shown_columns IS DISTINCT FROM
            (SELECT c.relnatts FROM pg_class AS c WHERE c.oid = view AND c.relkind = 'v') THEN
        RAISE EXCEPTION 'relation "%" cannot be written to', view
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'It is not as create_view() made it. SELECT fieldcrypt.create_view(...) again.';
    END IF;
END
$$;
COMMENT ON FUNCTION fieldcrypt.shape_of_view(regclass) IS
    'what the triggers of a view need to know of it and of its table, by column of the view';

-- The trigger functions have no search_path of their own, so that the triggers and defaults of the
-- table run in the caller's. They name everything with its schema, and values are parameters.

CREATE FUNCTION fieldcrypt.insert_through_view() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
AS $$
DECLARE
    shape record;
    absent boolean[];
    statement text;
    affected bigint;
BEGIN
    shape := fieldcrypt.shape_of_view(TG_RELID);
    -- IS NOT DISTINCT FROM: a row of NULLs is not NULL
    EXECUTE pg_catalog.concat('SELECT ARRAY[',
        (SELECT pg_catalog.string_agg(pg_catalog.format('($1).%s IS NOT DISTINCT FROM NULL', u.name), ', ')
         FROM pg_catalog.unnest(shape.names) AS u (name)), ']')
        INTO absent USING NEW;
    -- NULL is written where the column's default would take its place; other NULLs are left out, so
    -- that identity and generated columns fill themselves
    SELECT pg_catalog.concat('INSERT INTO ', shape.target,
        CASE WHEN pg_catalog.count(*) OPERATOR(pg_catalog.=) 0 THEN ' DEFAULT VALUES'
            ELSE pg_catalog.format(' (%s) VALUES (%s)', pg_catalog.string_agg(u.name, ', '),
                pg_catalog.string_agg(pg_catalog.concat('($1).', u.label), ', ')) END)
    INTO statement
    FROM ROWS FROM (pg_catalog.unnest(shape.columns), pg_catalog.unnest(shape.names),
                    pg_catalog.unnest(shape.fillings), pg_catalog.unnest(absent)) AS u (name, label, filling, absent)
    WHERE NOT u.absent OR u.filling OPERATOR(pg_catalog.=) 'default';
    IF shape.readable THEN
        EXECUTE pg_catalog.concat(statement, ' RETURNING ', pg_catalog.array_to_string(shape.expressions, ', '))
            INTO NEW USING NEW;
    ELSE
        EXECUTE statement USING NEW;
    END IF;
    GET DIAGNOSTICS affected = ROW_COUNT;
    IF affected OPERATOR(pg_catalog.=) 0 THEN
        -- a trigger of the table kept it back
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION fieldcrypt.insert_through_view() IS
    'trigger of create_view(): inserts into the table, whose column types encrypt';

CREATE FUNCTION fieldcrypt.update_through_view() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
AS $$
DECLARE
    shape record;
    key text;
    changed boolean[];
    absent boolean[];
    row_image text;
    unchanged boolean;
    affected bigint;
BEGIN
    shape := fieldcrypt.shape_of_view(TG_RELID);
    -- the trigger's arguments are the view's columns of the key, each with its equality operator
    SELECT pg_catalog.string_agg(
        pg_catalog.format('%s OPERATOR(%s) ($2).%s', u.name, k.operator, u.label), ' AND ')
    INTO key
    FROM ROWS FROM (pg_catalog.unnest(shape.columns), pg_catalog.unnest(shape.names)) AS u (name, label)
        JOIN (SELECT pg_catalog.quote_ident(TG_ARGV[g.n]), TG_ARGV[g.n OPERATOR(pg_catalog.+) 1]
              FROM pg_catalog.generate_series(0, TG_NARGS OPERATOR(pg_catalog.-) 1, 2) AS g (n))
            AS k (label, operator) ON k.label OPERATOR(pg_catalog.=) u.label
    HAVING pg_catalog.count(*) OPERATOR(pg_catalog.*) 2 OPERATOR(pg_catalog.=) TG_NARGS;
    IF key IS NULL THEN
        RAISE EXCEPTION 'view "%" cannot be updated', TG_RELID::pg_catalog.regclass
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'It is not as create_view() made it. SELECT fieldcrypt.create_view(...) again.';
    END IF;
    -- byte by byte: not every type has an equality
    EXECUTE (SELECT pg_catalog.format('SELECT ARRAY[%s], ARRAY[%s]',
            pg_catalog.string_agg(pg_catalog.format(
                'pg_catalog.record_image_ne(ROW(($1).%1$s), ROW(($2).%1$s))', u.name), ', '),
            pg_catalog.string_agg(pg_catalog.format('($1).%s IS NOT DISTINCT FROM NULL', u.name), ', '))
        FROM pg_catalog.unnest(shape.names) AS u (name))
        INTO changed, absent USING NEW, OLD;
    IF pg_catalog.array_position(changed, true) IS NULL THEN
        RETURN NEW;
    END IF;
    -- The caller read the row before this trigger runs. It is written only if it still reads the
    -- same; PostgreSQL asks again when it has waited for another transaction.
    -- The subquery keeps the plain values of $2 out of what EXPLAIN shows of the plan.
    row_image := pg_catalog.format('pg_catalog.record_image_eq(ROW(%s), (SELECT $2))',
                                   pg_catalog.array_to_string(shape.expressions, ', '));
    EXECUTE (SELECT pg_catalog.format('UPDATE %s SET %s WHERE %s AND %s RETURNING %s', shape.target,
            pg_catalog.string_agg(pg_catalog.concat(
                u.name, ' = ',
                CASE
                    WHEN u.absent AND u.filling OPERATOR(pg_catalog.=) 'always' THEN 'DEFAULT'
                    -- who changes one element writes the others too, and must not write their masks:
                    -- decrypt() fails where the caller sees one
                    WHEN u.filling OPERATOR(pg_catalog.=) 'array' THEN pg_catalog.format(
                        'CASE WHEN pg_catalog.num_nulls(fieldcrypt.decrypt(%s)) OPERATOR(pg_catalog.>=) 0'
                        ' THEN ($1).%s END', u.name, u.label)
                    ELSE pg_catalog.concat('($1).', u.label) END,
                -- without its document a blob would stay
                CASE WHEN u.absent AND u.blob IS NOT NULL THEN pg_catalog.concat(', ', u.blob, ' = NULL') END), ', '),
            key, row_image, pg_catalog.array_to_string(shape.expressions, ', '))
        FROM ROWS FROM (pg_catalog.unnest(shape.columns), pg_catalog.unnest(shape.names),
                        pg_catalog.unnest(shape.fillings), pg_catalog.unnest(shape.blobs),
                        pg_catalog.unnest(changed), pg_catalog.unnest(absent))
            AS u (name, label, filling, blob, changed, absent)
        WHERE u.changed)
        INTO NEW USING NEW, OLD;
    GET DIAGNOSTICS affected = ROW_COUNT;
    IF affected OPERATOR(pg_catalog.>) 0 THEN
        RETURN NEW;
    END IF;
    -- gone, or kept back by a policy or a trigger: nothing is updated, as in the table itself
    EXECUTE pg_catalog.format('SELECT pg_catalog.bool_or(%s) FROM %s WHERE %s', row_image, shape.target, key)
        INTO unchanged USING NEW, OLD;
    IF NOT unchanged THEN
        RAISE EXCEPTION 'could not update a row of view "%": it was changed meanwhile', TG_RELID::pg_catalog.regclass
            USING ERRCODE = 'serialization_failure', HINT = 'Run the statement again.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION fieldcrypt.update_through_view() IS
    'trigger of create_view(): updates the columns of the table that change, and no others';

CREATE FUNCTION fieldcrypt.default_of(relation oid, number smallint) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid)
    FROM pg_catalog.pg_attrdef AS d
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
    WHERE d.adrelid = relation AND d.adnum = number AND a.attgenerated = ''
        -- that of an encrypted column can only be NULL
        AND fieldcrypt.handle_of(a.atttypid, a.atttypmod) IS NULL;
END;
COMMENT ON FUNCTION fieldcrypt.default_of(oid, smallint) IS
    'the default expression of a column of a table or view';

CREATE FUNCTION fieldcrypt.make_view_anew(view regclass, definition text, columns name[]) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    old_view pg_class;
    full_name text;
    properties text[];
    property text;
    dependants text;
BEGIN
    SELECT * INTO old_view FROM pg_class AS c WHERE c.oid = view;
    SELECT format('%I.%I', n.nspname, old_view.relname) INTO full_name
    FROM pg_namespace AS n WHERE n.oid = old_view.relnamespace;
    -- grants become the owner's, whoever gave them: only his can be given for him
    properties := ARRAY(
        SELECT concat('GRANT ', g.privilege, ' (' || quote_ident(g.name) || ')', ' ON ', full_name, ' TO ',
            CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
            CASE WHEN g.grantable THEN ' WITH GRANT OPTION' END)
        FROM (SELECT x.privilege_type, NULL, x.grantee, x.is_grantable
              FROM aclexplode(COALESCE(old_view.relacl, acldefault('r', old_view.relowner))) AS x
              UNION ALL
              SELECT x.privilege_type, a.attname, x.grantee, x.is_grantable
              FROM pg_attribute AS a CROSS JOIN LATERAL aclexplode(a.attacl) AS x
              WHERE a.attrelid = view AND a.attname = ANY (columns)) AS g (privilege, name, grantee, grantable)
        UNION ALL
        SELECT format('COMMENT ON VIEW %s IS %L', full_name, d.description)
        FROM pg_description AS d
        WHERE d.classoid = 'pg_class'::regclass AND d.objoid = view AND d.objsubid = 0
        UNION ALL
        SELECT format('COMMENT ON COLUMN %s.%I IS %L', full_name, a.attname, d.description)
        FROM pg_description AS d JOIN pg_attribute AS a ON a.attrelid = d.objoid AND a.attnum = d.objsubid
        WHERE d.classoid = 'pg_class'::regclass AND d.objoid = view AND a.attname = ANY (columns)
        UNION ALL
        SELECT pg_get_triggerdef(t.oid)
        FROM pg_trigger AS t
        WHERE t.tgrelid = view AND NOT t.tgisinternal
            AND t.tgfoid NOT IN ('fieldcrypt.insert_through_view()'::regprocedure,
                                 'fieldcrypt.update_through_view()'::regprocedure)
        UNION ALL
        SELECT pg_get_ruledef(r.oid)
        FROM pg_rewrite AS r
        WHERE r.ev_class = view AND r.rulename <> '_RETURN');
    BEGIN
        EXECUTE concat('DROP VIEW ', full_name);
    EXCEPTION WHEN dependent_objects_still_exist THEN
        GET STACKED DIAGNOSTICS dependants = PG_EXCEPTION_DETAIL;
        RAISE EXCEPTION 'view "%" has to be made anew, but other objects depend on it', view
            USING ERRCODE = 'dependent_objects_still_exist', DETAIL = dependants,
                HINT = 'Nothing was changed. Drop these, make the view, and then make them again.';
    END;
    EXECUTE concat('CREATE ', definition);
    EXECUTE format('ALTER VIEW %s OWNER TO %I', full_name, pg_get_userbyid(old_view.relowner));
    -- what default privileges have given
    FOR property IN
        SELECT DISTINCT format('REVOKE ALL ON %s FROM %s', full_name,
            CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END)
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(COALESCE(c.relacl, acldefault('r', c.relowner))) AS x
        WHERE c.oid = full_name::regclass
    LOOP
        EXECUTE property;
    END LOOP;
    FOREACH property IN ARRAY properties LOOP
        EXECUTE property;
    END LOOP;
END
$$;
COMMENT ON FUNCTION fieldcrypt.make_view_anew(regclass, text, name[]) IS
    'drops a view and creates it with other columns: it keeps its owner, grants, comments, triggers and rules';

CREATE FUNCTION fieldcrypt.create_view(relation regclass, name text DEFAULT NULL, without name[] DEFAULT '{}')
    RETURNS regclass
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    table_class pg_class;
    table_name text;
    view_schema name;
    view_name name;
    full_name text;
    view regclass;
    options text;
    definition text;
    missing name;
    own_defaults jsonb := '{}';
    renamed text[];
    key text[];
    place integer;
    changed record;
BEGIN
    IF relation IS NULL OR without IS NULL THEN
        RAISE EXCEPTION 'relation and without must not be NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT * INTO table_class FROM pg_class AS c WHERE c.oid = relation;
    IF table_class.relkind IS NULL OR table_class.relkind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION 'relation "%" is not a table', relation
            USING ERRCODE = 'wrong_object_type', HINT = 'Give an ordinary or a partitioned table.';
    END IF;
    IF NOT pg_has_role(table_class.relowner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of table %', relation
            USING ERRCODE = 'insufficient_privilege', HINT = 'Its owner, or a member of that role, can make the view.';
    END IF;
    SELECT format('%I.%I', n.nspname, table_class.relname), n.nspname INTO table_name, view_schema
    FROM pg_namespace AS n WHERE n.oid = table_class.relnamespace;
    -- one at a time, and while the columns are what they are
    EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', table_name);

    SELECT u.name INTO missing FROM unnest(without) AS u (name)
    WHERE NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attnum > 0
                      AND NOT a.attisdropped AND a.attname = u.name)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" of relation "%" does not exist', missing, relation
            USING ERRCODE = 'undefined_column', HINT = 'Name columns of the table in "without".';
    END IF;
    IF NOT EXISTS (SELECT FROM fieldcrypt.columns_to_show(relation, without) AS c WHERE c.revealed) THEN
        RAISE EXCEPTION 'relation "%" has nothing to reveal', relation
            USING ERRCODE = 'wrong_object_type',
                HINT = 'It needs a column of an encrypted type, or a protected document.';
    END IF;

    IF name IS NULL THEN
        view_name := table_class.relname;
        -- a name has at most 63 bytes
        WHILE octet_length(view_name) > 57 LOOP
            view_name := left(view_name, -1);
        END LOOP;
        view_name := concat(view_name, '_plain');
    ELSE
        CASE cardinality(parse_ident(name))
            WHEN 1 THEN view_name := (parse_ident(name))[1];
            WHEN 2 THEN
                view_schema := (parse_ident(name))[1];
                view_name := (parse_ident(name))[2];
            ELSE RAISE EXCEPTION 'invalid value for "name"'
                USING ERRCODE = 'invalid_parameter_value', HINT = 'It is a name, or a schema and a name.';
        END CASE;
    END IF;
    full_name := format('%I.%I', view_schema, view_name);

    SELECT c.oid INTO view
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = view_schema AND c.relname = view_name;
    IF view IS NOT NULL THEN
        -- another's view may have triggers of his own, which would run as whoever uses it
        IF NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = view
                       AND pg_has_role(table_class.relowner, c.relowner, 'USAGE')) THEN
            RAISE EXCEPTION 'relation "%" belongs to another role than the table', view
                USING ERRCODE = 'insufficient_privilege', HINT = 'Give another name, or drop it first.';
        END IF;
        IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = view
                       AND t.tgfoid = 'fieldcrypt.insert_through_view()'::regprocedure)
            OR NOT EXISTS (SELECT FROM fieldcrypt.columns_of_view(view) AS c
                           WHERE c.relation = create_view.relation) THEN
            RAISE EXCEPTION 'relation "%" already exists', view
                USING ERRCODE = 'duplicate_table',
                    HINT = 'It is not a view that create_view() made of this table. Give another name.';
        END IF;

        -- A default of the view is the user's if it is neither what was copied from the table, as the
        -- trigger's argument tells, nor what the table has now. So is none in place of a copied one.
        SELECT COALESCE(jsonb_object_agg(c.column_number, d.own), '{}') INTO own_defaults
        FROM fieldcrypt.columns_of_view(view) AS c
            JOIN pg_trigger AS t ON t.tgrelid = view
                AND t.tgfoid = 'fieldcrypt.insert_through_view()'::regprocedure
            CROSS JOIN LATERAL (VALUES (
                fieldcrypt.default_of(view, c.number),
                convert_from(btrim(t.tgargs, '\x00'), getdatabaseencoding())::jsonb ->> c.name,
                fieldcrypt.default_of(c.relation, c.column_number))) AS d (own, copied, of_table)
        WHERE c.column_number IS NOT NULL
            AND d.own IS DISTINCT FROM d.copied AND d.own IS DISTINCT FROM d.of_table;

        -- twice, for columns that have exchanged their names
        renamed := ARRAY(
            SELECT ARRAY[c.name, format('fieldcrypt_%s', c.number), a.attname]
            FROM fieldcrypt.columns_of_view(view) AS c
                JOIN pg_attribute AS a ON a.attrelid = c.relation AND a.attnum = c.column_number
            WHERE c.name <> a.attname);
        FOR place IN SELECT generate_subscripts(renamed, 1) LOOP
            EXECUTE format('ALTER VIEW %s RENAME COLUMN %I TO %I', full_name, renamed[place][1], renamed[place][2]);
        END LOOP;
        FOR place IN SELECT generate_subscripts(renamed, 1) LOOP
            EXECUTE format('ALTER VIEW %s RENAME COLUMN %I TO %I', full_name, renamed[place][2], renamed[place][3]);
        END LOOP;
    END IF;

    -- both hold unless the user has set them to false
    SELECT string_agg(
        format('%I = %L', COALESCE(g.option_name, d.option), COALESCE(g.option_value, 'true')), ', ')
    INTO options
    FROM (SELECT o.* FROM pg_class AS c CROSS JOIN LATERAL pg_options_to_table(c.reloptions) AS o
          WHERE c.oid = view) AS g
        FULL JOIN (VALUES ('security_barrier'), ('security_invoker')) AS d (option) ON d.option = g.option_name;
    SELECT concat('VIEW ', full_name, ' WITH (', options, ') AS SELECT ',
                  string_agg(format('%s AS %I', c.expression, c.name), ', '), ' FROM ', table_name)
    INTO definition
    FROM fieldcrypt.columns_to_show(relation, without) AS c;
    BEGIN
        EXECUTE concat('CREATE OR REPLACE ', definition);
    EXCEPTION WHEN invalid_table_definition THEN
        IF view IS NULL THEN
            RAISE;
        END IF;
        -- PostgreSQL only adds columns behind the others
        PERFORM fieldcrypt.make_view_anew(view, definition,
            ARRAY(SELECT c.name FROM fieldcrypt.columns_to_show(relation, without) AS c));
    END;
    IF view IS NULL THEN
        EXECUTE format('ALTER VIEW %s OWNER TO %I', full_name, pg_get_userbyid(table_class.relowner));
    END IF;
    view := full_name::regclass;

    FOR changed IN
        SELECT c.name, d.wanted
        FROM fieldcrypt.columns_of_view(view) AS c
            CROSS JOIN LATERAL (VALUES (CASE WHEN own_defaults ? c.column_number::text
                THEN own_defaults ->> c.column_number::text
                ELSE fieldcrypt.default_of(c.relation, c.column_number) END)) AS d (wanted)
        WHERE d.wanted IS DISTINCT FROM fieldcrypt.default_of(view, c.number)
    LOOP
        EXECUTE format('ALTER VIEW %s ALTER COLUMN %I %s', full_name, changed.name,
                       COALESCE('SET DEFAULT ' || changed.wanted, 'DROP DEFAULT'));
    END LOOP;
    EXECUTE format('CREATE OR REPLACE TRIGGER fieldcrypt_insert INSTEAD OF INSERT ON %s FOR EACH ROW'
                   ' EXECUTE FUNCTION fieldcrypt.insert_through_view(%L)', full_name,
        (SELECT COALESCE(jsonb_object_agg(c.name, fieldcrypt.default_of(c.relation, c.column_number)), '{}')
         FROM fieldcrypt.columns_of_view(view) AS c
         WHERE fieldcrypt.default_of(c.relation, c.column_number) IS NOT NULL));
    key := fieldcrypt.key_of_view(view);
    IF key IS NOT NULL THEN
        EXECUTE format('CREATE OR REPLACE TRIGGER fieldcrypt_update INSTEAD OF UPDATE ON %s FOR EACH ROW'
                       ' EXECUTE FUNCTION fieldcrypt.update_through_view(%s)', full_name,
            (SELECT string_agg(quote_literal(k.part), ', ' ORDER BY k.place)
             FROM unnest(key) WITH ORDINALITY AS k (part, place)));
    ELSE
        IF EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = view AND t.tgname = 'fieldcrypt_update') THEN
            EXECUTE format('DROP TRIGGER fieldcrypt_update ON %s', full_name);
        END IF;
        RAISE NOTICE 'encrypted columns cannot be updated through view "%"', view
            USING HINT = 'Give the table a primary key, or a unique key of NOT NULL columns that are not encrypted,'
                         ' and make the view again.';
    END IF;
    RETURN view;
END
$$;
COMMENT ON FUNCTION fieldcrypt.create_view(regclass, text, name[]) IS
    'makes, or makes again, a view of a table with plain values, which can be written to; for the table''s owner';
