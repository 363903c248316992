use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::*;

/// Consul's keys and sessions, as far as a lease goes.
#[derive(Debug, Default)]
struct Model(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    index: u64,
    next_session: u64,
    keys: BTreeMap<String, Stored>,
    sessions: BTreeMap<String, (Instant, Duration)>,
    /// Nobody locks these before then.
    delayed: BTreeMap<String, Instant>,
    /// All requests, in order.
    calls: Vec<String>,
}

#[derive(Debug, Clone)]
struct Stored {
    value: Vec<u8>,
    modified: u64,
    session: Option<String>,
}

impl State {
    /// Ends sessions that nobody renewed, and deletes what they locked.
    fn expire(&mut self) {
        let now = Instant::now();
        let ended = self.sessions.iter().filter(|(_, (until, _))| now >= *until);
        let ended: Vec<String> = ended.map(|(id, _)| id.clone()).collect();
        for id in ended {
            self.end(&id, now);
        }
    }

    fn end(&mut self, id: &str, now: Instant) {
        self.sessions.remove(id);
        let held = |stored: &Stored| stored.session.as_deref() == Some(id);
        let locked: Vec<String> = self
            .keys
            .iter()
            .filter(|(_, stored)| held(stored))
            .map(|(key, _)| key.clone())
            .collect();
        for key in locked {
            self.index += 1;
            self.keys.remove(&key);
            self.delayed.insert(key, now + Duration::from_secs(1));
        }
    }

    fn put(&mut self, key: &str, query: &str, value: &[u8]) -> bool {
        let held = self.keys.get(key).and_then(|stored| stored.session.clone());
        let mut session = held.clone();
        match query.split_once('=') {
            Some(("acquire", wanted)) => {
                let delayed = self.delayed.get(key).is_some_and(|until| Instant::now() < *until);
                let free = held.is_none() && !delayed || held.as_deref() == Some(wanted);
                if !free || !self.sessions.contains_key(wanted) {
                    return false;
                }
                session = Some(wanted.to_owned());
            }
            Some(("release", wanted)) => {
                if held.as_deref() != Some(wanted) {
                    return false;
                }
                session = None;
            }
            Some(("cas", "0")) if self.keys.contains_key(key) => return false,
            Some(_) | None => {}
        }
        self.index += 1;
        let stored = Stored {
            value: value.to_vec(),
            modified: self.index,
            session,
        };
        self.keys.insert(key.to_owned(), stored);
        true
    }
}

#[async_trait]
impl Agent for Model {
    async fn call(&self, method: &'static str, path: &str, body: Bytes) -> Result<(u16, Bytes), AskError> {
        let mut state = self.0.lock().unwrap();
        state.expire();
        let told = String::from_utf8_lossy(&body).into_owned();
        state
            .calls
            .push(format!("{method} {path} {told}").trim_end().to_owned());
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let truth = |yes: bool| Ok((200, Bytes::from(yes.to_string())));
        if path == "/v1/catalog/register" {
            return truth(true);
        }
        if path == "/v1/session/create" {
            let asked: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let ttl = asked["TTL"]
                .as_str()
                .unwrap()
                .strip_suffix('s')
                .unwrap()
                .parse()
                .unwrap();
            let ttl = Duration::from_secs(ttl);
            state.next_session += 1;
            let id = format!("session-{}", state.next_session);
            state.sessions.insert(id.clone(), (Instant::now() + ttl, ttl));
            return Ok((200, json!({ "ID": id }).to_string().into()));
        }
        if let Some(id) = path.strip_prefix("/v1/session/renew/") {
            return match state.sessions.get_mut(id) {
                Some((until, ttl)) => {
                    *until = Instant::now() + *ttl;
                    Ok((200, "[]".into()))
                }
                None => Ok((404, "Session id not found".into())),
            };
        }
        if let Some(id) = path.strip_prefix("/v1/session/destroy/") {
            state.end(id, Instant::now());
            return truth(true);
        }
        let key = path.strip_prefix("/v1/kv/").expect("a key");
        match method {
            "PUT" => truth(state.put(key, query, &body)),
            "DELETE" => {
                state.keys.retain(|known, _| !known.starts_with(key));
                truth(true)
            }
            _ => {
                let wanted = |known: &str| {
                    if query == "recurse" {
                        known.starts_with(key)
                    } else {
                        known == key
                    }
                };
                let pairs = state.keys.iter().filter(|(known, _)| wanted(known));
                let pairs: Vec<_> = pairs
                    .map(|(key, stored)| {
                        let mut pair = json!({
                            "LockIndex": 1, "Key": key, "Flags": 0, "CreateIndex": 1,
                            "Value": BASE64_STANDARD.encode(&stored.value), "ModifyIndex": stored.modified,
                        });
                        if let Some(session) = &stored.session {
                            pair["Session"] = session.clone().into();
                        }
                        pair
                    })
                    .collect();
                if pairs.is_empty() {
                    return Ok((404, Bytes::new()));
                }
                Ok((200, json!(pairs).to_string().into()))
            }
        }
    }
}

fn lease(agent: &Arc<Model>, node: &str) -> ConsulLease {
    let second = Duration::from_secs(1);
    let config = ConsulConfig::new("http://:secret@consul:8500/app", "litefs", second * 10, second).unwrap();
    let me = Holder {
        node: NodeId(node.to_owned()),
        hostname: node.to_owned(),
        url: format!("http://{node}:20202"),
    };
    ConsulLease::new(Arc::clone(agent) as Arc<dyn Agent>, config, me)
}

#[tokio::test(start_paused = true)]
async fn the_keys_and_the_session_are_those_of_litefs() {
    let model = Arc::new(Model::default());
    let a = lease(&model, "a");
    let grant = a.acquire(&View::default(), "LFSC1").await.unwrap().unwrap();
    a.renew(&grant, Progress::default()).await.unwrap().unwrap();
    a.release(&grant).await.unwrap();
    let calls = std::mem::take(&mut model.0.lock().unwrap().calls);
    assert_eq!(
        calls,
        [
            r#"PUT /v1/catalog/register {"Address":"localhost","Node":"app/litefs"}"#,
            r#"PUT /v1/session/create {"Behavior":"delete","Checks":[],"LockDelay":"1s","Name":"litefs","Node":"app/litefs","NodeChecks":[],"TTL":"10s"}"#,
            r#"PUT /v1/kv/app/litefs?acquire=session-1 {"advertise-url":"http://a:20202","hostname":"a"}"#,
            "GET /v1/kv/app/litefs",
            "PUT /v1/kv/app/litefs/clusterid?cas=0 LFSC1",
            "DELETE /v1/kv/app/litefs/candidates/?recurse",
            "PUT /v1/session/renew/session-1",
            "PUT /v1/kv/app/litefs?release=session-1",
            "PUT /v1/session/destroy/session-1",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn one_of_two_gets_the_lock_and_a_session_that_ends_gives_it_away_under_a_greater_epoch() {
    let model = Arc::new(Model::default());
    let (a, b) = (lease(&model, "a"), lease(&model, "b"));
    let first = a.acquire(&View::default(), "LFSC1").await.unwrap().unwrap();
    assert_eq!(b.acquire(&View::default(), "LFSC2").await.unwrap(), None);
    assert_eq!(
        model.0.lock().unwrap().sessions.len(),
        1,
        "who lost keeps no session"
    );
    let seen = b.look().await.unwrap();
    assert_eq!((seen.epoch, seen.ours, seen.ttl), (first.epoch, false, None));
    assert_eq!(seen.cluster.as_deref(), Some("LFSC1"));
    assert!(matches!(&seen.held, Held::By(holder) if holder.hostname == "a"));
    assert!(a.look().await.unwrap().ours);
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(
        b.acquire(&View::default(), "LFSC2").await.unwrap(),
        None,
        "the lock is delayed"
    );
    tokio::time::advance(Duration::from_secs(1)).await;
    let second = b.acquire(&View::default(), "LFSC2").await.unwrap().unwrap();
    assert!(second.epoch > first.epoch);
    assert_eq!(a.renew(&first, Progress::default()).await.unwrap(), None);
    assert_eq!(
        b.look().await.unwrap().cluster.as_deref(),
        Some("LFSC1"),
        "it is written once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_handed_over_with_its_session_and_its_epoch_grows() {
    let model = Arc::new(Model::default());
    let (a, b) = (lease(&model, "a"), lease(&model, "b"));
    let grant = a.acquire(&View::default(), "LFSC1").await.unwrap().unwrap();
    let session = a.pass_on(&grant, &b.me.node).await.unwrap().unwrap();
    assert_eq!(session, "session-1");
    let taken = b.take_over(&session).await.unwrap().unwrap();
    assert!(taken.epoch > grant.epoch);
    assert!(b.look().await.unwrap().ours && !a.look().await.unwrap().ours);
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(
        a.take_over(&session).await.unwrap(),
        None,
        "the session has ended"
    );
}

#[tokio::test(start_paused = true)]
async fn who_wants_the_lock_is_seen_by_ours_while_it_is_free() {
    let model = Arc::new(Model::default());
    let (a, b) = (lease(&model, "a"), lease(&model, "b"));
    let progress = Progress {
        epoch: Epoch(3),
        txids: 5,
    };
    b.announce(&View::default(), Candidate { progress, beat: 1 })
        .await
        .unwrap();
    let seen = a.look().await.unwrap();
    assert_eq!(
        (seen.held, seen.candidates[&b.me.node].progress),
        (Held::Free, progress)
    );
    a.acquire(&View::default(), "LFSC1").await.unwrap().unwrap();
    assert!(
        !model
            .0
            .lock()
            .unwrap()
            .keys
            .keys()
            .any(|key| key.contains("candidates"))
    );
}

#[test]
fn a_url_of_litefs_is_read_and_what_cannot_be_done_is_named() {
    let second = Duration::from_secs(1);
    let read = |url, key| ConsulConfig::new(url, key, second * 10, second);
    let config = read("http://:tok@host:8500/pre/fix", "k").unwrap();
    assert_eq!(
        (config.authority.as_str(), config.token.as_deref()),
        ("host:8500", Some("tok"))
    );
    assert_eq!(
        (config.key_path().as_str(), config.node().as_str()),
        ("pre/fix/k", "pre/fix/litefs")
    );
    let plain = read("http://host", "k").unwrap();
    assert_eq!(
        (plain.authority.as_str(), &plain.token, plain.key_path().as_str()),
        ("host:80", &None, "k")
    );
    assert_eq!(
        read("https://host", "k"),
        Err(ConsulConfigError::Scheme("https://host".to_owned()))
    );
    assert_eq!(read("http://host", ""), Err(ConsulConfigError::Key));
    assert_eq!(config::seconds(second * 10), "10s");
    assert_eq!(config::seconds(Duration::from_millis(1500)), "1500ms");
}
