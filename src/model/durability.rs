//! When a fact is on the disk, not only with the kernel.

/// Which facts wait for the disk before their effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Those that spend money, use a secret, answer a question or refuse something ([`super::Event::is_weighty`]).
    #[default]
    Weighty,
    /// Every one.
    Fsync,
}

impl Durability {
    /// Every level, with the word that profiles have for it.
    pub const ALL: [(&'static str, Self); 2] = [("weighty", Self::Weighty), ("fsync", Self::Fsync)];

    /// Whether a fact waits.
    #[must_use]
    pub fn demands(self, event: &super::Event) -> bool {
        self == Self::Fsync || event.is_weighty()
    }
}
