//! `omni` under its other name.
fn main() -> std::process::ExitCode {
    omni::cli::main()
}
