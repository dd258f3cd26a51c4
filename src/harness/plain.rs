//! Any program: run as it is, with the profile's variables and the placeholders of its secrets.

use super::{LaunchRequest, LaunchSpec, hidden};
use std::collections::BTreeMap;

pub(super) fn launch(request: &LaunchRequest<'_>) -> LaunchSpec {
    let program = std::iter::once(request.program.to_owned());
    let argv = program.chain(request.argv.iter().skip(1).cloned()).collect();
    LaunchSpec { argv, env: environment(request), seeds: Vec::new(), hide: hidden(request.profile) }
}

fn environment(request: &LaunchRequest<'_>) -> BTreeMap<String, String> {
    let mut env = request.profile.environment.set.clone();
    for secret in &request.profile.secrets {
        if let Some(placeholder) = request.placeholders.get(&secret.name) {
            env.extend(secret.placeholder_env.iter().map(|name| (name.clone(), secret.stand_in(name, placeholder))));
        }
    }
    env
}
