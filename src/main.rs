//! arguments → config → app → exit code. Nothing else happens here.

fn main() -> std::process::ExitCode {
    fengsui::cli::main()
}
