//! A node's lease, as it is configured.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use crashsafe::{Disk, RealDisk};
use http::{HeaderMap, Method};
use lease::{
    ConsulLease, EtcdConnectError, EtcdLease, Grant, Holder, HttpAgent, HttpGateway, Input, Keeper, NodeId,
    ObjectLease, Provider, RecordLease, Right, Settings,
};
use objstore::{ConnectError, Metrics, S3Store};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::member::Member;
use crate::{
    config::{Config, LeaseConfig},
    db::{Primacy, Role},
    http_client::{RequestError, request, whole},
    replication::status::{Primary, Status},
    store::{ClusterId, ClusterIdError, KeptEpoch, Store, chain},
};

/// How long a node waits that asked to be primary.
const PROMOTE_MAX: Duration = Duration::from_secs(10);
/// How long a lease may take to be given back.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// Why a node has no lease to go by.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// What is kept of the last one cannot be read.
    #[error("read what is kept of the lease")]
    Kept(#[source] io::Error),
    /// What is kept of this one cannot be written.
    #[error("keep the lease")]
    Keep(#[source] io::Error),
    /// Nobody knows which cluster the node belongs to.
    #[error(transparent)]
    ClusterId(#[from] ClusterIdError),
    /// The store is none.
    #[error("the object store of the lease")]
    Store(#[from] ConnectError),
    /// Etcd cannot be asked.
    #[error("the etcd of the lease")]
    Etcd(#[from] EtcdConnectError),
    /// The primary does not hand its lease over.
    #[error("ask to be primary")]
    Promote(#[from] RequestError),
    /// Nothing came of it in time.
    #[error("timed out waiting for promotion")]
    PromoteTimeout,
}

/// A node's lease, before and after it has its databases.
#[derive(Debug)]
pub(super) struct Leasing {
    primacy: Primacy,
    member: Arc<Member>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Fixed(Keeper),
    /// Wanted as soon as the node knows what it has; or had again when it was asked for.
    Wanted {
        provider: Arc<dyn Provider>,
        settings: Settings,
        held: Option<(Grant, Instant)>,
    },
    Kept {
        keeper: Keeper,
        task: JoinHandle<()>,
    },
}

impl Leasing {
    /// Prepares a lease. A node that had it and was killed has it again at once, if nobody else has had it since: then nothing that
    /// was acknowledged is dropped.
    ///
    /// * `id`: who the node is from now on.
    /// * `address`: where its API listens.
    pub(super) async fn prepare(
        config: &Config,
        id: ltx::NodeId,
        address: SocketAddr,
    ) -> Result<Self, LeaseError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let root = config.data.clone();
        let me = NodeId(id.to_string());
        crashsafe::create_dir_durable(&*disk, "data", &root).map_err(LeaseError::Kept)?;
        let cluster = ClusterId::read(&*disk, &root)?;
        let member = Member::new(Arc::clone(&disk), root, me.clone(), cluster).map_err(LeaseError::Kept)?;
        let url = config
            .advertise_url
            .clone()
            .unwrap_or_else(|| format!("http://{}:{}", config.hostname, address.port()));
        let holder = Holder {
            node: me.clone(),
            hostname: config.hostname.clone(),
            url,
        };
        let provider: Arc<dyn Provider> = match &config.lease {
            LeaseConfig::Static => {
                let role = if config.candidate {
                    Role::Primary
                } else {
                    Role::Replica
                };
                if config.candidate {
                    member.begins(lease::Epoch::NONE).map_err(LeaseError::Keep)?;
                }
                return Ok(Self {
                    primacy: Primacy::fixed(role),
                    member: Arc::new(member),
                    kind: Kind::Fixed(Keeper::fixed((role == Role::Replica).then_some(holder))),
                });
            }
            LeaseConfig::Consul(config) => {
                let agent = HttpAgent::new(config);
                Arc::new(ConsulLease::new(Arc::new(agent), config.clone(), holder))
            }
            LeaseConfig::Etcd(config) => {
                let gateway = HttpGateway::new(config)?;
                let lease = EtcdLease::new(Arc::new(gateway), config.clone(), holder);
                Arc::new(resuming(lease, member.kept()))
            }
            LeaseConfig::Object { store, key, ttl } => {
                let store = S3Store::connect((**store).clone(), Metrics::unregistered()).await?;
                let timing = ObjectLease::timing(*ttl);
                let lease = ObjectLease::new(Arc::new(store), key.clone(), holder, timing);
                Arc::new(resuming(lease, member.kept()))
            }
        };
        let settings = Settings {
            me,
            candidate: config.candidate,
            timing: provider.timing(),
            demote_delay: config.demote_delay,
            mutant: None,
        };
        let held = if config.candidate {
            resume(&*provider, &member).await
        } else {
            None
        };
        let mut leasing = Self {
            primacy: Primacy::under(Arc::new(Right::default())),
            member: Arc::new(member),
            kind: Kind::Wanted {
                provider,
                settings,
                held: held.clone(),
            },
        };
        if let Some((grant, _)) = held {
            leasing.member.begins(grant.epoch).map_err(LeaseError::Keep)?;
            leasing.begin();
            leasing.primacy.begin(grant.epoch);
            tracing::info!(lease_epoch = grant.epoch.0, "lease is this node's again");
        }
        Ok(leasing)
    }

    /// Returns whether the node is primary.
    pub(super) fn primacy(&self) -> Primacy {
        self.primacy.clone()
    }

    /// Returns the node as its lease sees it.
    pub(super) fn member(&self) -> Arc<Member> {
        Arc::clone(&self.member)
    }

    /// Begins to want the lease, for what the node has.
    pub(super) fn start(&mut self, store: &Arc<Store>) -> Keeper {
        self.member.set_store(Arc::clone(store));
        self.begin()
    }

    fn begin(&mut self) -> Keeper {
        let (provider, settings, held) = match &self.kind {
            Kind::Fixed(keeper) | Kind::Kept { keeper, .. } => return keeper.clone(),
            Kind::Wanted {
                provider,
                settings,
                held,
            } => (Arc::clone(provider), settings.clone(), held.clone()),
        };
        let right = self.primacy.right();
        let subject = Arc::clone(&self.member) as Arc<dyn lease::Subject>;
        let (keeper, task) = Keeper::start(provider, settings, subject, held, right);
        self.kind = Kind::Kept {
            keeper: keeper.clone(),
            task,
        };
        keeper
    }

    /// Gives the lease back. Nothing is acknowledged any more.
    pub(super) async fn stop(self) {
        let Kind::Kept { keeper, task } = self.kind else {
            return;
        };
        keeper.stop().await;
        keeper.say(Input::Drained).await;
        if timeout(RELEASE_MAX, task).await.is_err() {
            tracing::warn!("lease was not given back, and ends by itself");
        }
    }
}

/// Says which lease the node had before it started again.
fn resuming<C>(lease: RecordLease<C>, kept: KeptEpoch) -> RecordLease<C> {
    match kept.node {
        Some(node) => lease.resuming(node, kept.epoch),
        None => lease,
    }
}

/// Takes the lease again that the node had before it was killed.
async fn resume(provider: &dyn Provider, member: &Member) -> Option<(Grant, Instant)> {
    use lease::Subject as _;
    member.kept().node?;
    let looked = provider.look().await;
    let view = looked
        .inspect_err(|error| tracing::warn!(error = %chain(error), "lease was not reached"))
        .ok()?;
    if !view.ours || view.cluster.is_some() && view.cluster != member.cluster() {
        return None;
    }
    let asked_at = Instant::now();
    let granted = provider.acquire(&view, &member.proposes()).await;
    let granted = granted.inspect_err(|error| tracing::warn!(error = %chain(error), "lease was not reached"));
    Some((granted.ok()??, asked_at))
}

/// Asks the primary for its lease, and waits until this node has it.
pub(super) async fn promote(address: SocketAddr, status: &Status) -> Result<(), LeaseError> {
    let mut ip = address.ip();
    if ip.is_unspecified() {
        ip = std::net::Ipv4Addr::LOCALHOST.into();
    }
    let url = format!("http://{}", SocketAddr::new(ip, address.port()));
    request(Method::POST, &url, "/promote", HeaderMap::new(), whole("")).await?;
    let mut primaries = status.primaries();
    let became = primaries.wait_for(|primary| *primary == Some(Primary::Here));
    match timeout(PROMOTE_MAX, became).await {
        Ok(_) => Ok(()),
        Err(_) => Err(LeaseError::PromoteTimeout),
    }
}
