//! Google's Gemini CLI. It is run with the person's own command line; its settings are a seed, which says how it signs in
//! and that it reports nothing, so that it starts in an empty home as it would after a first start.

use super::{LaunchRequest, LaunchSpec, Seed, plain};
use serde_json::json;

pub(super) fn launch(request: &LaunchRequest<'_>) -> LaunchSpec {
    let settings = json!({
        "security": { "auth": { "selectedType": "gemini-api-key" }, "folderTrust": { "enabled": false } },
        "privacy": { "usageStatisticsEnabled": false },
        "general": { "enableAutoUpdate": false, "enableAutoUpdateNotification": false },
    });
    LaunchSpec { seeds: vec![Seed::private("~/.gemini/settings.json", &settings)], ..plain::launch(request) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::fixture::{Fixture, words};

    #[test]
    fn signs_in_with_the_placeholder_and_reports_nothing() {
        let fixture = Fixture::of("gemini", &["gemini", "--yolo", "-p", "hi"]);
        let spec = fixture.launch();
        assert_eq!(spec.argv, words(&["/opt/gemini", "--yolo", "-p", "hi"]));
        assert_eq!(spec.env["GEMINI_API_KEY"], fixture.placeholder());
        assert_eq!(spec.seeds[0].path, "~/.gemini/settings.json");
        let settings: serde_json::Value = serde_json::from_str(&spec.seeds[0].contents).expect("JSON");
        assert_eq!(settings["security"]["auth"]["selectedType"], "gemini-api-key");
        assert_eq!(settings["privacy"]["usageStatisticsEnabled"], false);
    }
}
