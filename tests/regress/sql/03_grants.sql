-- Grants: who may give them, what they cover, and who holds them.
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT fieldcrypt.create_field(name, search => '{exact}')
FROM unnest('{lead,lead.a,lead.b.c,leads.x,lea}'::text[]) AS name;
CREATE ROLE regress_user;
SET ROLE regress_grantor;

-- Privileges add up; they come back one by one.
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'acme', field => 'lead.a');
SELECT fieldcrypt.grant_access('regress_user', '{decrypt,encrypt,search}', account => 'acme', field => 'lead.a');
SELECT role, account, field, privileges, granted_by, granted_at IS NOT NULL AS granted FROM fieldcrypt.access WHERE role = 'regress_user'::regrole;
SELECT fieldcrypt.revoke_access('regress_user', '{encrypt}', account => 'acme', field => 'lead.a');
SELECT privileges FROM fieldcrypt.access WHERE role = 'regress_user'::regrole;
-- Of what was not granted, a revoke warns.
SELECT fieldcrypt.revoke_access('regress_user', '{mask}', account => 'acme', field => 'lead.a');
SELECT fieldcrypt.revoke_access('regress_user', '{search}', account => '*', field => 'lead.a');
SELECT fieldcrypt.revoke_access('regress_user', '{search}', account => 'acme', field => '*');
-- The last one takes the grant with it.
SELECT fieldcrypt.revoke_access('regress_user', '{search,decrypt,mask}', account => 'acme', field => 'lead.a');
SELECT count(*) FROM fieldcrypt.access WHERE role = 'regress_user'::regrole;
SELECT fieldcrypt.revoke_access('regress_user', '{search}', account => 'acme', field => 'lead.a');

-- Arguments.
SELECT fieldcrypt.grant_access('regress_user', '{}', account => 'acme', field => 'lead.a');
SELECT fieldcrypt.grant_access('regress_user', '{read}', account => 'acme', field => 'lead.a');
SELECT fieldcrypt.grant_access('regress_user', '{search,NULL}', account => 'acme', field => 'lead.a');
SELECT fieldcrypt.grant_access('regress_user', NULL, account => 'acme', field => 'lead.a');
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => NULL, field => 'lead.a');
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'acme', field => NULL);
SELECT fieldcrypt.grant_access(NULL, '{search}', account => 'acme', field => 'lead.a');
SELECT fieldcrypt.grant_access('regress_missing', '{search}', account => 'acme', field => 'lead.a');
SELECT fieldcrypt.grant_access('public', '{search}', account => 'acme', field => 'lead.a');
SELECT fieldcrypt.grant_access('PUBLIC', '{search}', account => 'acme', field => 'lead.a');
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'missing', field => 'lead.a');
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'acme', field => 'missing');
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'acme', field => 'lead*');
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'acme', field => '*.a');
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'acme', field => 'lead.*.c');
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'acme', field => '.*');
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'acme', field => '**');
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'ac*', field => 'lead.a');
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'acme', field => '');
SELECT count(*) FROM fieldcrypt.access WHERE role = 'regress_user'::regrole;
RESET ROLE;
DELETE FROM fieldcrypt.access_grant WHERE role = 'regress_user'::regrole;
SET ROLE regress_grantor;
-- The reserved account is not granted.
SELECT test.refused($$SELECT fieldcrypt.grant_access('regress_user', '{decrypt}', account => '*database*', field => '*')$$) LIKE 'refused: %' AS refused;
SELECT test.refused($$SELECT fieldcrypt.grant_access('regress_user', '{decrypt}', account => '*row*', field => '*')$$) LIKE 'refused: %' AS refused;

SELECT count(*) FROM fieldcrypt.access WHERE role = 'regress_user'::regrole;

-- What a pattern covers.
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'acme', field => 'lead.*');
SELECT f AS field, (fieldcrypt.can('regress_user', 'search', account => 'acme', field => f)).*
FROM unnest('{lead,lead.a,lead.b.c,leads.x,lea}'::text[]) AS f;
SELECT account, (fieldcrypt.can('regress_user', 'search', account, 'lead.a')).* FROM unnest('{acme,globex}'::text[]) AS account;
SELECT fieldcrypt.revoke_access('regress_user', '{search}', account => 'acme', field => 'lead.*');
-- '*' covers everything.
SELECT fieldcrypt.grant_access('regress_user', '{mask}', account => '*', field => '*');
SELECT count(*) FILTER (WHERE allowed), count(*) FROM unnest('{acme,globex}'::text[]) AS account,
    unnest('{lead,lead.a,leads.x}'::text[]) AS field, fieldcrypt.can('regress_user', 'mask', account, field);
-- Several grants: their union.
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'acme', field => '*');
SELECT fieldcrypt.grant_access('regress_user', '{decrypt}', account => '*', field => 'lead.*');
SELECT account, field, string_agg(p, ' ' ORDER BY p) FILTER (WHERE allowed) AS privileges
FROM unnest('{acme,globex}'::text[]) AS account, unnest('{lead.a,leads.x}'::text[]) AS field,
    unnest('{encrypt,search,mask,decrypt}'::text[]) AS p, fieldcrypt.can('regress_user', p, account, field)
GROUP BY account, field ORDER BY account, field;

-- can(): every reason for no.
SELECT * FROM fieldcrypt.can('regress_user', 'encrypt', account => 'acme', field => 'lead.a');
SELECT * FROM fieldcrypt.can('regress_user', 'search', account => 'missing', field => 'lead.a');
SELECT * FROM fieldcrypt.can('regress_user', 'search', account => 'acme', field => 'missing');
SELECT * FROM fieldcrypt.can('postgres', 'decrypt', account => 'acme', field => 'lead.a');
SELECT allowed FROM fieldcrypt.can('regress_user', 'decrypt', account => '*database*', field => 'lead.a');
SELECT * FROM fieldcrypt.can('regress_missing', 'search', account => 'acme', field => 'lead.a');
SELECT * FROM fieldcrypt.can('regress_user', 'read', account => 'acme', field => 'lead.a');
SELECT * FROM fieldcrypt.can('regress_user', NULL, account => 'acme', field => 'lead.a');
SET ROLE regress_key_admin;
SELECT fieldcrypt.disable_account('acme');
SELECT * FROM fieldcrypt.can('regress_user', 'search', account => 'acme', field => 'lead.a');
SELECT fieldcrypt.enable_account('acme');
-- Anybody about himself, administrators about everybody.
SET ROLE regress_user;
SELECT allowed FROM fieldcrypt.can('regress_user', 'search', account => 'acme', field => 'lead.a');
SELECT * FROM fieldcrypt.can('regress_app', 'search', account => 'acme', field => 'lead.a');
SET ROLE regress_auditor;
SELECT allowed FROM fieldcrypt.can('regress_app', 'search', account => 'acme', field => 'lead.a');

-- What can() says is what happens.
SET ROLE regress_user;
SET fieldcrypt.account = 'acme';
CREATE TABLE of_user (a fieldcrypt.encrypted_text('lead.a'));
INSERT INTO of_user VALUES ('x');
RESET ROLE;
GRANT SELECT, INSERT ON of_user TO PUBLIC;
SET ROLE regress_app;
INSERT INTO of_user VALUES ('x');
SET ROLE regress_user;
SELECT fieldcrypt.decrypt(a) FROM of_user WHERE a = 'x';
SET ROLE regress_grantor;
SELECT fieldcrypt.revoke_access('regress_user', '{decrypt}', account => '*', field => 'lead.*');
-- A revoke works at the next statement.
SET ROLE regress_user;
SELECT test.outcome('SELECT fieldcrypt.decrypt(a) FROM of_user');
SELECT fieldcrypt.reveal(a) FROM of_user;
SELECT count(*) FROM of_user WHERE a = 'x';
SET ROLE regress_grantor;
SELECT fieldcrypt.revoke_access('regress_user', '{search}', account => 'acme', field => '*');
SET ROLE regress_user;
SELECT test.outcome($$SELECT count(*) FROM of_user WHERE a = 'x'$$);
SELECT test.outcome($$SELECT fieldcrypt.blind_index('x', 'lead.a')$$);
-- In prepared statements too.
SET ROLE regress_grantor;
SELECT fieldcrypt.grant_access('regress_user', '{decrypt}', account => '*', field => '*');
SET ROLE regress_user;
SET plan_cache_mode = force_generic_plan;
PREPARE look AS SELECT fieldcrypt.decrypt(a) FROM of_user;
EXECUTE look;
SET ROLE regress_grantor;
SELECT fieldcrypt.revoke_access('regress_user', '{decrypt}', account => '*', field => '*');
SET ROLE regress_user;
EXECUTE look;
RESET plan_cache_mode;
DEALLOCATE look;
-- A grant that is rolled back was never there.
RESET ROLE;
BEGIN;
SELECT fieldcrypt.grant_access('regress_user', '{decrypt}', account => '*', field => '*');
SET LOCAL ROLE regress_user;
SELECT fieldcrypt.decrypt(a) FROM of_user;
ROLLBACK;
SET ROLE regress_user;
SELECT fieldcrypt.decrypt(a) FROM of_user;
RESET ROLE;
BEGIN;
SAVEPOINT s;
SELECT fieldcrypt.grant_access('regress_user', '{decrypt}', account => '*', field => '*');
SET LOCAL ROLE regress_user;
SELECT fieldcrypt.decrypt(a) FROM of_user;
ROLLBACK TO s;
SET LOCAL ROLE regress_user;
SELECT fieldcrypt.decrypt(a) FROM of_user;
ROLLBACK;

-- A grantor grants to no role that he is in, whether he inherits it or only could SET ROLE to it.
RESET ROLE;
CREATE ROLE regress_team;
CREATE ROLE regress_inner IN ROLE regress_team;
CREATE ROLE regress_grantor2 IN ROLE fieldcrypt_grantor, regress_inner;
CREATE ROLE regress_switcher NOINHERIT IN ROLE regress_team;
CREATE ROLE regress_grantor3 IN ROLE fieldcrypt_grantor, regress_switcher;
SET ROLE regress_grantor2;
SELECT fieldcrypt.grant_access('regress_grantor2', '{decrypt}', account => '*', field => '*');
SELECT fieldcrypt.grant_access('regress_inner', '{decrypt}', account => '*', field => '*');
SELECT fieldcrypt.grant_access('regress_team', '{decrypt}', account => '*', field => '*');
SET ROLE regress_grantor3;
SELECT fieldcrypt.grant_access('regress_team', '{decrypt}', account => '*', field => '*');
SELECT fieldcrypt.grant_access('fieldcrypt_grantor', '{decrypt}', account => '*', field => '*');
-- Nor while he is in another role: it is the session that must not profit.
RESET ROLE;
SET SESSION AUTHORIZATION regress_grantor2;
SET ROLE fieldcrypt_grantor;
SELECT fieldcrypt.grant_access('regress_grantor2', '{decrypt}', account => '*', field => '*');
SELECT fieldcrypt.grant_access('regress_team', '{decrypt}', account => '*', field => '*');
RESET ROLE;
RESET SESSION AUTHORIZATION;
SELECT role, privileges FROM fieldcrypt.access WHERE role::text IN ('regress_grantor2', 'regress_team');
DELETE FROM fieldcrypt.access_grant WHERE role::text IN ('regress_grantor2', 'regress_team');
-- A superuser is no exception.
SELECT fieldcrypt.grant_access('postgres', '{decrypt}', account => '*', field => '*');
-- Revoking from oneself is allowed.
SET ROLE regress_grantor;
SELECT fieldcrypt.grant_access('regress_team', '{decrypt}', account => '*', field => '*');
SET ROLE regress_grantor2;
SELECT fieldcrypt.revoke_access('regress_team', '{decrypt}', account => '*', field => '*');

-- A superuser is not exempt.
RESET ROLE;
SELECT test.outcome('SELECT fieldcrypt.decrypt(a) FROM of_user');
SELECT fieldcrypt.reveal(a) FROM of_user;
SELECT test.outcome($$SELECT count(*) FROM of_user WHERE a = 'x'$$);
SELECT test.outcome($$SELECT fieldcrypt.encrypt('x', 'lead.a')$$);
INSERT INTO of_user VALUES ('x');
-- He holds what was granted to a role that he is in.
SET ROLE regress_grantor;
SELECT fieldcrypt.grant_access('regress_team', '{search,decrypt}', account => 'acme', field => '*');
RESET ROLE;
CREATE ROLE regress_super SUPERUSER IN ROLE regress_team;
SET ROLE regress_super;
SELECT fieldcrypt.decrypt(a) FROM of_user WHERE a = 'x';
SELECT reason FROM fieldcrypt.can('regress_super', 'decrypt', account => 'acme', field => 'lead.a');
RESET ROLE;
CREATE ROLE regress_super2 SUPERUSER NOINHERIT IN ROLE regress_team;
SET ROLE regress_super2;
SELECT fieldcrypt.decrypt(a) FROM of_user;
RESET ROLE;

-- Inherited rights, also over two steps; NOINHERIT has them only after SET ROLE.
GRANT SELECT ON of_user TO regress_team;
SET ROLE regress_inner;
SELECT fieldcrypt.decrypt(a) FROM of_user WHERE a = 'x';
SELECT reason FROM fieldcrypt.can('regress_inner', 'decrypt', account => 'acme', field => 'lead.a');
SET ROLE regress_switcher;
SELECT fieldcrypt.reveal(a) FROM of_user;
SELECT fieldcrypt.decrypt(a) FROM of_user;
SELECT allowed FROM fieldcrypt.can('regress_switcher', 'decrypt', account => 'acme', field => 'lead.a');
RESET ROLE;
SET SESSION AUTHORIZATION regress_switcher;
SELECT fieldcrypt.decrypt(a) FROM of_user;
SET ROLE regress_team;
SELECT fieldcrypt.decrypt(a) FROM of_user;
RESET SESSION AUTHORIZATION;
RESET ROLE;
-- A membership that is taken away is gone at the next statement.
GRANT regress_team TO regress_user;
SET ROLE regress_user;
SELECT fieldcrypt.decrypt(a) FROM of_user;
RESET ROLE;
REVOKE regress_team FROM regress_user;
SET ROLE regress_user;
SELECT fieldcrypt.decrypt(a) FROM of_user;

-- A setting permits nothing.
SET fieldcrypt.account = 'globex';
SELECT fieldcrypt.decrypt(a) FROM of_user;
SET fieldcrypt.account = 'acme';
-- The session's account is not needed to read.
SET ROLE regress_app;
RESET fieldcrypt.account;
SELECT fieldcrypt.decrypt(a) FROM of_user;
SET fieldcrypt.account = 'acme';

-- Functions with the definer's rights use the definer's grants.
RESET ROLE;
CREATE FUNCTION read_definer() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'SELECT fieldcrypt.decrypt(a) FROM public.of_user WHERE a = ''x''';
ALTER FUNCTION read_definer() OWNER TO regress_app;
CREATE FUNCTION read_invoker() RETURNS SETOF text LANGUAGE sql
    AS 'SELECT fieldcrypt.decrypt(a) FROM public.of_user WHERE a = ''x''';
ALTER FUNCTION read_invoker() OWNER TO regress_app;
SET ROLE regress_nobody;
SELECT read_definer();
SELECT read_invoker();
SELECT fieldcrypt.decrypt(a) FROM of_user;
-- In one statement each with its own rights: what one has cached the other does not get.
SELECT read_definer(), (SELECT fieldcrypt.reveal(a) FROM of_user LIMIT 1);
SELECT (SELECT fieldcrypt.reveal(a) FROM of_user LIMIT 1), read_definer();
-- The other way round: a definer without rights does not use the caller's.
RESET ROLE;
ALTER FUNCTION read_definer() OWNER TO regress_nobody;
SET ROLE regress_app;
SELECT read_definer();
RESET ROLE;
DROP FUNCTION read_definer(), read_invoker();

-- Who may do it: fieldcrypt_grantor, and no other role.
SET ROLE regress_admin;
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'acme', field => 'lead.a');
SET ROLE regress_app;
SELECT fieldcrypt.revoke_access('regress_user', '{search}', account => 'acme', field => 'lead.a');
SELECT count(*) FROM fieldcrypt.access;
RESET ROLE;
BEGIN;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA fieldcrypt TO PUBLIC;
SET LOCAL ROLE regress_nobody;
SAVEPOINT s;
SELECT fieldcrypt.grant_access('regress_user', '{search}', account => 'acme', field => 'lead.a');
ROLLBACK TO s;
SELECT fieldcrypt.revoke_access('regress_user', '{search}', account => 'acme', field => 'lead.a');
ROLLBACK;
-- The table of grants can be written by nobody else.
SET ROLE regress_grantor;
INSERT INTO fieldcrypt.access_grant (role, account, field, privileges) VALUES ('regress_grantor', '*', '*', '{decrypt}');
RESET ROLE;

-- A role that is dropped leaves a grant that nobody has.
CREATE ROLE regress_gone;
SELECT fieldcrypt.grant_access('regress_gone', '{decrypt}', account => '*', field => '*');
DROP ROLE regress_gone;
SELECT count(*) FROM fieldcrypt.access WHERE role::oid NOT IN (SELECT oid FROM pg_roles);
SELECT count(*) FROM fieldcrypt.access_grant AS g WHERE NOT EXISTS (SELECT FROM pg_roles WHERE oid = g.role);
DELETE FROM fieldcrypt.access_grant AS g WHERE NOT EXISTS (SELECT FROM pg_roles WHERE oid = g.role);

-- Tidy up.
SELECT fieldcrypt.revoke_access('regress_team', '{search,decrypt}', account => 'acme', field => '*');
SELECT fieldcrypt.revoke_access('regress_user', '{mask}', account => '*', field => '*');
DROP TABLE of_user;
DROP ROLE regress_super, regress_super2, regress_user, regress_inner, regress_grantor2, regress_grantor3, regress_switcher, regress_team;
SELECT fieldcrypt.drop_field(name) FROM unnest('{lead,lead.a,lead.b.c,leads.x,lea}'::text[]) AS name;
