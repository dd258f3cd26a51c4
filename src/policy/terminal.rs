//! What of a harness's output may reach the user's terminal, as a profile says it.

/// The `terminal:` of a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terminal {
    /// What passes unless it is named below.
    pub filter: TerminalFilter,
    /// Whether the harness may write the clipboard (OSC 52). It is never read.
    pub clipboard: bool,
    /// Whether it may set the title.
    pub title: bool,
    /// Whether it may send notifications and show progress.
    pub notifications: bool,
    /// Whether it may make links to web pages; where nothing is written, the filter says.
    pub hyperlinks: Option<bool>,
    /// Whether the output is recorded.
    pub record: bool,
    /// Whether questions to a person are told in one line with a bell, rather than drawn over the terminal.
    pub ask_in_a_line: bool,
    /// Whether the desktop is not told of them.
    pub no_notification: bool,
}

/// How much of a terminal a harness gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TerminalFilter {
    /// What changes the screen, and where the cursor is.
    Strict,
    /// Besides, questions that are answered in a fixed form, and links to web pages.
    #[default]
    Standard,
    /// Everything, as it is.
    Off,
}

impl TerminalFilter {
    /// Every filter by the name it is written as.
    pub(super) const ALL: [(&'static str, Self); 3] =
        [("strict", Self::Strict), ("standard", Self::Standard), ("off", Self::Off)];

    /// The name it is written as.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Standard => "standard",
            Self::Off => "off",
        }
    }
}
