//! The store in PostgreSQL. Without `USERADMIN_POSTGRES_BIN`, these tests do nothing but report that they are skipped.

mod audit;
mod crash;
mod failover;
mod lease;
mod logon_faults;
mod logons;
mod outage;
mod proxy;
mod quota;
mod reconcile;
mod reconcile_command;
mod reconnect;
mod replica;
mod report;
mod rig;
mod throughput;
mod tls;
mod verify;
