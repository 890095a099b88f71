//! Puts every call behind the door, and counts it with its connection while it lasts.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::{FutureExt as _, Map};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use rafka_broker::Budget;
use rafka_core::ByteSize;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use super::{Bounds, Intake, Kind};
use crate::Settings;
use crate::connection::{Call, Info};

/// The path of the call whose handler answers many messages, and keeps their permits until then.
const PRODUCE: &str = "/rafka.v1.Log/Produce";

/// The services, behind the door.
#[derive(Clone)]
pub(crate) struct Door {
    routes: Routes,
    bounds: Bounds,
    produce_message_bytes_max: usize,
    request_bytes_max: usize,
}

impl Door {
    pub(crate) fn new(routes: Routes, settings: &Settings) -> Self {
        let len = ByteSize::as_usize;
        Self {
            routes,
            bounds: Bounds::new(
                Budget::new(
                    settings.receive_budget(),
                    settings.produce_message_bytes_max.max(settings.request_bytes_max),
                ),
                settings.receive_timeout,
            ),
            produce_message_bytes_max: len(settings.produce_message_bytes_max),
            request_bytes_max: len(settings.request_bytes_max),
        }
    }
}

impl Service<Request<Body>> for Door {
    type Response = Response<Answer<Body>>;
    type Error = Infallible;
    type Future = Map<
        <Routes as Service<Request<Body>>>::Future,
        Box<
            dyn FnOnce(Result<Response<Body>, Infallible>) -> Result<Self::Response, Infallible>
                + Send,
        >,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = request.extensions().get::<Info>().map(|info| info.calls.begin());
        let (message_max, kind) = match request.uri().path() {
            PRODUCE => (self.produce_message_bytes_max, Kind::Taken),
            _ => (self.request_bytes_max, Kind::Passing),
        };
        let (mut parts, body) = request.into_parts();
        let intake = Intake::new(body, &self.bounds, message_max, kind);
        parts.extensions.insert(intake.ledger());
        let request = Request::from_parts(parts, Body::new(intake));
        self.routes.call(request).map(Box::new(
            move |answer: Result<Response<Body>, Infallible>| {
                answer.map(|mut answer| {
                    let own = answer.extensions_mut().remove::<OwnBody>();
                    let own = own.and_then(|own| own.0.lock().take());
                    answer.map(|body| Answer { body: own.unwrap_or(body), _call: call })
                })
            },
        ))
    }
}

/// A body that a handler leaves in its response's extensions, to take the place of the one that
/// tonic makes. Status included: tonic adds nothing to it.
#[derive(Clone)]
pub(crate) struct OwnBody(Arc<Mutex<Option<Body>>>);

impl OwnBody {
    pub(crate) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }
}

/// An answer's body, with which the call ends.
pub(crate) struct Answer<B> {
    body: B,
    _call: Option<Call>,
}

impl http_body::Body for Answer<Body> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
