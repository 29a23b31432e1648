//! The composition root: puts the running server together and takes it down again.
//!
//! Owns the order of starting and stopping. Must not handle requests, events or deliveries itself.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use hookfast_engine::id::ApplicationId;
use hookfast_engine::topology::{Application, Catalogue, DEFAULT_APPLICATION, Topology, TopologyChange};
use hookfast_store::embedded::{EmbeddedOptions, EmbeddedStore};
use hookfast_store::{Slots, Store, StoreError, Unavailable};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Surface};
use crate::cli::serve::{Asked, Signals};
use crate::clock::Clock;
use crate::config::{self, AtStart, Config, Mistakes};
use crate::deliver::connect::trusted_roots;
use crate::deliver::resolve::Guard;
use crate::deliver::transport::Transport;
use crate::deliver::{Deliveries, Driver};
use crate::inbox;
use crate::ingest;
use crate::node::Node;
use crate::notify::{self, Mailer, Notifier};
use crate::tls::Tls;
use crate::upkeep;

/// How long before the end of the grace what is still under way is given back.
const ABANDON_BEFORE_END: Duration = Duration::from_secs(2);

/// How long the requests in hand may take to be answered once the store has failed.
const BREAK_OFF: Duration = Duration::from_secs(1);

/// A server whose listeners accept.
pub struct App {
    node: Arc<Node>,
    /// Where the public listener accepts.
    pub listen: SocketAddr,
    /// Where the admin listener accepts.
    pub admin: SocketAddr,
    /// Where the API listener accepts, where there is one.
    pub api: Option<SocketAddr>,
    tls: Option<Arc<Tls>>,
    /// The surfaces: they end by themselves once the node stops.
    surfaces: JoinSet<()>,
    /// The delivery side: it ends once what is under way has.
    deliveries: tokio::task::JoinHandle<()>,
    /// Tasks that need no farewell.
    upkeep: JoinSet<()>,
    abandon: CancellationToken,
    /// What it was started with, of what a reload does not apply.
    at_start: AtStart,
}

/// Why a server stopped.
#[derive(Debug)]
pub enum Stopped {
    /// It was asked to, and everything in hand was finished or given back.
    Cleanly,
    /// It could not promise anything any more.
    Broken(String),
}

impl App {
    /// Starts everything; once it returns, all listeners accept.
    ///
    /// # Errors
    /// Where the data directory is in use or damaged, an address is taken, or the configuration cannot be
    /// applied.
    pub async fn start(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let settings = config.settings.clone();
        make_private_directory(&settings.data)
            .with_context(|| format!("cannot make the data directory {}", settings.data.display()))?;
        let vault = config.open_vault(clock)?;
        let (deliveries, driver) = Deliveries::new(&settings.delivery, clock);
        let store = open_store(&settings.data, deliveries.clone(), clock).await?;
        let node = Arc::new(Node::new(clock, store, deliveries, settings, vault));
        ensure_default_application(&node).await?;
        admin::ensure_admin_key(&node, std::env::var("HOOKFAST_ADMIN_KEY").ok()).await?;
        apply(&node, &config).await?;
        Self::listen(node, driver, config.at_start).await
    }

    async fn listen(node: Arc<Node>, driver: Driver, at_start: AtStart) -> anyhow::Result<Self> {
        let settings = &node.settings;
        let tls = settings
            .tls
            .as_ref()
            .map(Tls::load)
            .transpose()
            .context("cannot speak TLS")?
            .map(Arc::new);
        let speaks = |name: &str| {
            settings
                .tls
                .as_ref()
                .is_some_and(|files| files.listeners.iter().any(|each| each == name))
        };
        let tls_for = |name: &str| tls.clone().filter(|_| speaks(name));
        let public = bind(settings.listen, "server.listen").await?;
        let admin = bind(settings.admin, "server.admin").await?;
        let api = match settings.api {
            Some(address) => Some(bind(address, "server.api").await?),
            None => None,
        };
        let own = [
            Some(public.1),
            Some(admin.1),
            api.as_ref().map(|(_, address)| *address),
        ];
        let guard = Guard::of_settings(&settings.outbox, own.into_iter().flatten().collect());
        let transport = Transport::new(&settings.delivery, guard, trusted_roots([]), node.clock);
        node.set_transport(Arc::new(transport));
        for (name, address) in [
            ("listen", Some(public.1)),
            ("admin", Some(admin.1)),
            ("api", api.as_ref().map(|(_, address)| *address)),
        ] {
            address
                .into_iter()
                .for_each(|address| node.admin.register(name, address));
        }
        let abandon = CancellationToken::new();
        let running =
            node.deliveries
                .clone()
                .run(node.clone(), driver, node.transport().clone(), abandon.clone());
        let mut app = Self {
            listen: public.1,
            admin: admin.1,
            api: api.as_ref().map(|(_, address)| *address),
            surfaces: JoinSet::new(),
            deliveries: tokio::spawn(running),
            upkeep: JoinSet::new(),
            abandon,
            at_start,
            tls: tls.clone(),
            node: node.clone(),
        };
        app.surfaces
            .spawn(ingest::serve(node.clone(), public.0, tls_for("listen")));
        app.surfaces.spawn(admin::serve(
            node.clone(),
            admin.0,
            Surface::Admin,
            tls_for("admin"),
        ));
        if let Some((listener, _)) = api {
            app.surfaces
                .spawn(admin::serve(node.clone(), listener, Surface::Api, tls_for("api")));
        }
        app.surfaces.spawn(ingest::rejections::run(node.clone()));
        app.upkeep.spawn(inbox::replay::run(node.clone()));
        let mailer = settings.smtp.as_ref().map(Mailer::new).transpose();
        let mailer = mailer.context("cannot mail notices")?;
        let notifier = Notifier::new(mailer, node.metrics.clone(), node.clock);
        app.upkeep
            .spawn(notify::mail_what_is_owed(node.clone(), notifier));
        app.upkeep.spawn(upkeep::run(node));
        Ok(app)
    }

    /// Whether nothing is set up yet: no source for what comes in, and no destination for what is published.
    #[must_use]
    pub fn is_not_set_up(&self) -> bool {
        let topology = self.node.store.topology();
        topology.sources.is_empty() && topology.destinations.is_empty()
    }

    /// Runs until a signal asks it to stop or the store breaks, then takes everything down within the grace.
    /// When a signal asks for it, the configuration is read and applied again.
    pub async fn run(self, signals: &mut Signals, read: impl Fn() -> Result<Config, Mistakes>) -> Stopped {
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => break,
                    Asked::Reload => self.reload(read()).await,
                },
                error = self.node.store.broken() => return self.break_off(&error).await,
            }
        }
        self.stop().await
    }

    async fn reload(&self, read: Result<Config, Mistakes>) {
        match self.read_again(read).await {
            Ok(()) => tracing::info!("the configuration was read again and applied"),
            Err(error) => tracing::error!(error = format!("{error:#}"), "the configuration was not applied"),
        }
    }

    /// Applies what counts while the server runs, all of it or nothing, and tells what does not.
    async fn read_again(&self, read: Result<Config, Mistakes>) -> anyhow::Result<()> {
        let config = read?;
        let certificate = self.tls.as_ref().map(|tls| tls.read_again()).transpose()?;
        apply(&self.node, &config).await?;
        if let Some((tls, certificate)) = self.tls.as_ref().zip(certificate) {
            tls.replace(certificate);
        }
        for key in self.at_start.changed(&config.at_start) {
            tracing::warn!(
                key,
                "this setting was changed and counts from the next start on: restart the server"
            );
        }
        Ok(())
    }

    /// Takes no new requests, lets what is in hand finish or gives it back, and closes the store.
    async fn stop(mut self) -> Stopped {
        tracing::info!(grace.s = self.node.settings.grace.as_secs(), "stopping");
        self.node.stopping.cancel();
        self.node.deliveries.close();
        let patience = self.node.settings.grace.saturating_sub(ABANDON_BEFORE_END);
        let abandon = self.abandon.clone();
        let ended = async {
            if (&mut self.deliveries).await.is_err() {
                tracing::error!("the delivery side ended by a panic");
            }
            self.node.stopped.cancel();
            while self.surfaces.join_next().await.is_some() {}
        };
        tokio::pin!(ended);
        if tokio::time::timeout(patience, &mut ended).await.is_err() {
            abandon.cancel();
            // What does not end even now is settled as lost at the next start.
            drop(tokio::time::timeout(ABANDON_BEFORE_END / 2, ended).await);
        }
        self.upkeep.shutdown().await;
        // Those that were refused because of the stop itself.
        ingest::rejections::write(&self.node).await;
        self.node.store.close().await;
        Stopped::Cleanly
    }

    /// Answers what is in hand, which the broken store fails at once, so that its senders are told 503 instead of
    /// losing their connections. Nothing is waited for that takes longer.
    async fn break_off(mut self, error: &StoreError) -> Stopped {
        self.node.deliveries.close();
        self.abandon.cancel();
        self.node.stopping.cancel();
        self.node.stopped.cancel();
        let ended = async { while self.surfaces.join_next().await.is_some() {} };
        drop(tokio::time::timeout(BREAK_OFF, ended).await);
        Stopped::Broken(error.to_string())
    }
}

/// Makes the directory, if it is not there, for its owner alone: it holds bodies and keys.
fn make_private_directory(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

/// Opens the embedded store in the data directory.
///
/// # Errors
/// Where the directory is in use by another process, damaged, or of another version.
pub async fn open_store(data: &Path, slots: Arc<dyn Slots>, clock: Clock) -> anyhow::Result<Arc<dyn Store>> {
    let options = EmbeddedOptions::new(data.to_owned());
    let opened =
        tokio::task::spawn_blocking(move || EmbeddedStore::open(options, slots, clock.now())).await?;
    let place = data.display();
    Ok(match opened {
        Err(StoreError::Unavailable {
            reason: Unavailable::Full,
            ..
        }) => bail!(
            "cannot open the data directory {place}: the disk is full; nothing is lost: make room on its \
             filesystem (some MiB will do) and start again"
        ),
        opened => opened.with_context(|| format!("cannot open the data directory {place}"))?,
    })
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ({key})"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn ensure_default_application(node: &Node) -> anyhow::Result<()> {
    let there = node
        .store
        .topology()
        .applications
        .values()
        .any(|each| each.name == DEFAULT_APPLICATION);
    if !there {
        let now = node.clock.now();
        let id = ApplicationId::new(now, node.clock.entropy());
        let application = Application::new(id, DEFAULT_APPLICATION, now);
        node.change_topology("start", vec![TopologyChange::PutApplication(application)])
            .await?;
    }
    Ok(())
}

/// What `[outbox]` says of trigger types is about the application that is there from the start.
fn catalogue_change(topology: &Topology, declared: &Catalogue) -> Option<TopologyChange> {
    let mut all = topology.applications.values();
    let application = all.find(|each| each.name == DEFAULT_APPLICATION)?;
    (application.catalogue != *declared).then(|| {
        TopologyChange::PutApplication(Application {
            catalogue: declared.clone(),
            ..application.clone()
        })
    })
}

/// Sets what the configuration file declares.
async fn apply(node: &Node, config: &Config) -> anyhow::Result<()> {
    let _turn = node.admin.turn().await;
    let topology = node.store.topology();
    for thing in config::apply::no_longer_declared(&config.declared, &topology) {
        tracing::warn!(
            thing,
            "the configuration file no longer declares it; it stays until somebody deletes it"
        );
    }
    let mut changes = config::apply::changes(&config.declared, &topology, &node.vault, node.clock)?;
    changes.extend(catalogue_change(&topology, &config.settings.outbox.catalogue));
    if changes.is_empty() {
        return Ok(());
    }
    let count = changes.len();
    if let Err(error) = node.change_topology("file", changes).await {
        bail!("the configuration cannot be applied: {error}");
    }
    tracing::info!(changes = count, "applied what the configuration file declares");
    Ok(())
}
