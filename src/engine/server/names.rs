//! Containers find each other by name on the networks that clients have made.
//!
//! A container on such a network asks a resolver of its own. This server has the resolver's sockets: from before the process of
//! a run starts until the run is over. The next server opens them again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::name_table::{Entry, OfNetwork, names_of};
use super::served::Served;
use super::shared::Shared;
use crate::dns;
use crate::engine::error::{Error, Kind, Result, Step};
use crate::engine::network::{refused, sandbox_of};
use crate::engine::plan::Network;
use crate::engine::{Plan, find};
use crate::pauses::Pauses;
use crate::{ContainerId, Context};

/// The first pause before a resolver is opened again, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// A container whose names are known, and whose resolver is not open yet.
struct Known {
    sandbox: String,
    names: Arc<OfNetwork>,
    open: Context,
}

/// Makes the names of a container known whose sandbox is made, and opens its resolver. Returns the sandbox, if the container
/// is to have a resolver.
///
/// # Cancellation
/// Safe to drop; the caller closes what was opened.
pub(super) async fn open(shared: &Arc<Shared>, served: &Served) -> Result<Option<String>> {
    let Some(known) = make_known(shared, served).await? else {
        return Ok(None);
    };
    let sandbox = known.sandbox.clone();
    if let Err(error) = answer(shared, served.id(), known).await {
        shared.names.close(served.id(), &sandbox);
        return Err(error);
    }
    Ok(Some(sandbox))
}

/// The same for a container that runs already, on a task of its own, until it has worked.
pub(super) fn open_later(shared: &Arc<Shared>, served: &Arc<Served>) {
    let sandbox = sandbox_of(&served.record()).map(str::to_owned);
    let Some(sandbox) = sandbox.filter(|sandbox| !shared.names.has(served.id(), sandbox)) else {
        return;
    };
    let needs = served.plan().is_ok_and(|plan| needs_resolver(&plan));
    if !needs || !served.container().is_running() {
        return;
    }
    let Some(opening) = shared.names.begin(served.id()) else {
        return;
    };
    let (this, served) = (Arc::clone(shared), Arc::clone(served));
    let work = async move {
        let _opening = opening;
        let life = this.life.clone();
        let _ = life.run(until_open(&this, &served)).await;
        // If it has ended meanwhile, nobody else closes what was opened too late.
        if !served.container().is_running() {
            this.names.close(served.id(), &sandbox);
        }
    };
    shared.deps.background.tracker.spawn(work.in_current_span());
}

async fn until_open(shared: &Arc<Shared>, served: &Served) {
    let mut pauses = Pauses::new(AGAIN.0, AGAIN.1);
    while served.container().is_running() {
        // The names are known from the first try on, whatever becomes of the sockets.
        let opened = async {
            match make_known(shared, served).await? {
                Some(known) => answer(shared, served.id(), known).await,
                None => Ok(()),
            }
        };
        match opened.await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(id = %served.id(), error = %crate::chain(&error), "a container has no resolver; trying again");
            }
        }
        pauses.wait().await;
    }
}

fn needs_resolver(plan: &Plan) -> bool {
    plan.aliases.is_some() && matches!(plan.network, Network::Attached { .. })
}

/// Makes the names of a container known; `None` if it is to have none.
async fn make_known(shared: &Arc<Shared>, served: &Served) -> Result<Option<Known>> {
    let (deps, id) = (&shared.deps, served.id());
    let plan = served.plan()?;
    if !needs_resolver(&plan) {
        return Ok(None);
    }
    // What is known of it may be older than its sandbox.
    let ctx = Context::timeout(deps.config.close_grace);
    let record = find::get(deps, &ctx, id).await?;
    let Some(of_record) = sandbox_of(&record).map(str::to_owned) else {
        return Ok(None);
    };
    let sandboxes = deps.sandboxes().await.map_err(|error| refused(id, error))?;
    let found = tokio::task::spawn_blocking(move || {
        let mut all = sandboxes.list()?.into_iter();
        let own = all.find(|sandbox| sandbox.id == of_record);
        let network = own.as_ref().and_then(|own| own.network.as_deref());
        let network = network
            .map(|network| sandboxes.networks().known(network))
            .transpose()?;
        Ok(own.zip(network))
    });
    let found = found
        .await
        .map_err(|panic| Error::new(Step::Network, id, Kind::Internal, panic))?;
    let Some((sandbox, network)) = found.map_err(|error| refused(id, error))? else {
        return Ok(None);
    };
    let open = shared.life.child();
    let entry = Entry {
        names: names_of(&plan, served.name()),
        addresses: sandbox.addresses.iter().map(|address| address.ip).collect(),
        network: network.name.clone(),
        sandbox: sandbox.id.clone(),
        open: open.clone(),
    };
    shared.names.insert(id, entry);
    let names = OfNetwork::new(&shared.names, &network.name, network.about.is_internal);
    Ok(Some(Known {
        sandbox: sandbox.id,
        names: Arc::new(names),
        open,
    }))
}

/// Opens the resolver of a container, and answers until it is closed.
async fn answer(shared: &Shared, id: &ContainerId, known: Known) -> Result<()> {
    let Known { sandbox, names, open } = known;
    let sandboxes = shared.deps.sandboxes().await;
    let sandboxes = sandboxes.map_err(|error| refused(id, error))?;
    let sockets = sandboxes.name_sockets(&sandbox).await;
    let sockets = sockets.map_err(|error| refused(id, error))?;
    let id = id.clone();
    let work = async move {
        let served: Result<std::io::Result<Infallible>, _> =
            open.run(dns::serve(sockets.udp, sockets.tcp, names)).await;
        if let Ok(Err(error)) = served {
            tracing::warn!(%id, %error, "a container has no resolver any more; it has one again when it is started again");
        }
    };
    shared.deps.background.tracker.spawn(work.in_current_span());
    Ok(())
}

/// Gives a container the names that it has now.
pub(super) fn rename(shared: &Shared, served: &Served) {
    if let Ok(plan) = served.plan() {
        shared.names.rename(served.id(), names_of(&plan, served.name()));
    }
}
