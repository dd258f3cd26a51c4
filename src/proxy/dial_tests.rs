//! Which addresses are dialled, by what the name servers, the hosts file and the user say.

use super::*;

fn dialer(connect_to: &[&str]) -> Dialer {
    let rewrites = connect_to.iter().map(|text| text.parse().unwrap()).collect();
    Dialer::new(ResolverConfig::default(), Roots::from_pem(Vec::new(), None).unwrap(), rewrites)
}

async fn targets(dialer: &Dialer, host: &str) -> Result<Vec<SocketAddr>, DialError> {
    dialer.inner.targets(&Host::parse(host).unwrap(), Port(443)).await
}

#[tokio::test]
async fn an_address_inside_is_refused_and_one_outside_is_dialled_as_it_is() {
    let dialer = dialer(&[]);
    for inside in ["127.0.0.1", "[::1]", "169.254.169.254", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]"] {
        assert!(matches!(targets(&dialer, inside).await, Err(DialError::Refused { .. })), "{inside}");
    }
    assert_eq!(targets(&dialer, "1.1.1.1").await.unwrap(), ["1.1.1.1:443".parse().unwrap()]);
}

#[tokio::test]
async fn of_a_name_with_addresses_inside_and_outside_only_those_outside_are_dialled() {
    let config =
        ResolverConfig::from_parts("10.0.0.1 mixed.example\n1.1.1.1 mixed.example\n10.0.0.2 inside.example", None);
    let dialer = Dialer::new(config, Roots::from_pem(Vec::new(), None).unwrap(), Vec::new());
    assert_eq!(targets(&dialer, "mixed.example").await.unwrap(), ["1.1.1.1:443".parse().unwrap()]);
    assert!(matches!(targets(&dialer, "inside.example").await, Err(DialError::Refused { .. })));
}

#[tokio::test]
async fn a_users_own_rewriting_may_lead_inside() {
    let dialer = dialer(&["api.example.com:443:127.0.0.1:8443"]);
    assert_eq!(targets(&dialer, "api.example.com").await.unwrap(), ["127.0.0.1:8443".parse().unwrap()]);
    assert!(matches!(targets(&dialer, "other.example.com").await, Err(DialError::Name { .. })));
}
