//! The names that no harness may write in places of the host, as data: what runs there later, by itself or as part of
//! something else that a person does, and would not be looked at first.

/// Where a pattern begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Anywhere below a place that is shared.
    Anywhere,
    /// In a git directory: one that is called `.git`, or holds what git knows one by.
    GitDirectory,
}

/// How much is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// What has the name, and everything below it.
    Tree,
    /// What has the name alone: making, replacing, moving or removing it.
    Entry,
}

/// One kind of names, why they are protected, and the patterns.
pub(super) struct Names {
    pub scope: Scope,
    pub reach: Reach,
    pub reason: &'static str,
    pub patterns: &'static [&'static str],
}

const fn tree(reason: &'static str, patterns: &'static [&'static str]) -> Names {
    Names { scope: Scope::Anywhere, reach: Reach::Tree, reason, patterns }
}

/// All of them.
pub(super) const NAMES: &[Names] = &[
    Names {
        scope: Scope::Anywhere,
        reach: Reach::Entry,
        reason: "it makes a directory a repository, whose settings and hooks git runs",
        // The second is what file systems with short names call the first.
        patterns: &[".git", "git~*"],
    },
    Names { scope: Scope::GitDirectory, reach: Reach::Tree, reason: "git runs hooks by itself", patterns: &["hooks"] },
    Names {
        scope: Scope::GitDirectory,
        reach: Reach::Tree,
        reason: "git's settings name programs that it runs",
        patterns: &["config", "config.worktree", "config.lock", "config.worktree.lock", "remotes", "branches"],
    },
    Names {
        scope: Scope::GitDirectory,
        reach: Reach::Tree,
        reason: "it chooses the programs that files go through",
        patterns: &["info/attributes"],
    },
    Names {
        scope: Scope::GitDirectory,
        reach: Reach::Tree,
        reason: "it says where git finds its settings",
        patterns: &["gitdir", "commondir"],
    },
    tree("git's settings name programs that it runs", &[".gitconfig", "**/.config/git"]),
    tree(
        "it runs when somebody commits or checks out",
        &[
            ".husky",
            ".githooks",
            ".pre-commit-config.yaml",
            "lefthook.yml",
            "lefthook.yaml",
            ".lefthook.yml",
            ".lefthook.yaml",
            ".overcommit.yml",
        ],
    ),
    tree(
        "a shell runs it when it starts or ends",
        &[
            ".bashrc",
            ".bash_profile",
            ".bash_login",
            ".bash_logout",
            ".bash_aliases",
            ".profile",
            ".zshrc",
            ".zshenv",
            ".zprofile",
            ".zlogin",
            ".zlogout",
            ".kshrc",
            ".mkshrc",
            ".cshrc",
            ".tcshrc",
            ".login",
            ".logout",
            ".inputrc",
            "**/.config/fish",
            "**/.config/nushell",
        ],
    ),
    tree(
        "a shell runs it when somebody enters the directory",
        &[".envrc", ".autoenv.zsh", ".mise.toml", "mise.toml", ".mise", "**/.config/mise"],
    ),
    tree(
        "it runs when somebody logs in",
        &[
            ".xinitrc",
            ".xprofile",
            ".xsession",
            ".xsessionrc",
            ".pam_environment",
            "**/.config/autostart",
            "**/.config/environment.d",
            "**/.config/systemd",
            "**/.local/share/systemd",
        ],
    ),
    tree(
        "an editor runs its tasks and settings when the folder is opened",
        &[
            ".vscode",
            "*.code-workspace",
            ".idea",
            ".cursor",
            ".windsurf",
            ".zed",
            ".fleet",
            ".vim",
            ".vimrc",
            ".nvimrc",
            ".nvim.lua",
            ".exrc",
            ".dir-locals.el",
            ".emacs",
            ".emacs.d",
        ],
    ),
    tree("it says what runs when the container is opened", &[".devcontainer", ".devcontainer.json"]),
    tree(
        "an agent starts its servers or hooks, or takes its permissions from it",
        &[
            ".mcp.json",
            ".claude.json",
            "**/.claude/settings.json",
            "**/.claude/settings.local.json",
            "**/.claude/hooks",
            "**/.claude/commands",
            "**/.claude/agents",
            "**/.claude/skills",
            "**/.claude/plugins",
            "**/.codex/config.toml",
            "**/.codex/hooks.json",
            "**/.codex/hooks",
            "**/.codex/prompts",
            "**/.codex/rules",
            "**/.codex/skills",
            "**/.codex/.env",
            "**/.gemini/settings.json",
            "**/.gemini/commands",
            "**/.gemini/extensions",
            "**/.gemini/hooks",
            "**/.gemini/.env",
            "**/.gemini/trustedFolders.json",
            ".opencode",
            "opencode.json",
            "opencode.jsonc",
            ".aider.conf.yml",
            ".continue",
            ".roo",
            ".kiro",
            ".amazonq",
        ],
    ),
    tree("a debugger or interpreter runs it when it starts", &[".gdbinit", ".lldbinit", ".pythonrc", ".pythonstartup"]),
    tree(
        "a build tool takes the programs that it runs, or where its keys go, from it",
        &[".npmrc", ".yarnrc", ".yarnrc.yml", "**/.cargo/config", "**/.cargo/config.toml", ".pypirc"],
    ),
    tree("it says what omni's later sessions here may do", &[".omni"]),
    tree("it holds keys and says what may log in", &[".ssh", ".gnupg", ".netrc", ".rhosts"]),
];
