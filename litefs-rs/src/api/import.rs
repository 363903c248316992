//! `POST /import`: a file of SQLite becomes a database.

use std::{
    io::{self, BufWriter},
    sync::{Arc, atomic::Ordering},
};

use crashsafe::OpenOptions;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming as RequestBody;

use super::{Answer, Api, Query, Refused, full};
use crate::{
    db::{Image, ImageError, Incoming},
    replication::applier::{self, Drain, OURSELVES},
    store::{Slot, State},
};

/// Takes a database in.
pub(super) async fn take(api: Arc<Api>, query: &Query, request: Request<RequestBody>) -> Answer {
    let name = query.get("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Refused::bad("name required"))?;
    let name = name
        .parse()
        .map_err(|error: crate::name::NameError| Refused::bad(error.to_string()))?;
    if !api.is_primary() {
        return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "lease expired"));
    }
    let spool = api.store.incoming();
    let mut file = tokio::fs::File::create_new(&spool)
        .await
        .map_err(|error| Refused::internal(&error))?;
    let received = receive(request.into_body(), &mut file).await;
    drop(file);
    let imported = match received {
        Ok(()) => {
            let (api, spool) = (Arc::clone(&api), spool.clone());
            let blocking = tokio::task::spawn_blocking(move || {
                let slot = api
                    .store
                    .get_or_create(&name)
                    .map_err(|error| Refused::internal(&error))?;
                import(&api, &slot, &spool)
            });
            blocking
                .await
                .unwrap_or_else(|error| Err(Refused::internal(&error)))
        }
        Err(error) => Err(Refused::bad(error.to_string())),
    };
    if let Err(error) = tokio::fs::remove_file(&spool).await {
        tracing::debug!(%error, "what was imported is swept at the next start");
    }
    imported.map(|()| Response::new(full("")))
}

async fn receive(mut body: RequestBody, file: &mut tokio::fs::File) -> io::Result<()> {
    use tokio::io::AsyncWriteExt as _;
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame.map_err(io::Error::other)?.into_data() {
            file.write_all(&bytes).await?;
        }
    }
    file.flush().await
}

/// Makes one transaction of the file, and applies it as a replica does.
fn import(api: &Api, slot: &Slot, spool: &std::path::Path) -> Result<(), Refused> {
    let store = &api.store;
    let disk = &store.node().disk;
    let give_up = || api.stopping.load(Ordering::Acquire) || store.is_stopped();
    let locked = |state: &mut State| match state {
        State::Serving(database) => database.lock_whole(OURSELVES).ok(),
        State::Broken(_) | State::Damaged(_) => Some(()),
    };
    let stops = || Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the node stops");
    let (mut state, ()) = slot.lane().take_when(locked, give_up).ok_or_else(stops)?;
    let State::Serving(database) = &mut *state else {
        return Err(Refused::internal(&crate::store::Refusal::Broken));
    };
    let made = (|| -> Result<Incoming, ImageError> {
        let mut image = Image::open(std::fs::File::open(spool)?)?;
        let path = store.incoming();
        let file = disk.open("import", &path, OpenOptions::CREATE_NEW)?;
        drop(file);
        let out = std::fs::File::options().write(true).open(&path)?;
        let out = database.import(&mut image, BufWriter::new(&out))?;
        out.into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()?;
        Ok(Incoming::read(&**disk, path)?)
    })();
    database.unlock_whole(OURSELVES);
    let incoming = match made {
        Ok(incoming) => incoming,
        Err(error @ (ImageError::Disk(_) | ImageError::Encode(_) | ImageError::Decode(_))) => {
            return Err(Refused::internal(&error));
        }
        Err(error) => return Err(Refused::bad(crate::store::chain(&error))),
    };
    drop(state);
    if !store.is_primary_of(slot) {
        return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "lease expired"));
    }
    // Another transaction may come in between: then this one does not follow, and is refused.
    applier::apply(store, slot, &api.stopping, incoming, &mut Drain::default())
        .map_err(|error| Refused::internal(&error))
}
