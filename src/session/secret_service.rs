//! The desktop's secret service, which keeps the key of the secret store where there is one (freedesktop.org, Secret Service API 0.2):
//! GNOME's, KDE's, KeePassXC's. What it keeps is open while its user is logged in to the desktop.

use super::bus::{Answer, Bus, Wire};
use std::io;
use zeroize::Zeroizing;

const SERVICE: &str = "org.freedesktop.secrets";
const ROOT: &str = "/org/freedesktop/secrets";
/// The collection in which what a user's programs keep belongs.
const DEFAULT: &str = "/org/freedesktop/secrets/aliases/default";
const OF_SERVICE: &str = "org.freedesktop.Secret.Service";
const OF_COLLECTION: &str = "org.freedesktop.Secret.Collection";
const OF_ITEM: &str = "org.freedesktop.Secret.Item";
/// The path of no object.
const NONE: &str = "/";

/// What is kept of one store, by the store's own name.
pub(super) struct SecretService {
    bus: Bus,
    /// A session of the service's, in which secrets pass as they are: whoever could listen to the user's own bus could ask for them, too.
    session: String,
}

impl SecretService {
    /// Reaches the service.
    pub(super) fn reach() -> io::Result<Self> {
        let mut bus = Bus::join()?;
        let mut body = Wire::default();
        body.string("plain").signature("s").string("");
        let mut answer = bus.call([SERVICE, ROOT, OF_SERVICE, "OpenSession"], "sv", &body)?;
        let read = |answer: &mut Answer| {
            answer.signature()?;
            answer.string()?;
            answer.string()
        };
        let session = understood(read(&mut answer))?;
        Ok(Self { bus, session })
    }

    /// The secret that is kept of a store.
    pub(super) fn get(&mut self, store: &str) -> io::Result<Zeroizing<Vec<u8>>> {
        let item = match self.items(store)? {
            (open, _) if !open.is_empty() => open[0].clone(),
            (_, locked) if !locked.is_empty() => {
                return Err(io::Error::other(
                    "its keyring is locked: unlock it there, as by logging in to the desktop",
                ));
            }
            _ => return Err(io::Error::other("it does not keep the key of this store")),
        };
        let mut body = Wire::default();
        body.string(&self.session);
        let mut answer = self.bus.call([SERVICE, &item, OF_ITEM, "GetSecret"], "o", &body)?;
        let read = |answer: &mut Answer| {
            answer.structure()?;
            answer.string()?;
            answer.bytes()?;
            answer.bytes()
        };
        understood(read(&mut answer))
    }

    /// Keeps a secret of a store, over one that it kept, and makes sure that it does.
    pub(super) fn keep(&mut self, store: &str, secret: &[u8]) -> io::Result<()> {
        let mut body = Wire::default();
        body.array(8, |properties| {
            properties.align(8).string("org.freedesktop.Secret.Item.Label").signature("s");
            properties.string("Key of omni's secret store");
            properties.align(8).string("org.freedesktop.Secret.Item.Attributes").signature("a{ss}");
            attributes(properties, store);
        });
        // The session, what it is encrypted by, the secret, and of which kind it is; then, whether another is replaced.
        body.align(8).string(&self.session).bytes(b"").bytes(secret).string("application/octet-stream").number(1);
        let call = [SERVICE, DEFAULT, OF_COLLECTION, "CreateItem"];
        let mut answer = self.bus.call(call, "a{sv}(oayays)b", &body)?;
        let item = understood(answer.string())?;
        if item == NONE || self.get(store)?.as_slice() != secret {
            return Err(io::Error::other("its keyring is locked: unlock it there, as by logging in to the desktop"));
        }
        Ok(())
    }

    /// Forgets what it keeps of a store.
    pub(super) fn forget(&mut self, store: &str) -> io::Result<()> {
        let (open, locked) = self.items(store)?;
        for item in open.iter().chain(&locked) {
            self.bus.call([SERVICE, item, OF_ITEM, "Delete"], "", &Wire::default())?;
        }
        Ok(())
    }

    /// What it keeps of a store: what is open, and what is locked.
    fn items(&mut self, store: &str) -> io::Result<(Vec<String>, Vec<String>)> {
        let mut body = Wire::default();
        attributes(&mut body, store);
        let mut answer = self.bus.call([SERVICE, ROOT, OF_SERVICE, "SearchItems"], "a{ss}", &body)?;
        understood(answer.strings().zip(answer.strings()))
    }
}

fn understood<T>(read: Option<T>) -> io::Result<T> {
    read.ok_or_else(|| io::Error::other("the secret service answers otherwise than it is understood here"))
}

/// By what a secret is found again.
fn attributes(wire: &mut Wire, store: &str) {
    wire.array(8, |pairs| {
        pairs.align(8).string("application").string("omni");
        pairs.align(8).string("store").string(store);
    });
}
