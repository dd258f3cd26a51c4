//! `upstream_proxy:` of a profile or a machine: by which proxy servers are reached.

use super::document::{Fields, Node, Value, list, text};
use super::error::Complaint;

/// What is said of it.
#[derive(Clone, PartialEq, Eq)]
pub enum UpstreamProxySetting {
    /// Straight, whatever the environment says.
    None,
    /// By this one.
    Through {
        /// Its URL, in which a password may stand.
        url: String,
        /// What goes straight, as `NO_PROXY` has it.
        except: Vec<String>,
        /// Whether it is told addresses instead of names.
        resolves_here: bool,
    },
}

impl UpstreamProxySetting {
    /// Reads a URL, `none`, or a map.
    pub(super) fn read(node: Node, complaints: &mut Vec<Complaint>) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            let url = text(node, "`upstream_proxy`", complaints)?;
            return Some(match url.as_str() {
                "none" => Self::None,
                _ => Self::Through { url, except: Vec::new(), resolves_here: false },
            });
        }
        let no_url = node.complaint("`upstream_proxy` has no `url`", "add `url: http://proxy.example.com:3128`");
        let mut fields = Fields::of(node, "`upstream_proxy`", complaints);
        let url = fields.take("url").map(|node| text(node, "`url`", complaints).unwrap_or_default());
        let except = fields.take("except").map(|node| list(node, "`except`", true, complaints)).unwrap_or_default();
        let except = except.into_iter().filter_map(|node| text(node, "an entry of `except`", complaints)).collect();
        let resolve = fields.take("resolve").and_then(|node| {
            let word = text(node.clone(), "`resolve`", complaints)?;
            let known = ["here", "there"].contains(&word.as_str());
            if !known {
                complaints.push(node.complaint(format!("names are not resolved `{word}`"), "write `here` or `there`"));
            }
            Some(word == "here")
        });
        fields.finish(complaints);
        if url.is_none() {
            complaints.push(no_url);
        }
        Some(Self::Through { url: url?, except, resolves_here: resolve.unwrap_or_default() })
    }
}

/// Without the URL.
impl std::fmt::Debug for UpstreamProxySetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "UpstreamProxySetting::None",
            Self::Through { .. } => "UpstreamProxySetting::Through",
        })
    }
}
