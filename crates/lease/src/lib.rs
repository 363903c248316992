//! Leases: which node of several is primary, for how long, and who comes next.
//!
//! [`Engine`] decides, and does nothing else: when to look, to announce itself, to acquire, to renew, to step down. A
//! [`Provider`] keeps the lease where all nodes see it: [`ConsulLease`] in Consul, with the keys and sessions of LiteFS;
//! [`RecordLease`] as one [`Record`] that is changed by compare-and-swap, as an [`ObjectLease`] in an object store or an
//! [`EtcdLease`] in etcd. A [`Keeper`] drives one with the other, and [`Right`] is what whoever acknowledges asks at that
//! very moment: it ends by itself. [`Keeper::fixed`] is for a primary that was chosen by hand.
//!
//! Every acquisition has an [`Epoch`], which only grows.

mod consul;
mod engine;
mod etcd;
mod keeper;
mod object;
mod provider;
mod record;
mod recorded;
mod right;

pub use consul::{Agent, ConsulConfig, ConsulConfigError, ConsulLease, HttpAgent};
pub use engine::{Answer, Engine, Input, Lost, Mutant, Refused, Request, Settings, Standing, Step};
pub use etcd::{
    EtcdCell, EtcdConfig, EtcdConfigError, EtcdConnectError, EtcdLease, Gateway, HttpGateway, Login, TlsFiles,
};
pub use keeper::{HandOffError, Keeper, Subject};
pub use object::{ObjectCell, ObjectLease};
pub use provider::{AskError, Grant, Held, Provider, Timing, View};
pub use record::{Candidate, Epoch, Holder, NodeId, Progress, Record};
pub use recorded::{Cell, RecordLease};
pub use right::Right;
