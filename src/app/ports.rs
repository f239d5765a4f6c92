//! THE COMPOSITION ROOT, the ports that links share: DTUs dial in at one of them, platforms post to another. A port is
//! opened for its first link and closed after its last; the links in between come and go without it.

use super::links::Wanted;
use crate::clock::Clock;
use crate::config::modbus_file::{DialInSettings, ModbusWire};
use crate::metrics::Metrics;
use crate::model::{LinkId, SourceIndex};
use crate::sources::{self, modbus, push};
use crate::web;
use anyhow::Context;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// All of them. Dropped, all of them close.
pub(super) struct Ports {
    cancel: CancellationToken,
    doors: push::Doors,
    /// By what the configuration says; where it really listens, which differs for port 0.
    posts: BTreeMap<SocketAddr, (CancellationToken, SocketAddr)>,
    dial_ins: BTreeMap<SocketAddr, (CancellationToken, modbus::Buses)>,
    /// What stands there ends only when its port is closed.
    tasks: JoinSet<CancellationToken>,
}

impl Drop for Ports {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Ports {
    /// None yet. `cancel` closes all.
    pub(super) fn new(cancel: CancellationToken) -> Self {
        let (posts, dial_ins) = (BTreeMap::new(), BTreeMap::new());
        Self { cancel, doors: push::Doors::default(), posts, dial_ins, tasks: JoinSet::new() }
    }

    /// The doors at an address; `None`: the duty room's.
    pub(super) fn posts(&self, at: Option<SocketAddr>) -> axum::Router {
        push::router(self.doors.clone(), at)
    }

    /// Where platforms may post besides the duty room's address.
    pub(super) fn push_addresses(&self) -> Vec<SocketAddr> {
        self.posts.values().map(|(_, address)| *address).collect()
    }

    /// Lets a platform post. Errors: its address cannot be had.
    pub(super) async fn open_door(&mut self, at: Option<SocketAddr>, push: push::Push) -> anyhow::Result<()> {
        if let Some(listen) = at.filter(|listen| !self.posts.contains_key(listen)) {
            let listener = TcpListener::bind(listen).await;
            let listener = listener.with_context(|| format!("cannot listen on {listen} for posts"))?;
            let (cancel, router) = (self.cancel.child_token(), self.posts(at));
            self.posts.insert(listen, (cancel.clone(), listener.local_addr()?));
            self.tasks.spawn(async move {
                web::connections::serve(listener, router, cancel.clone()).await;
                cancel
            });
        }
        self.doors.open(at, push);
        Ok(())
    }

    /// A place for a DTU that dials in.
    pub(super) fn dial_in(
        &mut self,
        link: &LinkId,
        from: &DialInSettings,
        source: SourceIndex,
        intake: &sources::Intake,
        clock: &Clock,
        metrics: &Metrics,
    ) -> modbus::Slot {
        let (_, buses) = self.dial_ins.entry(from.listen).or_insert_with(|| {
            let (cancel, buses) = (self.cancel.child_token(), modbus::Buses::default());
            let port = modbus::DialInPort { listen: from.listen, buses: buses.clone(), source };
            let listening = modbus::listen(port, intake.clone(), clock.clone(), metrics.clone());
            let token = cancel.clone();
            self.tasks.spawn(async move {
                token.run_until_cancelled(listening).await;
                token
            });
            (cancel, buses)
        });
        let allow = from.allow.iter().filter_map(|net| modbus::Network::new(net.address, net.bits));
        buses.allow(allow.collect());
        let slot = modbus::Slot::new(from.registration.clone());
        buses.set(link.clone(), slot.clone());
        slot
    }

    /// Forgets the links that are wanted no more, and closes the ports that nobody needs.
    pub(super) fn keep_only(&mut self, wanted: &[(LinkId, Wanted)]) {
        let pushes = || {
            wanted.iter().filter_map(|(link, wanted)| match wanted {
                Wanted::Push(from) => Some((link, from.listen)),
                _ => None,
            })
        };
        self.doors.keep_only(|link, at| pushes().any(|(known, listen)| known == link && listen == at));
        self.posts.retain(|listen, (cancel, _)| {
            let needed = pushes().any(|(_, at)| at == Some(*listen));
            if !needed {
                cancel.cancel();
            }
            needed
        });
        let dials = |link: &LinkId, at: SocketAddr| {
            wanted.iter().any(|(known, wanted)| {
                let Wanted::Modbus { from, .. } = wanted else { return false };
                let ModbusWire::DialIn(from) = &from.wire else { return false };
                known == link && from.listen == at
            })
        };
        self.dial_ins.retain(|listen, (cancel, buses)| {
            buses.keep_only(|link| dials(link, *listen));
            let needed = !buses.is_empty();
            if !needed {
                cancel.cancel();
            }
            needed
        });
    }

    /// Waits for one that ends although nobody closed it; for ever when there are none.
    pub(super) async fn failure(&mut self) -> anyhow::Error {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(cancel)) if cancel.is_cancelled() => {}
                Some(Ok(_)) => return anyhow::anyhow!("a port ended by itself"),
                Some(Err(panicked)) => return anyhow::Error::new(panicked).context("a port panicked"),
                None => std::future::pending().await,
            }
        }
    }

    /// Waits for all of them to close, once they are cancelled.
    pub(super) async fn stopped(&mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}
