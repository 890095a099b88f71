//! `ApiVersions`: what is served, made from the declarations of the APIs and nothing else.

use rafka_core::ErrorCode;
use rafka_kafka_wire::api_versions::{ApiVersion, Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{APIS, Answer, Api, Context};
use crate::connection::Closed;

pub(super) const API: Api = Api::new(ApiKey::ApiVersions, 0..=4);

/// The first version in which a client says what it is.
const WITH_SOFTWARE: i16 = 3;

pub(super) fn answer(context: &Context, mut reader: Reader<'_>) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let is_named =
        is_name(&request.client_software_name) && is_name(&request.client_software_version);
    if WITH_SOFTWARE <= context.version && !is_named {
        let error_code = ErrorCode::InvalidRequest.code();
        return context.answer(&Response { error_code, ..Response::default() });
    }
    tracing::debug!(
        peer = %context.peer,
        client = %request.client_software_name,
        version = %request.client_software_version,
        "kafka client"
    );
    context.answer(&Response { api_keys: served(), ..Response::default() })
}

/// Tells a client that asked in a version of the future which ones there are (KIP-511).
pub(super) fn refuse(context: &Context) -> Result<Answer, Closed> {
    let own = served().into_iter().filter(|api| api.api_key == API.key.code()).collect();
    let error_code = ErrorCode::UnsupportedVersion.code();
    context.answer_in(0, &Response { error_code, api_keys: own, ..Response::default() })
}

fn served() -> Vec<ApiVersion> {
    let version = |api: &&Api| ApiVersion {
        api_key: api.key.code(),
        min_version: api.advertised_min,
        max_version: *api.versions.end(),
    };
    APIS.iter().map(version).collect()
}

/// Kafka's rule for the names that clients give their software.
fn is_name(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    text.chars().all(is_inner)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}
