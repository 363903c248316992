//! The keys of an etcd cluster, and its users, as far as a lease goes.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{AUTHENTICATE, Gateway, RANGE, TXN};
use crate::AskError;

/// What becomes of a question.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Nobody hears it.
    Unheard,
    /// It is done, and nobody hears the answer.
    Unanswered,
    /// It is refused.
    Refused(u16, &'static str),
    /// Something else answers.
    Foreign,
}

/// All members of a cluster; each knows what the others know.
#[derive(Debug, Default)]
pub(crate) struct Model(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    revision: u64,
    /// By the key in base64: the revision of the last change, and the value in base64.
    keys: BTreeMap<String, (u64, String)>,
    /// What becomes of the next questions of a kind.
    faults: Vec<(&'static str, Fault)>,
    /// Who has to log in, with which password.
    user: Option<(&'static str, &'static str)>,
    logins: u64,
    /// All questions, in order: of whom, and what.
    asked: Vec<(usize, &'static str)>,
}

impl Model {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn write(&self, key: &str, value: &[u8]) {
        let (key, value) = (BASE64_STANDARD.encode(key), BASE64_STANDARD.encode(value));
        self.state().put(key, value);
    }

    pub(crate) fn read(&self, key: &str) -> Vec<u8> {
        let value = self.state().keys[&BASE64_STANDARD.encode(key)].1.clone();
        BASE64_STANDARD.decode(value).unwrap()
    }

    /// Has the next questions of a kind fail.
    pub(crate) fn fail(&self, path: &'static str, faults: &[Fault]) {
        let faults = faults.iter().map(|fault| (path, *fault));
        self.state().faults.extend(faults);
    }

    /// Lets only that user ask.
    pub(crate) fn demand(&self, user: &'static str, password: &'static str) {
        self.state().user = Some((user, password));
    }

    /// Forgets who has logged in.
    pub(crate) fn end_tokens(&self) {
        self.state().logins += 100;
    }

    /// Returns what was asked since the last call.
    pub(crate) fn asked(&self) -> Vec<(usize, &'static str)> {
        std::mem::take(&mut self.state().asked)
    }
}

impl State {
    fn put(&mut self, key: String, value: String) {
        self.revision += 1;
        self.keys.insert(key, (self.revision, value));
    }

    fn range(&self, asked: &Value) -> Value {
        let key = asked["key"].as_str().unwrap();
        match self.keys.get(key) {
            Some((revision, value)) => json!({
                "header": { "revision": self.revision.to_string() },
                "kvs": [{ "key": key, "mod_revision": revision.to_string(), "value": value, "version": "1" }],
                "count": "1",
            }),
            // As etcd leaves out what is nothing.
            None => json!({ "header": { "revision": self.revision.to_string() } }),
        }
    }

    fn transact(&mut self, asked: &Value) -> Value {
        let compare = &asked["compare"][0];
        assert_eq!(
            (&compare["target"], &compare["result"]),
            (&json!("MOD"), &json!("EQUAL"))
        );
        let modified = self.keys.get(compare["key"].as_str().unwrap());
        let modified = modified.map_or(0, |(revision, _)| *revision);
        if compare["mod_revision"] != json!(modified.to_string()) {
            let found = self.range(&asked["failure"][0]["request_range"]);
            return json!({ "header": {}, "responses": [{ "response_range": found }] });
        }
        let put = &asked["success"][0]["request_put"];
        let text = |name: &str| put[name].as_str().unwrap().to_owned();
        self.put(text("key"), text("value"));
        json!({ "header": {}, "succeeded": true, "responses": [{ "response_put": { "header": {} } }] })
    }

    fn log_in(&mut self, asked: &Value) -> (u16, Value) {
        let Some((user, password)) = self.user else {
            return refuse(400, "etcdserver: authentication is not enabled");
        };
        if (&asked["name"], &asked["password"]) != (&json!(user), &json!(password)) {
            return refuse(
                400,
                "etcdserver: authentication failed, invalid user ID or password",
            );
        }
        self.logins += 1;
        (
            200,
            json!({ "header": {}, "token": format!("token-{}", self.logins) }),
        )
    }

    fn answer(&mut self, path: &'static str, token: Option<&str>, asked: &Value) -> (u16, Value) {
        if path == AUTHENTICATE {
            return self.log_in(asked);
        }
        let valid = format!("token-{}", self.logins);
        match token {
            None if self.user.is_some() => return refuse(400, "etcdserver: user name is empty"),
            Some(token) if token != valid => return refuse(401, "etcdserver: invalid auth token"),
            Some(_) | None => {}
        }
        match path {
            RANGE => (200, self.range(asked)),
            TXN => (200, self.transact(asked)),
            other => panic!("{other}"),
        }
    }
}

fn refuse(status: u16, message: &str) -> (u16, Value) {
    (status, json!({ "error": message, "message": message, "code": 3 }))
}

fn lost(member: usize) -> AskError {
    AskError::Etcd {
        endpoint: format!("member {member}"),
        source: "connection reset".into(),
    }
}

#[async_trait]
impl Gateway for Model {
    async fn post(
        &self,
        member: usize,
        path: &'static str,
        token: Option<&str>,
        body: Bytes,
    ) -> Result<(u16, Bytes), AskError> {
        let mut state = self.state();
        state.asked.push((member, path));
        let asked = serde_json::from_slice(&body).unwrap();
        let fault = state.faults.iter().position(|(of, _)| *of == path);
        let fault = fault.map(|at| state.faults.remove(at).1);
        let (status, answer) = match fault {
            Some(Fault::Unheard) => return Err(lost(member)),
            Some(Fault::Unanswered) => {
                state.answer(path, token, &asked);
                return Err(lost(member));
            }
            Some(Fault::Refused(status, message)) => refuse(status, message),
            Some(Fault::Foreign) => return Ok((200, "<html>".into())),
            None => state.answer(path, token, &asked),
        };
        Ok((status, answer.to_string().into()))
    }
}
