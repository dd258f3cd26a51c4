//! What a session changed behind an overlay: looked at, taken over into the workspace, or forgotten, from the host.
//!
//! Everything in the layer was made by the sandbox and is hostile. Names are bytes; every directory and file is opened
//! beneath one that is open already, without following a link; nothing is executed. The modules that compare
//! (`change`), judge (`judge`, `executes`) and say what has to be done (`operation`) only compute.

mod apply;
mod change;
mod commit;
mod dir;
mod discard;
mod error;
mod executes;
mod facts;
mod held;
mod judge;
mod layer;
mod operation;
mod path;
mod scan;
mod stage;
mod text;

pub use apply::{Applied, Applying};
pub use change::{Change, ChangeKind, Conflict};
pub use commit::Recovered;
pub use error::OverlayError;
pub use facts::{Facts, Kind};
pub use held::{Held, discard_unread};
pub use judge::{Mark, Oddity};
pub use layer::{Layer, is_waiting};
pub use operation::{Choice, Consent, Objections};
pub use path::{RelPath, shown};
pub use scan::{Changes, count_waiting, scan};
pub use text::{Comparison, TEXT_BYTES_MAX, compare_text};

pub(super) use layer::{create_layer, layer_path, remove_if_empty};
