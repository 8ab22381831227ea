//! The store in PostgreSQL. Without `USERADMIN_POSTGRES_BIN`, these tests do nothing but report that they are skipped.

mod audit;
mod proxy;
mod report;
mod rig;
mod verify;
