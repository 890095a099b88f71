//! The routes: exact paths, and what each answers.

use axum::Router;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::metrics::{self, Page};
use crate::server::{Metrics, State};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

#[derive(Clone)]
struct Shared {
    state: watch::Receiver<State>,
    metrics: Metrics,
}

pub(crate) fn router(state: watch::Receiver<State>, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(|shared| scrape(Page::Node, shared)))
        .route("/metrics/kafka", get(|shared| scrape(Page::Kafka, shared)))
        .fallback(elsewhere)
        .method_not_allowed_fallback(only_read)
        .with_state(Shared { state, metrics })
}

/// Every answer closes its connection, so that a connection's deadline is its request's.
fn answer(status: StatusCode, kind: &'static str, body: String) -> Response {
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
    ];
    (status, headers, body).into_response()
}

/// Whether the process is worth keeping: only a failed node is not.
async fn healthz(axum::extract::State(shared): axum::extract::State<Shared>) -> Response {
    let state = shared.state.borrow().clone();
    match state {
        State::Failed(why) => {
            answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("failed: {why}\n"))
        }
        State::Starting | State::Ready | State::Stopping => {
            answer(StatusCode::OK, PLAIN, "ok\n".to_owned())
        }
    }
}

/// Whether to send requests here.
async fn readyz(axum::extract::State(shared): axum::extract::State<Shared>) -> Response {
    let state = shared.state.borrow().clone();
    let (status, body) = match state {
        State::Ready => (StatusCode::OK, "ready\n".to_owned()),
        State::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()),
        State::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
        State::Failed(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("failed: {why}\n")),
    };
    answer(status, PLAIN, body)
}

async fn scrape(
    page: Page,
    axum::extract::State(shared): axum::extract::State<Shared>,
) -> Response {
    let Some(gather) = shared.metrics.get() else {
        return answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "starting\n".to_owned());
    };
    match metrics::encode(page, gather(page).await) {
        Ok(body) => answer(StatusCode::OK, OPEN_METRICS, body),
        Err(error) => {
            answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("metrics: {error}\n"))
        }
    }
}

async fn elsewhere() -> Response {
    let body = "there are /healthz, /readyz, /metrics and /metrics/kafka\n";
    answer(StatusCode::NOT_FOUND, PLAIN, body.to_owned())
}

async fn only_read() -> Response {
    answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD are answered\n".to_owned())
}
