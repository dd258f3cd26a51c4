//! Numbers in Prometheus' text format 0.0.4 (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::Write as _;

/// What is served as this format.
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows; its name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// Numbers of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name, with its unit.
    pub name: &'static str,
    /// What it is, for a person.
    pub help: &'static str,
    /// What kind.
    pub kind: MetricKind,
    /// The numbers, each with its labels; a decimal as text.
    pub samples: Vec<(Vec<(&'static str, String)>, String)>,
}

impl Metric {
    /// A number without labels.
    #[must_use]
    pub fn one(name: &'static str, help: &'static str, kind: MetricKind, value: impl ToString) -> Self {
        Self { name, help, kind, samples: vec![(Vec::new(), value.to_string())] }
    }

    /// Numbers that one label tells apart.
    #[must_use]
    pub fn by<T: ToString>(
        name: &'static str,
        help: &'static str,
        kind: MetricKind,
        label: &'static str,
        values: impl IntoIterator<Item = (String, T)>,
    ) -> Self {
        let samples = values.into_iter().map(|(key, value)| (vec![(label, key)], value.to_string()));
        Self { name, help, kind, samples: samples.collect() }
    }
}

/// The text.
#[must_use]
pub fn metrics_text(metrics: &[Metric]) -> String {
    let mut text = String::new();
    for Metric { name, help, kind, samples } in metrics {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "# HELP {name} {}\n# TYPE {name} {kind}\n", escaped(help, false));
        for (labels, value) in samples {
            let labels: Vec<_> =
                labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value, true))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
    text
}

fn escaped(text: &str, quotes: bool) -> String {
    let safe = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { safe.replace('"', "\\\"") } else { safe }
}
