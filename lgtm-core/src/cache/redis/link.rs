//! The connection to whatever kind of Redis there is.

use std::fmt;

use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisError, RedisFuture, Value,
};

use crate::cache::redis::settings::RedisSettings;
use crate::cache::remote::Failure;
use crate::error::{Error, Result};

/// A connection that many use at once.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(link) => link.req_packed_command(command),
            Self::Cluster(link) => link.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(link) => link.req_packed_commands(pipeline, offset, count),
            Self::Cluster(link) => link.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(link) => link.get_db(),
            Self::Cluster(link) => link.get_db(),
        }
    }
}

enum Place {
    Server(Client),
    Sentinels(tokio::sync::Mutex<SentinelClient>),
    Cluster(ClusterClient),
}

/// How a [`Link`] is had, and the one in use.
pub(super) struct Links {
    place: Place,
    config: AsyncConnectionConfig,
    link: Mutex<Option<Link>>,
    /// Held by who connects.
    connecting: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Server(_) => "server",
            Place::Sentinels(_) => "sentinels",
            Place::Cluster(_) => "cluster",
        };
        f.debug_struct("Links")
            .field("place", &place)
            .finish_non_exhaustive()
    }
}

fn bad(error: &RedisError) -> Error {
    Error::InvalidInput(format!("redis: {error}"))
}

impl Links {
    /// Connects nowhere yet.
    pub(super) fn new(settings: &RedisSettings) -> Result<Self> {
        Ok(Self {
            place: place(settings).map_err(|e| bad(&e))??,
            config: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(settings.connect_timeout))
                .set_response_timeout(Some(settings.timeout)),
            link: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// Whether keys lie on several servers, so that a request takes one key.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster(_))
    }

    /// The connection in use, or a new one. Of many who need a new one, one connects.
    pub(super) async fn link(&self) -> std::result::Result<Link, Failure> {
        if let Some(link) = &*self.link.lock() {
            return Ok(link.clone());
        }
        let _turn = self.connecting.lock().await;
        if let Some(link) = &*self.link.lock() {
            return Ok(link.clone());
        }
        let link = self.connect().await.map_err(|error| {
            tracing::debug!(%error, "redis is not connected");
            match error.is_timeout() {
                true => Failure::ConnectTimeout,
                false => failure_of(&error),
            }
        })?;
        *self.link.lock() = Some(link.clone());
        Ok(link)
    }

    async fn connect(&self) -> std::result::Result<Link, RedisError> {
        let client = match &self.place {
            Place::Cluster(client) => {
                return Ok(Link::Cluster(client.get_async_connection().await?));
            }
            Place::Server(client) => client.clone(),
            Place::Sentinels(sentinels) => sentinels.lock().await.async_get_client().await?,
        };
        let link = client.get_multiplexed_async_connection_with_config(&self.config);
        Ok(Link::One(link.await?))
    }

    /// The connection is of no more use; that of a cluster mends itself.
    pub(super) fn forget(&self) {
        if !self.is_cluster() {
            *self.link.lock() = None;
        }
    }

    /// Closes the connection; the next request makes another.
    pub(super) fn close(&self) {
        *self.link.lock() = None;
    }
}

fn place(settings: &RedisSettings) -> std::result::Result<Result<Place>, RedisError> {
    let servers = match settings.servers() {
        Ok(servers) => servers,
        Err(e) => return Ok(Err(e)),
    };
    let mut places = servers
        .into_iter()
        .map(|(host, port)| ConnectionAddr::Tcp(host, port));
    let (user, password) = (settings.username.as_str(), settings.password.reveal());
    if !settings.master_name.is_empty() {
        let mut builder =
            SentinelClientBuilder::new(places, &settings.master_name, SentinelServerType::Master)?
                .set_client_to_redis_db(settings.db.into());
        if !user.is_empty() {
            builder = builder.set_client_to_redis_username(user);
        }
        if !password.is_empty() {
            builder = builder.set_client_to_redis_password(password);
        }
        let client = tokio::sync::Mutex::new(builder.build()?);
        return Ok(Ok(Place::Sentinels(client)));
    }
    let mut login = RedisConnectionInfo::default().set_db(settings.db.into());
    if !user.is_empty() {
        login = login.set_username(user);
    }
    if !password.is_empty() {
        login = login.set_password(password);
    }
    let first = places.next();
    let mut rest = places.peekable();
    let place = match first {
        Some(only) if rest.peek().is_none() => {
            let info = only.into_connection_info()?.set_redis_settings(login);
            Place::Server(Client::open(info)?)
        }
        first => {
            let infos = first.into_iter().chain(rest).map(|place| {
                let info = place.into_connection_info()?;
                Ok(info.set_redis_settings(login.clone()))
            });
            let infos: Vec<_> = infos.collect::<std::result::Result<_, RedisError>>()?;
            let builder = ClusterClient::builder(infos)
                .connection_timeout(settings.connect_timeout)
                .response_timeout(settings.timeout)
                .overall_response_timeout(Some(settings.timeout))
                // A move of slots needs a second try; what else fails is a miss.
                .retries(1);
            Place::Cluster(builder.build()?)
        }
    };
    Ok(Ok(place))
}

/// Why a request failed.
pub(super) fn failure_of(error: &RedisError) -> Failure {
    if error.is_timeout() {
        Failure::RequestTimeout
    } else if error.is_io_error()
        || error.is_connection_dropped()
        || error.is_connection_refusal()
        || error.is_unrecoverable_error()
    {
        Failure::Network
    } else {
        Failure::Server
    }
}
