use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, check_length, epoch_seconds};
use crate::error::Result;
use crate::names::{Account, Registry};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenInput {
    registry_ids: Option<Vec<Account>>,
}

pub(super) fn token(call: &Call, input: TokenInput) -> Result<Value> {
    if let Some(ids) = &input.registry_ids {
        check_length("registryIds", ids, 10)?;
    }
    call.ecr.ask(&call.identity.caller, &call.operation, "ecr:GetAuthorizationToken", "*".to_owned());
    let registries = match input.registry_ids {
        Some(ids) => ids.into_iter().map(|id| call.named_registry(Some(id))).collect(),
        None => vec![call.named_registry(None)],
    };
    let mut data = Vec::new();
    for registry in registries {
        let (token, expires_at) = call.ecr.issue_token(&call.identity.caller, &registry);
        data.push(json!({
            "authorizationToken": STANDARD.encode(format!("AWS:{token}")),
            "expiresAt": epoch_seconds(expires_at),
            "proxyEndpoint": proxy_endpoint(call, &registry)?,
        }));
    }
    Ok(json!({ "authorizationData": data }))
}

/// A client with a network interface of its own stays on it.
fn proxy_endpoint(call: &Call, registry: &Registry) -> Result<String> {
    if call.gate.interface.is_some() {
        return Ok(call.gate.endpoint());
    }
    Ok(format!("http://{}", call.ecr.registry_host(registry)?))
}
