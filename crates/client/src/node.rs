//! One node: its connection, and the circuit breaker before it.

use std::future::Future;
use std::time::Duration;

use rafka_core::ByteSize;
use rafka_proto::v1::admin_client::AdminClient;
use rafka_proto::v1::groups_client::GroupsClient;
use rafka_proto::v1::log_client::LogClient;
use rafka_proto::v1::transactions_client::TransactionsClient;
use recloser::{AsyncRecloser, Recloser};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::address::Address;
use crate::error::{Error, is_transport};
use crate::settings::{InvalidSettings, Settings};

/// What a node may send on one stream before we read: a few fetch messages.
const STREAM_WINDOW: u32 = 4 << 20;
/// The same for all streams of a connection together.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A node that can be asked. The connection is made when it is first needed, and again when lost.
#[derive(Debug)]
pub struct Node {
    address: Address,
    channel: Channel,
    breaker: AsyncRecloser,
    message_bytes_max: ByteSize,
    request_timeout: Duration,
}

/// Why an attempt failed, as the breaker sees it.
enum Failed {
    Status(Status),
    Late,
}

impl Node {
    /// Must be called within a tokio runtime, which later drives the connection.
    pub(crate) fn new(address: Address, settings: &Settings) -> Result<Self, InvalidSettings> {
        let unusable = |cause: tonic::transport::Error| {
            InvalidSettings::new("bootstrap", &address, format!("an address: {cause}"))
        };
        let endpoint = Endpoint::from_shared(address.uri())
            .and_then(|endpoint| endpoint.user_agent(settings.client_id.clone()))
            .map_err(unusable)?;
        let channel = endpoint
            .connect_timeout(settings.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(settings.keepalive_interval)
            .keep_alive_timeout(settings.keepalive_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect_lazy();
        let breaker = Recloser::custom()
            .error_rate(0.5)
            .closed_len(settings.breaker.calls)
            .half_open_len(settings.breaker.trial_calls)
            .open_wait(settings.breaker.open_for)
            .build();
        Ok(Self {
            address,
            channel,
            breaker: AsyncRecloser::from(breaker),
            message_bytes_max: settings.message_bytes_max,
            request_timeout: settings.request_timeout,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The service that reads and writes logs.
    #[must_use]
    pub fn log(&self) -> LogClient<Channel> {
        LogClient::new(self.channel.clone())
            .max_decoding_message_size(self.message_bytes_max.as_usize())
    }

    /// The service of consumer groups.
    #[must_use]
    pub fn groups(&self) -> GroupsClient<Channel> {
        GroupsClient::new(self.channel.clone())
            .max_decoding_message_size(self.message_bytes_max.as_usize())
    }

    /// The service of transactions.
    #[must_use]
    pub fn transactions(&self) -> TransactionsClient<Channel> {
        TransactionsClient::new(self.channel.clone())
            .max_decoding_message_size(self.message_bytes_max.as_usize())
    }

    /// The service of administration.
    #[must_use]
    pub fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
            .max_decoding_message_size(self.message_bytes_max.as_usize())
    }

    /// Waits for the answer to one call, at most the client's `request_timeout`.
    ///
    /// # Errors
    /// As [`Node::ask_within`].
    ///
    /// # Cancel safety
    /// Dropped, the call is cancelled; it may have taken effect.
    pub async fn ask<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        self.ask_within(operation, self.request_timeout, call).await
    }

    /// Waits for the answer to one call, at most `limit`.
    ///
    /// Lost connections and missing answers count against the node's breaker; refusals do not.
    ///
    /// # Errors
    /// [`Error::BreakerOpen`] without trying, [`Error::NoAnswer`] after `limit`, else what the
    /// node or the transport said.
    ///
    /// # Cancel safety
    /// Dropped, the call is cancelled; it may have taken effect.
    pub async fn ask_within<T>(
        &self,
        operation: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        let attempt = async {
            match tokio::time::timeout(limit, call).await {
                Ok(answer) => answer.map(Response::into_inner).map_err(Failed::Status),
                Err(_elapsed) => Err(Failed::Late),
            }
        };
        let counts = |failed: &Failed| match failed {
            Failed::Status(status) => is_transport(status),
            Failed::Late => true,
        };
        let address = self.address.clone();
        match self.breaker.call_with(counts, attempt).await {
            Ok(answer) => Ok(answer),
            Err(recloser::Error::Rejected) => Err(Error::BreakerOpen { operation, address }),
            Err(recloser::Error::Inner(Failed::Late)) => {
                Err(Error::NoAnswer { operation, address, limit })
            }
            Err(recloser::Error::Inner(Failed::Status(status))) => {
                Err(Error::from_status(operation, &address, &status))
            }
        }
    }
}
