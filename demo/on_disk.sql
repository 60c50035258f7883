\pset format wrapped
\pset columns 110
SELECT id, account_id, name, ssn FROM lead WHERE id = 4711;
SELECT 'n_distinct ' || n_distinct::numeric(10,3) || ', most common values: ' || coalesce(most_common_vals::text, 'none')
    AS "pg_stats of lead.ssn" FROM pg_stats WHERE tablename = 'lead' AND attname = 'ssn';
