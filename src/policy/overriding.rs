//! Requests that ask to be taken for another method than they have. Many frameworks do as such a header says, so that both
//! methods have to be allowed.

use http::{HeaderMap, Method};

/// The headers that ask for it, in the names under which servers know them.
const HEADERS: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// What a request's headers make of its method.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Overriding {
    /// Nothing.
    None,
    /// This method, for servers that do as the header says.
    By(String),
    /// Nobody can say: they name several, or none that is one.
    Unclear,
}

/// What the headers of a request of this method ask for.
pub(super) fn overriding(method: &str, headers: Option<&HeaderMap>) -> Overriding {
    let values = headers.into_iter().flat_map(|headers| HEADERS.iter().flat_map(|name| headers.get_all(*name)));
    let mut asked = None;
    for value in values {
        let named = value.to_str().ok().map(|text| text.trim().to_ascii_uppercase());
        let Some(named) = named.filter(|named| Method::from_bytes(named.as_bytes()).is_ok()) else {
            return Overriding::Unclear;
        };
        match &asked {
            Some(other) if *other != named => return Overriding::Unclear,
            _ => asked = Some(named),
        }
    }
    asked.filter(|asked| asked != method).map_or(Overriding::None, Overriding::By)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_names_another_method_is_found_under_every_name() {
        let of = |pairs: &[(&'static str, &str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            overriding("POST", Some(&headers))
        };
        let delete = || Overriding::By("DELETE".to_owned());
        assert_eq!(of(&[]), Overriding::None);
        assert_eq!(of(&[("x-http-method-override", "post")]), Overriding::None);
        for name in HEADERS {
            assert_eq!(of(&[(name, " Delete")]), delete(), "{name}");
        }
        assert_eq!(of(&[("x-http-method", "DELETE"), ("x-method-override", "delete")]), delete());
        assert_eq!(of(&[("x-http-method", "DELETE"), ("x-method-override", "POST")]), Overriding::Unclear);
        assert_eq!(of(&[("x-http-method", "DELETE, PUT")]), Overriding::Unclear);
        assert_eq!(of(&[("x-http-method", "")]), Overriding::Unclear);
    }
}
