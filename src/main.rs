//! The `omni` binary: everything is in the library.
fn main() -> std::process::ExitCode {
    omni::cli::main()
}
