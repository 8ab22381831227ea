//! The store in PostgreSQL. Without `USERADMIN_POSTGRES_BIN`, these tests do nothing but report that they are skipped.

mod audit;
mod logon_faults;
mod logons;
mod proxy;
mod report;
mod rig;
mod verify;
