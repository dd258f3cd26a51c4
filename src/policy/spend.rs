//! Policies of the type `spend`: how much may be spent, by whom together, in which time, and what happens then.

use super::document::{Fields, Node, Value, text};
use super::error::Complaint;
use super::read::{choice, switch};
use crate::model::{NanoUsd, Scope, Window, Zone};
use std::fmt;

/// What a soft limit does with a request that comes once it is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnSoftLimit {
    /// Holds it, and asks a person.
    #[default]
    RequireApproval,
    /// Lets it go; the record says so, once.
    Notify,
    /// Sends it to [`SpendPolicy::downgrade_to`] instead, where that is possible, and asks a person where not.
    Downgrade,
}

/// What a hard limit does.
///
/// The strictest is the first, and where several policies say no, it is what happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnHardLimit {
    /// Refuses every model call of the session from then on.
    #[default]
    BlockSession,
    /// Refuses the requests that do not fit.
    BlockRequest,
    /// Holds the requests that do not fit until a person raises the limit or its window is over.
    Pause,
}

/// What becomes of a call of a model whose price is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnUnknownModel {
    /// It is priced as the dearest of its vendor.
    #[default]
    Dearest,
    /// It is held, and a person is asked.
    Ask,
    /// It is refused.
    Deny,
}

const ON_SOFT_LIMIT: [(&str, OnSoftLimit); 3] = [
    ("require-approval", OnSoftLimit::RequireApproval),
    ("notify", OnSoftLimit::Notify),
    ("downgrade", OnSoftLimit::Downgrade),
];
const ON_HARD_LIMIT: [(&str, OnHardLimit); 3] = [
    ("block-session", OnHardLimit::BlockSession),
    ("block-request", OnHardLimit::BlockRequest),
    ("pause", OnHardLimit::Pause),
];
const UNKNOWN_MODELS: [(&str, OnUnknownModel); 3] =
    [("dearest", OnUnknownModel::Dearest), ("ask", OnUnknownModel::Ask), ("deny", OnUnknownModel::Deny)];

/// One policy of the type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendPolicy {
    /// What its author calls it, else where it stands.
    pub name: String,
    /// From which amount on `on_soft_limit` says what to do.
    pub soft_limit: Option<NanoUsd>,
    /// What is never passed.
    pub hard_limit: Option<NanoUsd>,
    /// What the soft limit does.
    pub on_soft_limit: OnSoftLimit,
    /// The model that calls go to from the soft limit on, where they are sent to another.
    pub downgrade_to: Option<String>,
    /// What the hard limit does.
    pub on_hard_limit: OnHardLimit,
    /// Whose calls count together.
    pub scope: Scope,
    /// For how long.
    pub window: Window,
    /// By whose midnight days, weeks and months begin.
    pub zone: Zone,
    /// Whether a request that does not fit is sent with a lower limit of its output.
    pub clamp: bool,
    /// What becomes of calls of models without a price.
    pub unknown_model: OnUnknownModel,
}

impl SpendPolicy {
    /// The keys of the type, beyond `name` and `type`.
    pub(super) const KEYS: &'static [&'static str] = &[
        "soft_limit",
        "hard_limit",
        "on_soft_limit",
        "downgrade_to",
        "on_hard_limit",
        "scope",
        "window",
        "time_zone",
        "clamp",
        "unknown_model",
    ];

    /// A hard limit of one session, as `--budget` gives one.
    #[must_use]
    pub fn budget(limit: NanoUsd) -> Self {
        Self {
            name: "--budget".to_owned(),
            soft_limit: None,
            hard_limit: Some(limit),
            on_soft_limit: OnSoftLimit::default(),
            downgrade_to: None,
            on_hard_limit: OnHardLimit::default(),
            scope: Scope::Session,
            window: Window::Session,
            zone: Zone::UTC,
            clamp: false,
            unknown_model: OnUnknownModel::default(),
        }
    }
}

impl fmt::Display for SpendPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spend {}: ", self.name)?;
        if let Some(limit) = self.soft_limit {
            write!(f, "soft {limit} ")?;
        }
        if let Some(limit) = self.hard_limit {
            write!(f, "hard {limit} ")?;
        }
        write!(f, "by {} in the {}", self.scope, self.window)?;
        if self.zone != Zone::UTC {
            write!(f, " of {}", self.zone)?;
        }
        match (self.on_soft_limit, &self.downgrade_to) {
            (OnSoftLimit::Downgrade, Some(model)) => write!(f, ", then {model}")?,
            (OnSoftLimit::Notify, _) => f.write_str(", then told")?,
            _ => {}
        }
        match self.on_hard_limit {
            OnHardLimit::BlockSession => {}
            OnHardLimit::BlockRequest => f.write_str(", refuses by the request")?,
            OnHardLimit::Pause => f.write_str(", pauses")?,
        }
        if self.clamp {
            f.write_str(", clamps")?;
        }
        match self.unknown_model {
            OnUnknownModel::Dearest => Ok(()),
            OnUnknownModel::Ask => f.write_str(", asks about unknown models"),
            OnUnknownModel::Deny => f.write_str(", no unknown models"),
        }
    }
}

/// Reads one. `written` is its type, for what concerns the policy as a whole.
pub(super) fn read(
    mut fields: Fields,
    name: Option<String>,
    written: &Node,
    complaints: &mut Vec<Complaint>,
) -> Option<SpendPolicy> {
    let soft = fields.take("soft_limit");
    let hard = fields.take("hard_limit");
    let on_soft_node = fields.take("on_soft_limit");
    needs("on_soft_limit", on_soft_node.as_ref(), "soft_limit", soft.as_ref(), complaints);
    let on_soft = choice(on_soft_node, "on_soft_limit", &ON_SOFT_LIMIT, complaints);
    let downgrade_to = downgrade_to(&mut fields, written, on_soft, complaints);
    let on_hard_node = fields.take("on_hard_limit");
    needs("on_hard_limit", on_hard_node.as_ref(), "hard_limit", hard.as_ref(), complaints);
    let on_hard = choice(on_hard_node, "on_hard_limit", &ON_HARD_LIMIT, complaints);
    let scope_node = fields.take("scope");
    let scope = choice(scope_node.clone(), "scope", &Scope::ALL, complaints);
    let window_node = fields.take("window");
    let window = choice(window_node.clone(), "window", &Window::ALL, complaints);
    let zone = zone(fields.take("time_zone"), window, complaints);
    let clamp_node = fields.take("clamp");
    needs("clamp", clamp_node.as_ref(), "hard_limit", hard.as_ref(), complaints);
    let clamp = clamp_node.is_some_and(|node| switch(&node, "clamp", complaints));
    let unknown_model = choice(fields.take("unknown_model"), "unknown_model", &UNKNOWN_MODELS, complaints);
    fields.finish(complaints);
    if let Some(node) = scope_node
        && window_node.is_none()
        && scope != Scope::Session
    {
        complaints.push(node.complaint(
            format!("a limit by {scope} needs a `window`"),
            "add `window: day`, `window: week` or `window: month`",
        ));
    }
    if soft.is_none() && hard.is_none() {
        complaints.push(written.complaint("the policy limits nothing", "add `hard_limit: $5.00` or a `soft_limit`"));
        return None;
    }
    let soft_limit = soft.as_ref().and_then(|node| amount(node, "soft_limit", complaints));
    let hard_limit = hard.as_ref().and_then(|node| amount(node, "hard_limit", complaints));
    if let (Some(soft), Some(hard), Some(node)) = (soft_limit, hard_limit, &soft)
        && soft > hard
    {
        let message = format!("the soft limit of {soft} is above the hard limit of {hard}, which comes first");
        complaints.push(node.complaint(message, "make `soft_limit` the smaller of the two"));
    }
    let name = name.unwrap_or_else(|| format!("line {}", written.line));
    Some(SpendPolicy {
        name,
        soft_limit,
        hard_limit,
        on_soft_limit: on_soft,
        downgrade_to,
        on_hard_limit: on_hard,
        scope,
        window,
        zone,
        clamp,
        unknown_model,
    })
}

/// Reads whose midnight it is, which a window without days does not ask.
fn zone(node: Option<Node>, window: Window, complaints: &mut Vec<Complaint>) -> Zone {
    let Some(node) = node else { return Zone::UTC };
    if matches!(window, Window::Session | Window::Turn) {
        complaints.push(node.complaint("`time_zone` has no effect here", "add `window: day`, `week` or `month`"));
    }
    let Some(name) = text(node.clone(), "`time_zone`", complaints) else { return Zone::UTC };
    Zone::named(&name).unwrap_or_else(|| {
        let hint = "name one of the IANA database, such as `Europe/Berlin`, or `UTC`";
        complaints.push(node.complaint(format!("no time zone is called `{name}`"), hint));
        Zone::UTC
    })
}

/// Complains of a key that is of use only beside another, where that is missing.
fn needs(key: &str, found: Option<&Node>, other: &str, limit: Option<&Node>, complaints: &mut Vec<Complaint>) {
    if let (Some(found), None) = (found, limit) {
        complaints.push(found.complaint(format!("`{key}` has no effect here"), format!("add `{other}: $5.00`")));
    }
}

/// Reads the model that calls are sent to from the soft limit on, which is needed where they are, and nowhere else.
fn downgrade_to(
    fields: &mut Fields,
    written: &Node,
    on_soft: OnSoftLimit,
    complaints: &mut Vec<Complaint>,
) -> Option<String> {
    let node = fields.take("downgrade_to");
    match (on_soft, node) {
        (OnSoftLimit::Downgrade, None) => {
            let hint = "add `downgrade_to: MODEL`, a cheaper one as its vendor names it";
            complaints.push(written.complaint("`on_soft_limit: downgrade` names no model", hint));
            None
        }
        (OnSoftLimit::Downgrade, Some(node)) => text(node, "`downgrade_to`", complaints),
        (_, Some(node)) => {
            complaints.push(node.complaint("`downgrade_to` has no effect here", "add `on_soft_limit: downgrade`"));
            None
        }
        (_, None) => None,
    }
}

/// Reads an amount of dollars above zero: `$5.00`, `5.00 USD` or a plain number.
fn amount(node: &Node, key: &str, complaints: &mut Vec<Complaint>) -> Option<NanoUsd> {
    let written = match &node.value {
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        _ => text(node.clone(), &format!("`{key}`"), complaints)?,
    };
    let digits = written.trim().strip_suffix("USD").map_or(written.trim(), str::trim_end);
    let complaint = match digits.parse::<NanoUsd>() {
        Ok(NanoUsd(1..)) => return digits.parse().ok(),
        Ok(_) => node.complaint(format!("`{key}` is nothing"), "write an amount above zero, such as `$5.00`"),
        Err(_) if digits.contains(|c: char| c.is_alphabetic() || "€£¥".contains(c)) => node
            .complaint(format!("`{written}` is in no currency that is known here"), "write dollars, such as `$5.00`"),
        Err(error) => node.complaint(error.to_string(), "write an amount such as `$5.00`"),
    };
    complaints.push(complaint);
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::policy::parse_policy_file;

    const SEED: &str = "name: spend-control\ntype: spend\nsoft_limit: $3.00\nhard_limit: $5.00\n\
                        on_soft_limit: require-approval\non_hard_limit: block-session\n";

    #[test]
    fn the_plain_policy_loads_as_it_stands() {
        let file = parse_policy_file("spend.yaml", SEED).unwrap();
        let expected = SpendPolicy {
            name: "spend-control".to_owned(),
            soft_limit: Some(NanoUsd(3_000_000_000)),
            ..SpendPolicy::budget(NanoUsd(5_000_000_000))
        };
        assert_eq!(file.spend, [expected]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        let told = |text: &str| parse_policy_file("s.yaml", text).expect_err(text).to_string();
        for (text, place, words) in [
            ("type: spend\nsoft_limit: $6\nhard_limit: $5\n", "s.yaml:2:", "above the hard limit"),
            ("type: spend\nhard_limit: €5\n", "s.yaml:2:", "no currency"),
            ("type: spend\nhard_limit: 5 EUR\n", "s.yaml:2:", "no currency"),
            ("type: spend\nhard_limit: $0\n", "s.yaml:2:", "is nothing"),
            ("type: spend\nhard_limit: $5\non_hard_limit: blok-session\n", "s.yaml:3:", "block-session"),
            ("type: spend\nhard_limit: $5\non_hard_limit: paus\n", "s.yaml:3:", "`pause`"),
            ("type: spend\nhard_limit: $5\nwindow: trun\n", "s.yaml:3:", "`turn`"),
            ("type: spend\nhard_limit: $5\nwindow: hour\n", "s.yaml:3:", "`window` cannot be"),
            ("type: spend\nsoft_limit: $5\non_hard_limit: pause\n", "s.yaml:3:", "has no effect"),
            ("type: spend\nhard_limit: $5\non_soft_limit: notify\n", "s.yaml:3:", "has no effect"),
            ("type: spend\nsoft_limit: $5\nclamp: true\n", "s.yaml:3:", "has no effect"),
            ("type: spend\nhard_limit: $5\nscope: user\n", "s.yaml:3:", "needs a `window`"),
            ("type: spend\nsoft_limit: $5\non_soft_limit: downgrade\n", "s.yaml:1:", "names no model"),
            ("type: spend\nsoft_limit: $5\ndowngrade_to: m\n", "s.yaml:3:", "has no effect"),
            ("type: spend\nsoft_limit: $5\nunknown_model: cheap\n", "s.yaml:3:", "`unknown_model` cannot be"),
            (
                "type: spend\nhard_limit: $5\nwindow: day\ntime_zone: Berlin\n",
                "s.yaml:4:",
                "no time zone is called `Berlin`",
            ),
            ("type: spend\nhard_limit: $5\ntime_zone: Europe/Berlin\n", "s.yaml:3:", "has no effect"),
            ("type: spend\n", "s.yaml:1:", "limits nothing"),
            ("type: spend\nhardlimit: $5\n", "s.yaml:2:", "unknown key"),
        ] {
            let told = told(text);
            assert!(told.contains(place) && told.contains(words), "{text}: {told}");
        }
    }

    #[test]
    fn an_amount_is_dollars_however_it_is_written() {
        for written in ["$2.5", "2.50", "2.5 USD", "\"$2.50\""] {
            let file = parse_policy_file("s.yaml", &format!("type: spend\nhard_limit: {written}\n")).unwrap();
            assert_eq!(file.spend[0].hard_limit, Some(NanoUsd(2_500_000_000)), "{written}");
        }
    }
}
