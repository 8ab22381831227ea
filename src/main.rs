//! The program `useradmin`.

use std::process::ExitCode;

fn main() -> ExitCode {
    useradmin::cli::main()
}
