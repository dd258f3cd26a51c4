//! The names of what runs on the host later, when a person builds, tests, installs, commits or just opens the workspace:
//! data, and finding a path in it.

use super::path::RelPath;

/// How a pattern meets a path. Letters are compared without regard to case, since some file systems do not tell them apart.
enum Pattern {
    /// The last name is this.
    Name(&'static str),
    /// The last name ends so.
    Ending(&'static str),
    /// These names stand in the path in this order, one after the other.
    Within(&'static [&'static str]),
}

use Pattern::{Ending, Name, Within};

/// What runs, and why.
const EXECUTES: &[(&str, &[Pattern])] = &[
    (
        "git runs it, or takes from it what to run",
        &[
            Within(&[".git", "hooks"]),
            Within(&[".git", "config"]),
            Within(&[".git", "config.worktree"]),
            Within(&[".git", "info", "attributes"]),
            Within(&[".git", "commondir"]),
            Within(&[".git", "gitdir"]),
            Within(&[".git", "modules"]),
            Within(&[".git", "worktrees"]),
            Name(".git"),
            Name(".gitconfig"),
            Name(".gitattributes"),
            Name(".gitmodules"),
        ],
    ),
    (
        "building, testing or installing runs it",
        &[
            Name("package.json"),
            Name("makefile"),
            Name("gnumakefile"),
            Ending(".mk"),
            Name("justfile"),
            Name(".justfile"),
            Name("taskfile.yml"),
            Name("taskfile.yaml"),
            Name("build.rs"),
            Name("cargo.toml"),
            Name("rust-toolchain"),
            Name("rust-toolchain.toml"),
            Name("cmakelists.txt"),
            Ending(".cmake"),
            Name("cmakepresets.json"),
            Name("meson.build"),
            Name("configure"),
            Name("configure.ac"),
            Name("makefile.am"),
            Name("autogen.sh"),
            Name("build.xml"),
            Name("pom.xml"),
            Name("mvnw"),
            Within(&[".mvn"]),
            Ending(".gradle"),
            Ending(".gradle.kts"),
            Name("gradlew"),
            Name("gradle-wrapper.properties"),
            Name("build.sbt"),
            Name("rakefile"),
            Ending(".rake"),
            Name("gemfile"),
            Ending(".gemspec"),
            Name("composer.json"),
            Name("build.bazel"),
            Name("workspace"),
            Name("module.bazel"),
            Name(".bazelrc"),
            Ending(".bzl"),
            Name("sconstruct"),
            Name("sconscript"),
            Name("wscript"),
            Ending(".csproj"),
            Ending(".fsproj"),
            Ending(".vcxproj"),
            Ending(".targets"),
            Ending(".props"),
            Name("build.zig"),
            Name("mix.exs"),
            Name("project.clj"),
            Name("setup.hs"),
            Name("flake.nix"),
            Name("shell.nix"),
            Name("default.nix"),
            Name("pipfile"),
            Name("tox.ini"),
            Name("noxfile.py"),
            Name("setup.py"),
            Name("setup.cfg"),
            Name("pyproject.toml"),
            Name("tasks.py"),
            Name("fabfile.py"),
        ],
    ),
    (
        "an interpreter runs it when it starts, or when tests do",
        &[
            Name("conftest.py"),
            Name("pytest.ini"),
            Ending(".pth"),
            Name("sitecustomize.py"),
            Name("usercustomize.py"),
            Name("__init__.pth"),
            Within(&[".pythonstartup"]),
            Name(".irbrc"),
            Name(".rspec"),
            Name(".rprofile"),
            Name(".julia"),
        ],
    ),
    (
        "a tool of the JavaScript world runs it when it starts",
        &[
            Ending(".config.js"),
            Ending(".config.cjs"),
            Ending(".config.mjs"),
            Ending(".config.ts"),
            Ending(".config.cts"),
            Ending(".config.mts"),
            Ending("rc.js"),
            Ending("rc.cjs"),
            Ending("rc.mjs"),
            Name(".npmrc"),
            Name(".yarnrc"),
            Name(".yarnrc.yml"),
            Name(".pnpmfile.cjs"),
            Name("pnpm-workspace.yaml"),
            Name("gulpfile.js"),
            Name("gruntfile.js"),
            Name("bunfig.toml"),
            Name("deno.json"),
            Name("binding.gyp"),
            Within(&["node_modules", ".bin"]),
            Within(&[".yarn"]),
        ],
    ),
    (
        "it runs when somebody commits or checks out",
        &[
            Within(&[".husky"]),
            Within(&[".githooks"]),
            Name(".pre-commit-config.yaml"),
            Name(".pre-commit-hooks.yaml"),
            Name("lefthook.yml"),
            Name("lefthook.yaml"),
            Name(".lefthook.yml"),
            Name(".overcommit.yml"),
            Name(".lintstagedrc"),
        ],
    ),
    (
        "the build service runs it, with the secrets that it holds",
        &[
            Within(&[".github", "workflows"]),
            Within(&[".github", "actions"]),
            Within(&[".gitlab", "ci"]),
            Name(".gitlab-ci.yml"),
            Within(&[".circleci"]),
            Within(&[".buildkite"]),
            Within(&[".ci"]),
            Name("jenkinsfile"),
            Name(".travis.yml"),
            Name("azure-pipelines.yml"),
            Name("bitbucket-pipelines.yml"),
            Name(".drone.yml"),
            Name(".woodpecker.yml"),
            Name("appveyor.yml"),
            Name("cloudbuild.yaml"),
        ],
    ),
    (
        "a container or virtual machine is made by it",
        &[
            Name("dockerfile"),
            Ending(".dockerfile"),
            Name("containerfile"),
            Name("docker-compose.yml"),
            Name("docker-compose.yaml"),
            Name("compose.yml"),
            Name("compose.yaml"),
            Name("vagrantfile"),
            Name("procfile"),
            Name("tiltfile"),
            Name("skaffold.yaml"),
            Within(&[".devcontainer"]),
            Name(".devcontainer.json"),
        ],
    ),
    (
        "a shell runs it when it starts, or when somebody enters the directory",
        &[
            Name(".envrc"),
            Name(".env"),
            Name(".bashrc"),
            Name(".bash_profile"),
            Name(".bash_login"),
            Name(".bash_logout"),
            Name(".bash_aliases"),
            Name(".profile"),
            Name(".zshrc"),
            Name(".zshenv"),
            Name(".zprofile"),
            Name(".zlogin"),
            Name(".autoenv.zsh"),
            Name(".mise.toml"),
            Name("mise.toml"),
            Within(&[".mise"]),
            Name(".tool-versions"),
            Within(&[".config", "fish"]),
        ],
    ),
    (
        "an editor runs its tasks and settings when the folder is opened",
        &[
            Within(&[".vscode"]),
            Ending(".code-workspace"),
            Within(&[".idea"]),
            Ending(".iml"),
            Within(&[".cursor"]),
            Within(&[".windsurf"]),
            Within(&[".zed"]),
            Within(&[".fleet"]),
            Name(".vimrc"),
            Name(".nvimrc"),
            Name(".nvim.lua"),
            Name(".exrc"),
            Within(&[".vim"]),
            Name(".dir-locals.el"),
            Name(".emacs"),
            Within(&[".emacs.d"]),
            Name(".editorconfig"),
            Name(".gdbinit"),
            Name(".lldbinit"),
        ],
    ),
    (
        "an agent takes its servers, hooks, permissions or orders from it",
        &[
            Name(".mcp.json"),
            Name(".claude.json"),
            Within(&[".claude"]),
            Name("claude.md"),
            Name("agents.md"),
            Name("gemini.md"),
            Within(&[".codex"]),
            Within(&[".gemini"]),
            Within(&[".opencode"]),
            Name("opencode.json"),
            Name("opencode.jsonc"),
            Name(".aider.conf.yml"),
            Within(&[".continue"]),
            Within(&[".roo"]),
            Within(&[".kiro"]),
            Within(&[".amazonq"]),
            Name(".cursorrules"),
            Name(".windsurfrules"),
        ],
    ),
    (
        "a build tool takes the programs that it runs from it",
        &[Within(&[".cargo", "config"]), Within(&[".cargo", "config.toml"]), Name(".pypirc"), Name("pip.conf")],
    ),
    (
        "the desktop or the system starts it",
        &[
            Ending(".desktop"),
            Ending(".service"),
            Ending(".timer"),
            Within(&[".config", "autostart"]),
            Within(&[".config", "systemd"]),
            Within(&[".local", "share", "systemd"]),
        ],
    ),
];

/// Why a path may be executed on the host, by its name.
pub(super) fn reason(path: &RelPath) -> Option<String> {
    let names: Vec<String> = path.names().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
    let last = names.last()?;
    let meets = |pattern: &Pattern| match pattern {
        Name(name) => last == name,
        Ending(ending) => last.ends_with(ending),
        Within(wanted) => names.windows(wanted.len()).any(|some| some == *wanted),
    };
    let found = EXECUTES.iter().find(|(_, patterns)| patterns.iter().any(meets));
    found.map(|(reason, _)| (*reason).to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_on_the_host_is_known_by_name_in_any_case_and_at_any_depth() {
        for path in [
            ".git/hooks/pre-commit",
            "vendor/x/.git/config",
            "package.json",
            "a/b/Makefile",
            "GNUMAKEFILE",
            "build.rs",
            "conftest.py",
            "lib/python3/site-packages/x.pth",
            ".envrc",
            ".vscode/tasks.json",
            ".mcp.json",
            ".claude/settings.json",
            ".github/workflows/x.yml",
            "vite.config.ts",
            ".eslintrc.cjs",
            "sub/.git",
        ] {
            assert!(reason(&RelPath::parse(path.as_bytes()).unwrap()).is_some(), "{path}");
        }
        for path in [
            "src/main.rs",
            "README.md",
            ".git/objects/ab/cdef",
            ".git/index",
            ".git/refs/heads/main",
            "hooks/x",
            "a.config",
        ] {
            assert_eq!(reason(&RelPath::parse(path.as_bytes()).unwrap()), None, "{path}");
        }
    }
}
