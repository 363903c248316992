//! What happens to the nodes.

use std::sync::{Arc, Mutex};

use lease::{Holder, Input, Keeper, NodeId, ObjectLease, Right, Settings, Standing};
use objstore::Key;
use rand::RngExt as _;
use sim::{Rng, SimStore, StoreFaults, World};
use tokio::time::{Duration, sleep};

use crate::{
    node::{Gate, Gated, Member, Node, Process, Shared},
    process::Run,
    shelf::Shelf,
    world::Mistake,
};

/// How long a lease lasts.
const TTL: Duration = Duration::from_secs(10);
/// What happens in one run.
const STEPS: u32 = 25;
/// How long a cluster may take to be whole again.
const HEAL_MAX_S: u32 = 600;
/// How long an election may take when nothing is in its way: the lease, the patience of who is behind, and some looks.
const CALM_ELECTION: Duration = Duration::from_secs(40);

/// One cluster's life.
pub(crate) struct Game {
    world: World,
    shared: Shared,
    rng: Rng,
    stores: Vec<SimStore>,
    processes: u64,
    wiped: bool,
    mistake: Option<Mistake>,
}

impl Game {
    pub(crate) fn new(world: World, mistake: Option<Mistake>) -> Self {
        let mut rng = world.rng("game");
        let (shared, store) = (Shared::default(), world.store());
        let count = rng.random_range(2..=4);
        shared.lock().all = (0..count).map(|_| Node::default()).collect();
        shared.lock().mistake = mistake;
        let stores = (0..count).map(|node| store.client(&format!("node {node}")));
        Self {
            stores: stores.collect(),
            shared,
            rng,
            processes: 0,
            wiped: false,
            mistake,
            world,
        }
    }

    pub(crate) async fn play(&mut self) -> Result<(), String> {
        for node in 0..self.stores.len() {
            self.start(node);
        }
        for _ in 0..STEPS {
            sleep(Duration::from_millis(self.rng.random_range(100..6000))).await;
            self.step().await;
            self.check()?;
        }
        self.finale().await
    }

    fn event(&self, line: std::fmt::Arguments<'_>) {
        let at = self.world.clock().elapsed().as_millis();
        self.world.trace().event(format_args!("{at} ms {line}"));
    }

    fn any(&mut self) -> usize {
        self.rng.random_range(0..self.stores.len())
    }

    fn runs(&self, node: usize) -> bool {
        self.shared.lock().all[node].process.is_some()
    }

    /// Returns who may acknowledge at this moment.
    fn primary(&self) -> Option<usize> {
        let nodes = self.shared.lock();
        nodes.all.iter().position(|node| {
            let process = node.process.as_ref();
            process.is_some_and(|process| process.epoch().is_some() && process.gate.is_open())
        })
    }

    fn start(&mut self, node: usize) {
        if self.runs(node) {
            return;
        }
        self.processes += 1;
        let number = self.processes;
        self.event(format_args!("start node {node} as {number}"));
        let id = NodeId(format!("{number:016X}"));
        let holder = Holder {
            node: id.clone(),
            hostname: format!("node {node}"),
            url: String::new(),
        };
        let timing = ObjectLease::timing(TTL);
        let key = Key::new("lease").expect("a key");
        let mut lease = ObjectLease::new(Arc::new(self.stores[node].clone()), key, holder, timing);
        let kept = self.shared.lock().all[node].shelf.kept.clone();
        if let Some(former) = kept.node {
            lease = lease.resuming(former, kept.epoch);
        }
        let gate = Arc::new(Gate::default());
        let settings = Settings {
            me: id.clone(),
            candidate: true,
            timing,
            demote_delay: TTL,
            mutant: match self.mistake {
                Some(Mistake::Engine(mutant)) => Some(mutant),
                Some(_) | None => None,
            },
        };
        let member = Arc::new(Member {
            shared: self.shared.clone(),
            number: node,
            proposal: Mutex::new(format!("LFSC{number:016X}")),
        });
        let provider = Arc::new(Gated {
            lease,
            gate: Arc::clone(&gate),
        });
        let right = Arc::new(Right::default());
        let subject = Arc::clone(&member) as Arc<dyn lease::Subject>;
        let (keeper, task) = Keeper::start(provider, settings, subject, None, Arc::clone(&right));
        let run = Run {
            shared: self.shared.clone(),
            node,
            number,
            id: id.clone(),
            keeper: keeper.clone(),
            gate: Arc::clone(&gate),
            member,
            trace: self.world.trace().clone(),
        };
        let mut tasks = vec![task];
        for database in ["a", "b"] {
            let rng = self.world.rng(&format!("{number} writes {database}"));
            let database = database.parse().expect("a name");
            tasks.push(daemon::spawn("writes", run.clone().writes(rng, database)));
        }
        let rng = self.world.rng(&format!("{number} roles"));
        tasks.push(daemon::spawn("roles", run.roles(rng)));
        self.shared.lock().all[node].process = Some(Process {
            number,
            id,
            keeper,
            right,
            gate,
            begun: None,
            committing: 0,
            offer: None,
            delivered: None,
            handed: false,
            tasks,
        });
    }

    fn kill(&self, node: usize) {
        self.event(format_args!("kill node {node}"));
        let killed = self.shared.lock().all[node].process.take();
        drop(killed);
    }

    fn disturb(&self) {
        self.shared.lock().oracles.disturb();
    }

    fn pause(&mut self, node: usize) {
        let ms = self.rng.random_range(500..30_000);
        let gate = {
            let nodes = self.shared.lock();
            let process = nodes.all[node].process.as_ref();
            process.map(|process| Arc::clone(&process.gate))
        };
        let Some(gate) = gate else {
            return;
        };
        self.event(format_args!("node {node} stands still for {ms} ms"));
        gate.set_open(false);
        let shared = self.shared.clone();
        daemon::spawn("pause", async move {
            sleep(Duration::from_millis(ms)).await;
            shared.lock().oracles.disturb();
            gate.set_open(true);
        });
    }

    fn set_connected(&self, node: usize, connected: bool) {
        self.event(format_args!("node {node} reaches the store: {connected}"));
        self.stores[node].set_connected(connected);
        self.shared.lock().all[node].cut_off = !connected;
    }

    fn set_faults(&self, faults: StoreFaults) {
        self.stores[0].set_faults(faults);
    }

    async fn step(&mut self) {
        let node = self.any();
        let action = self.rng.random_range(0..22);
        if !(action >= 20 || action == 18) {
            self.disturb();
        }
        match action {
            0..=2 if self.runs(node) => self.kill(node),
            3..=6 => (0..self.stores.len()).for_each(|node| self.start(node)),
            7 | 8 => self.pause(node),
            9 => self.set_connected(node, false),
            10 | 11 => (0..self.stores.len()).for_each(|node| self.set_connected(node, true)),
            12 => self.cut(node),
            13 => self.shared.lock().cut.clear(),
            14 => self.set_faults(StoreFaults::ROUGH),
            15 => self.set_faults(StoreFaults::CALM),
            16 => self.kill_primary(),
            17 => self.say_to_primary(Input::Demote).await,
            18 => {
                let jump = self.rng.random_range(-100_000..100_000);
                self.world.clock().jump(jiff::SignedDuration::from_secs(jump));
            }
            19 => self.wipe(node),
            20 => self.hand_over().await,
            _ => self.calm_election().await,
        }
    }

    fn cut(&mut self, node: usize) {
        let other = self.any();
        if node != other {
            self.event(format_args!("cut between {node} and {other}"));
            self.shared.lock().cut.insert((node.min(other), node.max(other)));
        }
    }

    fn kill_primary(&self) {
        if let Some(primary) = self.primary() {
            self.kill(primary);
        }
    }

    async fn say_to_primary(&self, input: Input) {
        let Some(primary) = self.primary() else {
            return;
        };
        self.event(format_args!("say {input:?} to node {primary}"));
        let keeper = {
            let nodes = self.shared.lock();
            nodes.all[primary]
                .process
                .as_ref()
                .map(|process| process.keeper.clone())
        };
        if let Some(keeper) = keeper {
            keeper.say(input).await;
        }
    }

    async fn hand_over(&mut self) {
        let to = self.any();
        let id = {
            let nodes = self.shared.lock();
            nodes.all[to].process.as_ref().map(|process| process.id.clone())
        };
        if let Some(id) = id.filter(|_| self.primary() != Some(to)) {
            self.say_to_primary(Input::HandOff(id)).await;
            sleep(Duration::from_secs(6)).await;
        }
    }

    /// A disk is lost, of a node that is not the only one that has anything.
    fn wipe(&mut self, node: usize) {
        let mut nodes = self.shared.lock();
        let ours = nodes.all[node].shelf.progress();
        let others = nodes.all.iter().enumerate().filter(|(other, _)| *other != node);
        let best = others.map(|(_, other)| other.shelf.progress()).max();
        if self.wiped || best.is_none_or(|best| best < ours || best.is_empty()) {
            return;
        }
        self.wiped = true;
        let cluster = nodes.all[node].shelf.cluster.clone();
        nodes.all[node] = Node {
            shelf: Shelf {
                cluster: cluster.filter(|_| self.processes.is_multiple_of(2)),
                ..Shelf::default()
            },
            process: None,
            cut_off: nodes.all[node].cut_off,
        };
        drop(nodes);
        self.event(format_args!("node {node} lost its disk"));
    }

    fn heal(&mut self) {
        self.event(format_args!("all is well"));
        self.set_faults(StoreFaults::CALM);
        self.shared.lock().cut.clear();
        for node in 0..self.stores.len() {
            self.set_connected(node, true);
            let nodes = self.shared.lock();
            if let Some(process) = &nodes.all[node].process {
                process.gate.set_open(true);
            }
            drop(nodes);
            self.start(node);
        }
    }

    /// All is calm but that replicas fall behind, or a former primary has something of its own: then the primary dies.
    async fn calm_election(&mut self) {
        self.heal();
        self.disturb();
        sleep(CALM_ELECTION).await;
        let Some(primary) = self.primary() else {
            return;
        };
        let mut behind = self.any();
        if self.rng.random_bool(0.5) {
            // A former primary that nobody hears.
            behind = primary;
            let others: Vec<_> = (0..self.stores.len()).filter(|node| *node != primary).collect();
            let cut = others
                .iter()
                .map(|other| (primary.min(*other), primary.max(*other)));
            self.shared.lock().cut.extend(cut);
            sleep(Duration::from_secs(8)).await;
            self.set_connected(primary, false);
            sleep(CALM_ELECTION).await;
            self.set_connected(primary, true);
        } else if behind != primary {
            self.shared
                .lock()
                .cut
                .insert((primary.min(behind), primary.max(behind)));
            sleep(Duration::from_secs(5)).await;
        }
        self.event(format_args!("calm, and node {behind} is behind"));
        sleep(Duration::from_secs(35)).await;
        self.kill_primary();
        sleep(CALM_ELECTION).await;
        self.disturb();
        self.shared.lock().cut.clear();
    }

    fn check(&mut self) -> Result<(), String> {
        let mut nodes = self.shared.lock();
        let nodes = &mut *nodes;
        for (number, node) in nodes.all.iter().enumerate() {
            nodes.oracles.check_history(number, &node.shelf);
        }
        nodes.oracles.violation.clone().map_or(Ok(()), Err)
    }

    /// Once all is calm there is one primary, everybody has what it has, and what it acknowledges is everywhere.
    async fn finale(&mut self) -> Result<(), String> {
        self.disturb();
        let mut waited = 0;
        loop {
            self.heal();
            sleep(Duration::from_secs(20)).await;
            self.check()?;
            if self.primary().is_some() {
                break;
            }
            waited += 20;
            if waited > HEAL_MAX_S {
                let nodes = self.shared.lock();
                let progress: Vec<_> = nodes
                    .all
                    .iter()
                    .map(|node| (node.shelf.progress(), node.shelf.cluster.clone()))
                    .collect();
                return Err(format!("no primary after {waited} s of calm: {progress:?}"));
            }
        }
        sleep(CALM_ELECTION).await;
        let acknowledged_before = self.shared.lock().oracles.acknowledged.len();
        sleep(Duration::from_secs(5)).await;
        self.shared.lock().quiet = true;
        sleep(CALM_ELECTION).await;
        self.check()?;
        let nodes = self.shared.lock();
        let primaries = nodes.all.iter().filter(|node| {
            let process = node.process.as_ref();
            process.is_some_and(|process| {
                matches!(*process.keeper.standing().borrow(), Standing::Primary { .. })
            })
        });
        let primaries: Vec<_> = primaries.collect();
        let [primary] = primaries[..] else {
            return Err(format!("{} primaries when all is calm", primaries.len()));
        };
        for (number, node) in nodes.all.iter().enumerate() {
            if node.shelf.databases != primary.shelf.databases {
                let (theirs, ours) = (node.shelf.positions(), primary.shelf.positions());
                let standing = node
                    .process
                    .as_ref()
                    .map(|process| process.keeper.standing().borrow().clone());
                let (kept, cluster) = (&node.shelf.kept, &node.shelf.cluster);
                return Err(format!(
                    "node {number} has {theirs:?}, the primary {ours:?}; it kept {kept:?} of {cluster:?}, the primary {:?} of {:?}, and is {standing:?}",
                    primary.shelf.kept, primary.shelf.cluster
                ));
            }
        }
        let since = &nodes.oracles.acknowledged[acknowledged_before..];
        if since.is_empty() {
            return Err("nothing is acknowledged when all is calm".to_owned());
        }
        match since
            .iter()
            .find(|(name, one)| !primary.shelf.databases[name].contains(one))
        {
            Some((name, lost)) => Err(format!(
                "{} of {name} was acknowledged in calm and is gone",
                lost.pos
            )),
            None => Ok(()),
        }
    }
}
