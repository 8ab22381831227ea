-- Roles of the database: the owner of the schema, and the servers. docs/store.md describes them.
CREATE ROLE useradmin_owner LOGIN PASSWORD 'owner-password';
CREATE ROLE useradmin LOGIN PASSWORD 'server-password';
CREATE DATABASE useradmin OWNER useradmin_owner;
REVOKE CONNECT, TEMPORARY ON DATABASE useradmin FROM PUBLIC;
GRANT CONNECT ON DATABASE useradmin TO useradmin;
