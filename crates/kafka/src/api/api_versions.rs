//! `ApiVersions`: what is served, made from the declarations of the APIs and nothing else.

use rafka_core::ErrorCode;
use rafka_kafka_wire::api_versions::{
    ApiVersion, FinalizedFeatureKey, Request, Response, SupportedFeatureKey,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{APIS, Answer, Api, Context};
use crate::connection::Closed;

pub(super) const API: Api = Api::new(ApiKey::ApiVersions, 0..=4);

/// Kafka's feature: the rules of transactions that clients may go by (KIP-890).
const TRANSACTION_VERSION: &str = "transaction.version";

const WITH_OPTIONAL_FEATURES: i16 = 4;

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
    let mut response = Response { api_keys: served(), ..Response::default() };
    if knows_features(&request) {
        response.finalized_features_epoch = 0;
        response.finalized_features = vec![FinalizedFeatureKey {
            name: TRANSACTION_VERSION.into(),
            max_version_level: 2,
            min_version_level: 2,
        }];
        // Before version 4 a feature that may be off cannot be said to be supported (KIP-1022).
        if WITH_OPTIONAL_FEATURES <= context.version {
            response.supported_features = vec![SupportedFeatureKey {
                name: TRANSACTION_VERSION.into(),
                min_version: 0,
                max_version: 2,
            }];
        }
    }
    context.answer(&response)
}

/// Whether it can read an answer with features in it: librdkafka before 2.2 cannot read tagged fields.
fn knows_features(request: &Request<'_>) -> bool {
    if request.client_software_name != "librdkafka" {
        return !request.client_software_name.is_empty();
    }
    let mut numbers = request.client_software_version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (2, 2) <= (major, minor),
        _ => false,
    }
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
